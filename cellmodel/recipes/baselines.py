"""Baselines: principal components with k-means or Leiden, and both ways of GenePT, doi:10.1101/2023.10.16.562533."""

import logging
from dataclasses import replace
from typing import Final

import numpy as np

from cellmodel.core.arrays import unit_rows
from cellmodel.core.errors import InputUnusable
from cellmodel.recipes.base import CellViews, NewCells, Recipe, Representation
from cellmodel.recipes.heads import kmeans_head, leiden_head

log = logging.getLogger(__name__)
_NEEDS_TEXT: Final = "recipe '{}' is made of the texts of genes alone; give `kb`, and leave out `knowledge`"


def represent_pcs(cells: CellViews | NewCells, _: object) -> Representation:
    """Take the principal components as they are."""
    return Representation(z=cells.pcs, z_expr=cells.pcs, z_text=None, features=cells.pcs)


def represent_genept_w(cells: CellViews | NewCells, _: object) -> Representation:
    """Weigh the encoder's own gene vectors by expression, rows of length one: GenePT-w, over the variable genes."""
    if cells.raw_gene_vectors is None:
        raise InputUnusable(_NEEDS_TEXT.format("genept-w"))
    z = unit_rows(np.asarray(cells.expression @ cells.raw_gene_vectors, dtype=np.float32))
    return Representation(z=z, z_expr=cells.pcs, z_text=cells.text, features=z)


def represent_genept_s(cells: CellViews | NewCells, _: object) -> Representation:
    """Take the cell's sentence as it was read, each cell at length one: GenePT-s.

    Where no encoder reads the sentences (``sentences="pooled"``), the rank-weighted mean of the gene vectors stands in,
    and the log says so. Unlike GenePT's, the vectors are centered and whitened.
    """
    if cells.text_paths is None:
        raise InputUnusable(_NEEDS_TEXT.format("genept-s"))
    if isinstance(cells, CellViews) and not cells.text_path2_encoded:
        log.warning("no encoder reads the cells' sentences: gene vectors are pooled by rank; see `sentences`")
    z = unit_rows(cells.text_paths[1])
    return Representation(z=z, z_expr=cells.pcs, z_text=cells.text, features=z)


PCA_KMEANS: Final = Recipe(
    name="pca-kmeans", represent=represent_pcs, embed=represent_pcs, head=kmeans_head, uses_text=False, out_of_core=True
)
PCA_LEIDEN: Final = replace(PCA_KMEANS, name="pca-leiden", head=leiden_head)
GENEPT_W: Final = replace(
    PCA_KMEANS, name="genept-w", represent=represent_genept_w, embed=represent_genept_w, uses_text=True, needs_text=True
)
GENEPT_S: Final = replace(GENEPT_W, name="genept-s", represent=represent_genept_s, embed=represent_genept_s)
