"""Cell files: read, kept backed, guarded, written; and graphs of cells and genes for PyTorch Geometric."""

from cellmodel.io.graph import read_graph

__all__ = [
    "array_folder",
    "backed",
    "cells",
    "formats",
    "gene_anndata",
    "graph",
    "matrix",
    "read_graph",
    "records",
    "writers",
]
