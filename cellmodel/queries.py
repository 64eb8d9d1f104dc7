"""Queries against cells: profiles of clusters, and scores of clusters and cells by weights of genes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from cellmodel.align import GeneAlignment
from cellmodel.moments import cluster_moments
from cellmodel.semantics import column_moments
from cellmodel.types import CellByGene, Labels

_MAX_PROFILE = 2.0  # standard deviations: no single gene makes a name
_MAX_CELL = 10.0  # standard deviations of one gene in one cell
_BLOCK_CELLS = 65_536
_LEAST = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class QueriedCells:
    """Cells as queries see them: the genes that a store knows.

    Parameters
    ----------
    expression
        (cell, gene) log-normalised.
    gene_names
        One per column.
    alignment
        What the store knows of the columns.
    """

    expression: CellByGene
    gene_names: tuple[str, ...]
    alignment: GeneAlignment


def known_genes(expression: CellByGene, gene_names: Sequence[str], alignment: GeneAlignment) -> QueriedCells:
    """Keep the genes that the store knows and any cell expresses; the coverage stays that of all."""
    is_seen = np.bincount(expression.indices[expression.data > 0], minlength=expression.shape[1]) > 0
    kept = np.flatnonzero((alignment.gene_ids > 0) & is_seen)
    return QueriedCells(
        expression=expression[:, kept],
        gene_names=tuple(gene_names[column] for column in kept.tolist()),
        alignment=alignment.take(kept),
    )


def cluster_profiles(expression: CellByGene, clusters: Labels) -> Float[np.ndarray, "cluster gene"]:
    """Mean of each gene in each cluster, less its mean in all cells, in standard deviations, kept within ±2.

    Raises
    ------
    ValueError
        If labels or values are unusable (see ``cluster_moments``).
    """
    inside, _ = cluster_moments(expression, clusters)
    mean, deviation = column_moments(expression.astype(np.float64))
    lead = inside.mean - mean
    profiles = np.divide(lead, deviation, out=np.zeros_like(lead), where=deviation > _LEAST)
    return np.clip(profiles, -_MAX_PROFILE, _MAX_PROFILE)


def standard_profiles(profiles: Float[np.ndarray, "cluster gene"]) -> Float[np.ndarray, "cluster gene"]:
    r"""Centre each row, and scale it to mean square one.

    With rows *x* of these and weights *w* of :mod:`cellmodel.query_weights`, the score :math:`w \cdot x` is
    :math:`r \sqrt{G}`, *r* Pearson's correlation over the *G* genes: in units of its standard deviation where the
    genes are dealt out at random.
    """
    centred = profiles - profiles.mean(axis=1, keepdims=True)
    size = np.sqrt((centred**2).mean(axis=1, keepdims=True))
    return np.divide(centred, size, out=np.zeros_like(centred), where=size > _LEAST)


def cell_scores(expression: CellByGene, weights: sp.csr_matrix) -> Float[np.ndarray, "cell query"]:
    """Score each cell as :func:`standard_profiles` scores a cluster, its genes standardised over the cells, at most 10.

    No dense matrix of cells by genes is made: a standardised value is that of an absent gene plus a sparse rest.
    """
    n_cells, n_genes = expression.shape
    mean, deviation = column_moments(expression.astype(np.float64))
    inverse = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > _LEAST)
    absent = -mean * inverse
    base, base_sum, base_squares = weights @ absent, absent.sum(), (absent**2).sum()
    totals = np.asarray(weights.sum(axis=1)).ravel()
    scores = np.empty((n_cells, weights.shape[0]), dtype=np.float32)
    for start in range(0, n_cells, _BLOCK_CELLS):
        rest = expression[start : start + _BLOCK_CELLS].astype(np.float64)
        below = absent[rest.indices]
        rest.data = np.minimum(rest.data * inverse[rest.indices], _MAX_CELL - below)
        squares = sp.csr_matrix((rest.data * (rest.data + 2 * below), rest.indices, rest.indptr), shape=rest.shape)
        cell_mean = (np.asarray(rest.sum(axis=1)).ravel() + base_sum) / n_genes
        cell_square = (np.asarray(squares.sum(axis=1)).ravel() + base_squares) / n_genes
        size = np.sqrt(np.maximum(cell_square - cell_mean**2, _LEAST))[:, None]
        raw = (rest @ weights.T).toarray() + base
        scores[start : start + _BLOCK_CELLS] = (raw - cell_mean[:, None] * totals) / size
    return scores
