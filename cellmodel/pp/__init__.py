"""Preprocessing: normalize, choose highly variable genes, reduce, compute neighbors; the text view."""

__all__ = [
    "blocks",
    "features",
    "gene_match",
    "gene_weights",
    "integrate",
    "moments",
    "neighbors",
    "normalize",
    "quality",
    "spatial",
    "text",
]
