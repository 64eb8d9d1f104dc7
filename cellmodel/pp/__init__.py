"""Preprocessing: normalise, choose highly variable genes, reduce, compute neighbors."""

__all__ = ["blocks", "features", "gene_weights", "moments", "neighbors", "normalize"]
