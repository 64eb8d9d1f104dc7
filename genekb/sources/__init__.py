"""Sources of gene records, one kind a file."""

__all__ = ["base", "entrez_fetch", "ncbi_bulk", "ncbi_download", "open", "table"]
