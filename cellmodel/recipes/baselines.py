"""Baselines: principal components with k-means or Leiden, and both ways of GenePT, doi:10.1101/2023.10.16.562533."""

import logging
from typing import Final

import numpy as np

from cellmodel.core.arrays import Embedding, unit_rows
from cellmodel.core.errors import InputUnusable
from cellmodel.recipes.base import CellViews, NewCells, Recipe, Representation
from cellmodel.recipes.heads import kmeans_head, leiden_head

log = logging.getLogger(__name__)


def represent_pcs(cells: CellViews | NewCells, _: object) -> Representation:
    """Take the principal components as they are."""
    return Representation(z=cells.pcs, z_expr=cells.pcs, z_text=None, features=cells.pcs)


def represent_genept_w(cells: CellViews | NewCells, _: object) -> Representation:
    """Weigh the encoder's own gene vectors by expression, each cell at length one: GenePT-w, over the variable genes.

    Raises ``InputUnusable`` if there is no knowledge.
    """
    if cells.raw_gene_vectors is None:
        raise InputUnusable(
            "recipe 'genept-w' is made of the texts of genes alone; give `kb`, and leave out `knowledge`"
        )
    return _placed(cells, np.asarray(cells.expression @ cells.raw_gene_vectors, dtype=np.float32))


def represent_genept_s(cells: CellViews | NewCells, _: object) -> Representation:
    """Take the cell's sentence as it was read, each cell at length one: GenePT-s.

    Where no encoder reads the sentences (``sentences="pooled"``), the rank-weighted mean of the gene vectors stands in,
    and the log says so. Unlike GenePT's, the vectors are centered and whitened.

    Raises ``InputUnusable`` if there is no knowledge.
    """
    if cells.text_paths is None:
        raise InputUnusable(
            "recipe 'genept-s' is made of the texts of genes alone; give `kb`, and leave out `knowledge`"
        )
    if isinstance(cells, CellViews) and not cells.text_path2_encoded:
        log.warning("no encoder reads the cells' sentences: gene vectors are pooled by rank; see `sentences`")
    return _placed(cells, cells.text_paths[1])


def _placed(cells: CellViews | NewCells, vectors: Embedding) -> Representation:
    """Cells by a vector of each, at length one."""
    z = unit_rows(vectors)
    return Representation(z=z, z_expr=cells.pcs, z_text=cells.text, features=z)


PCA_KMEANS: Final = Recipe(
    name="pca-kmeans",
    represent=represent_pcs,
    head=kmeans_head,
    uses_text=False,
    out_of_core=True,
    embed=represent_pcs,
)
PCA_LEIDEN: Final = Recipe(
    name="pca-leiden",
    represent=represent_pcs,
    head=leiden_head,
    uses_text=False,
    out_of_core=True,
    embed=represent_pcs,
)
GENEPT_W: Final = Recipe(
    name="genept-w",
    represent=represent_genept_w,
    head=kmeans_head,
    uses_text=True,
    needs_text=True,
    out_of_core=True,
    embed=represent_genept_w,
)
GENEPT_S: Final = Recipe(
    name="genept-s",
    represent=represent_genept_s,
    head=kmeans_head,
    uses_text=True,
    needs_text=True,
    out_of_core=True,
    embed=represent_genept_s,
)
