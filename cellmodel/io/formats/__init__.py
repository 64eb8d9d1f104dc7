"""Formats of files: cells as h5ad, MuData, zarr, loom, 10x, tables; gene vectors as AnnData."""

__all__ = ["anndata", "gene_anndata", "tenx"]
