"""Sources of gene records, one kind a file."""
