"""Formats in which cells come: h5ad, MuData, zarr, loom, 10x, tables; and gene vectors as AnnData."""

__all__ = ["anndata", "gene_anndata", "mudata", "tenx"]
