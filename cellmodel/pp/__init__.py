"""Preprocessing: normalise, choose highly variable genes, reduce, compute neighbors."""

__all__ = ["backed_cells", "features", "gene_weights", "graph", "moments", "neighbors", "normalize", "scan"]
