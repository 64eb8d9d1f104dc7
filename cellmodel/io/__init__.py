"""Cell files: read, kept backed, guarded, written; and graphs of cells and genes for PyTorch Geometric."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellmodel.io.graph import read_graph

__all__ = [
    "backed",
    "cells",
    "concat",
    "formats",
    "gene_names",
    "graph",
    "guard",
    "matrix",
    "quality",
    "read_graph",
    "records",
    "writers",
]


def __getattr__(name: str) -> Any:
    """Import `read_graph` when it is first used: a list of genes is read without the packages of graphs."""
    if name != "read_graph":
        raise AttributeError(f"module 'cellmodel.io' has no attribute {name!r}")
    from cellmodel.io.graph import read_graph

    return read_graph
