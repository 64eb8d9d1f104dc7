"""Mean, variance and share of expressing cells of each gene, inside each cluster and in the rest, from sparse sums."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.core.types import CellBlocks, CellByGene, Labels

_BLOCK_CELLS = 65_536  # cells whose values are held in double precision at a time
_MAX_LOG_EXPRESSION = 30.0  # log1p of 10^13: no log-normalised value comes near it, counts pass it soon


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GroupMoments:
    """Moments of each gene over one group of cells per cluster."""

    n_cells: Int[np.ndarray, " cluster"]  # cells of the group; 0 is possible for the rest of a single cluster
    # mean, variance: of the expression (log1p), sample variance with divisor n - 1. Both are 0 where they do not exist
    # (no cell; fewer than two cells), and the variance is 0 where the sums cannot tell it from 0
    mean: Float[np.ndarray, "cluster gene"]
    variance: Float[np.ndarray, "cluster gene"]
    linear_mean: Float[np.ndarray, "cluster gene"]  # mean of expm1 of the expression: normalised counts
    fraction: Float[np.ndarray, "cluster gene"]  # share of cells in which the gene is not zero, 0 to 1


def cluster_moments(expression: CellByGene | CellBlocks, clusters: Labels) -> tuple[GroupMoments, GroupMoments]:
    """Moments of every gene inside each cluster, and in all cells outside it.

    All clusters are summed in one pass over the non-zero values, as products of the cluster indicator matrix; memory
    beyond the input is O(clusters x genes + one block of cells).

    ``expression``: (cell, gene) log1p of normalised counts. ``clusters``: one label per cell, 0 .. k-1, each used at
    least once. Returns the moments inside each cluster and those of its rest; row *c* of both is cluster *c*. Raises
    ``ValueError`` if the lengths differ, a label is missing or negative, or the values are not finite log1p expression.
    """
    _check(expression, clusters)
    n_cells = np.bincount(clusters)
    sums = np.zeros((4, len(n_cells), expression.shape[1]))
    for indicator, block in _blocks(expression, clusters):
        for power, values in enumerate(_powers(block)):
            sums[power] += (indicator @ values).toarray()
    # The rest is summed over the other clusters, not subtracted from the total: a gene absent there is exactly 0.
    others = 1.0 - np.eye(len(n_cells))
    rounding = 4 * len(clusters) * np.finfo(np.float64).eps
    inside = _moments(n_cells, sums, rounding=rounding)
    return inside, _moments(len(clusters) - n_cells, np.stack([others @ total for total in sums]), rounding=rounding)


def _check(expression: CellByGene | CellBlocks, clusters: Labels) -> None:
    """Refuse labels with gaps."""
    if expression.shape[0] != len(clusters):
        raise ValueError(f"expression has {expression.shape[0]} cells, clusters {len(clusters)}: one label per cell")
    if len(clusters) == 0 or clusters.min() < 0:
        raise ValueError("clusters must hold at least one cell and labels 0 .. k-1, none negative")
    counts = np.bincount(clusters)
    if not counts.all():
        raise ValueError(f"cluster {int(np.argmin(counts))} of {len(counts)} has no cell: renumber the labels 0 .. k-1")


def _check_values(values: Float[np.ndarray, " entry"]) -> None:
    """Refuse values that are not log1p expression."""
    if len(values) and not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= _MAX_LOG_EXPRESSION):
        raise ValueError(
            f"expression spans {values.min()} to {values.max()}, log1p values lie within 0 to "
            f"{_MAX_LOG_EXPRESSION:g}: normalise and take log1p first"
        )


def _blocks(expression: CellByGene | CellBlocks, clusters: Labels) -> Iterator[tuple[sp.csr_matrix, sp.csr_matrix]]:
    """Yield the indicator (cluster, cell) and the values in double precision, block by block of cells."""
    n_clusters = int(clusters.max()) + 1
    start = 0
    for rows in expression.blocks() if isinstance(expression, CellBlocks) else _parts(expression):
        _check_values(rows.data)
        labels = clusters[start : start + rows.shape[0]]
        start += rows.shape[0]
        block = rows.astype(np.float64)
        block.eliminate_zeros()
        ones = (np.ones(len(labels)), (labels, np.arange(len(labels))))
        yield sp.csr_matrix(ones, shape=(n_clusters, len(labels))), block


def _parts(expression: CellByGene) -> Iterator[CellByGene]:
    return (expression[at : at + _BLOCK_CELLS] for at in range(0, expression.shape[0], _BLOCK_CELLS))


def _powers(block: sp.csr_matrix) -> Iterator[sp.csr_matrix]:
    """Yield what is summed: the values, their squares, their expm1, and ones."""
    for data in (block.data, block.data**2, np.expm1(block.data), np.ones_like(block.data)):
        yield sp.csr_matrix((data, block.indices, block.indptr), shape=block.shape)


def _moments(
    n_cells: Int[np.ndarray, " cluster"], sums: Float[np.ndarray, "4 cluster gene"], *, rounding: float
) -> GroupMoments:
    """Turn sums into moments; ``rounding`` is the relative error that a sum may carry."""
    values, squares, linear, nonzero = sums
    cells = np.maximum(n_cells, 1)[:, None]
    mean = values / cells
    scatter = squares - cells * mean**2
    scatter[scatter <= rounding * squares] = 0.0
    return GroupMoments(
        n_cells=n_cells,
        mean=mean,
        variance=scatter / np.maximum(cells - 1, 1),
        linear_mean=linear / cells,
        fraction=nonzero / cells,
    )


def column_moments(expression: CellByGene) -> tuple[Float[np.ndarray, " gene"], Float[np.ndarray, " gene"]]:
    """Mean and standard deviation of each column of a sparse matrix."""
    n_cells = expression.shape[0]
    mean = np.asarray(expression.sum(axis=0)).ravel() / n_cells
    squares = np.asarray(expression.multiply(expression).sum(axis=0)).ravel() / n_cells
    return mean, np.sqrt(np.maximum(squares - mean**2, 0.0))
