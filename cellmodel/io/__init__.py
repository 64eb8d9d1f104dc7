"""Cell files: read, kept backed, guarded, written."""

__all__ = ["backed", "cells", "formats", "gene_anndata", "matrix", "records", "writers"]
