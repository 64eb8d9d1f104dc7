"""Formats of files: cells as h5ad, MuData, zarr, loom, 10x, tables; gene vectors as AnnData; arrays in a folder."""

__all__ = ["anndata", "array_folder", "gene_anndata", "tenx"]
