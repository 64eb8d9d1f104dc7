"""Readers of the formats in which cells come: h5ad, zarr, loom, 10x, tables."""

__all__ = ["anndata", "tenx"]
