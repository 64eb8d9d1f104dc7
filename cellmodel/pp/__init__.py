"""Preprocessing: normalize, choose highly variable genes, reduce, compute neighbors; the text view."""

__all__ = [
    "blocks",
    "doublets",
    "features",
    "gene_match",
    "gene_weights",
    "integrate",
    "moments",
    "neighbors",
    "normalize",
    "spatial",
    "text",
]
