"""Log-normalized expression, of cells in memory or block by block, and its ranks; never a dense (cell, gene) matrix."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.core.arrays import EPSILON, CellBlocks, CellByGene, in_order, row_blocks
from cellmodel.io.backed import AnyCells
from cellmodel.io.cells import Cells
from cellmodel.io.matrix import ValueKind

Entries: TypeAlias = Float[np.ndarray, " entry"]
_LEAST_BESIDE_ONE: Final = 1e-6
_ENTRIES: Final = 1 << 18  # stored entries that are summed at once, about: bounds memory


def normalize_log1p(counts: CellByGene, *, target_sum: float = 1e4) -> CellByGene:
    """Scale the counts of every cell to the same total, then log(1 + x), float32; one without counts stays zero."""
    return _log_scaled(counts, size_factors(counts, target_sum=target_sum))


def size_factors(counts: CellByGene, *, target_sum: float = 1e4) -> Float[np.ndarray, " cell"]:
    """Factor that scales the counts of each cell to a total; 0 for a cell without any."""
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    return np.divide(target_sum, totals, out=np.zeros_like(totals), where=totals > 0)


def scaled_entries(counts: CellByGene, scale: Float[np.ndarray, " cell"], rows: slice) -> Entries:
    """Give the stored counts of some cells, each times the factor of its cell, in double precision."""
    entries = slice(counts.indptr[rows.start], counts.indptr[rows.stop])
    return counts.data[entries] * np.repeat(scale[rows], np.diff(counts.indptr[rows.start : rows.stop + 1]))


def _log_scaled(counts: CellByGene, scale: Float[np.ndarray, " cell"]) -> CellByGene:
    """Take log(1 + x) of scaled counts, in float32."""
    expression = np.empty(counts.nnz, dtype=np.float32)
    for rows in runs_of_rows(counts.indptr):
        values = scaled_entries(counts, scale, rows)
        # beside 1 nothing is lost that float32 would hold, and the logarithm takes a third of the time of log1p
        is_small = values.min(initial=1.0) < _LEAST_BESIDE_ONE
        logs = np.log1p(values) if is_small else np.log(np.add(values, 1, out=values))
        expression[counts.indptr[rows.start] : counts.indptr[rows.stop]] = logs
    return sp.csr_matrix((expression, counts.indices.copy(), counts.indptr.copy()), shape=counts.shape)


def log_expression(cells: Cells) -> CellByGene:
    """Take log-normalized values as they are, and normalize counts."""
    return log_values(cells.matrix, cells.kind)


def log_values(values: CellByGene, kind: ValueKind, columns: Int[np.ndarray, " gene"] | None = None) -> CellByGene:
    """As :func:`log_expression`, for values of a kind, of all genes; ``columns``: genes to keep, None for all."""
    chosen = values if columns is None else values[:, columns]
    return chosen if kind == ValueKind.LOG1P else _log_scaled(chosen, size_factors(values))


def runs_of_rows(indptr: Int[np.ndarray, " row"]) -> Iterator[slice]:
    """Rows of about so many entries, one run after the other."""
    start, last = 0, len(indptr) - 1
    while start < last:
        stop = max(int(np.searchsorted(indptr, indptr[start] + _ENTRIES, side="right")) - 1, start + 1)
        yield slice(start, min(stop, last))
        start = stop


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LogExpression:
    """Log-normalized expression of some genes, block by block."""

    matrix: CellByGene | CellBlocks  # the values as they are
    kind: ValueKind  # what they are; log1p values are used as they are
    columns: Int[np.ndarray, " gene"] | None = None  # genes to keep; None for all

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and of genes."""
        n_cells, n_genes = self.matrix.shape
        return n_cells, n_genes if self.columns is None else len(self.columns)

    def blocks(self) -> Iterator[CellByGene]:
        """Give the cells in their order, some at a time."""
        return in_order(self.of, row_blocks(self.matrix))

    def of(self, values: CellByGene) -> CellByGene:
        """Expression of cells whose values, of all genes, are in memory."""
        return log_values(values, self.kind, self.columns)


def expression_of(cells: AnyCells, columns: Sequence[int] | Int[np.ndarray, " gene"] | None = None) -> CellByGene:
    """Log-normalized expression of some genes of all cells, in memory; of backed cells a block is read at a time."""
    chosen = None if columns is None else np.asarray(columns, dtype=np.int64)
    return sp.vstack(list(LogExpression(matrix=cells.matrix, kind=cells.kind, columns=chosen).blocks()), format="csr")


def rank_genes(
    expression: CellByGene, *, n_top: int, mean: Float[np.ndarray, " gene"]
) -> list[Int[np.ndarray, " gene"]]:
    """Columns of the ``n_top`` most expressed genes of each cell, highest first, ties by the gene of lower ``mean``."""
    rarity = np.argsort(np.argsort(mean, kind="stable"), kind="stable")
    ranked = []
    for start, end in zip(expression.indptr[:-1], expression.indptr[1:], strict=True):
        genes, values = expression.indices[start:end], expression.data[start:end]
        ranked.append(genes[np.lexsort((rarity[genes], -values))[:n_top]])
    return ranked


def rank_weights(expression: CellByGene, *, n_top: int, mean: Float[np.ndarray, " gene"]) -> CellByGene:
    r"""Weights of a cell's sentence: :math:`1/\log_2(1 + r)` for the gene at rank *r*, summing to one a cell."""
    ranked = rank_genes(expression, n_top=n_top, mean=mean)
    lengths = np.array([len(genes) for genes in ranked])
    discount = 1.0 / np.log2(np.arange(2, n_top + 2))
    totals = np.concatenate([[0.0], np.cumsum(discount)])[lengths]
    data = np.concatenate([discount[: len(genes)] for genes in ranked]) if ranked else np.empty(0)
    data = data / np.repeat(np.maximum(totals, EPSILON), lengths)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    indices = np.concatenate(ranked) if ranked else np.empty(0, dtype=np.int64)
    return sp.csr_matrix((data.astype(np.float32), indices, indptr), shape=expression.shape)
