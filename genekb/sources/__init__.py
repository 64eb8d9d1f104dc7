"""Sources of gene records, one kind a file."""

__all__ = ["base", "entrez_fetch", "gene_terms", "gene_texts", "ncbi_bulk", "ncbi_download", "open", "table"]
