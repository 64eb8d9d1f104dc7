"""Cell files: read, kept backed, guarded, written."""

__all__ = [
    "backed",
    "cells",
    "formats",
    "gene_anndata",
    "lineage",
    "matrix",
    "outputs",
    "records",
    "value_kind",
    "writers",
]
