"""One pass over all values of a matrix that is too large for memory: what it holds, and the moments of each gene."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.core.types import CellBlocks, CellByGene
from cellmodel.io.value_kind import LOG1P_MAX, ValueKind, ValueReport, ValueTally
from cellmodel.pp.moments import GeneSums, row_blocks
from cellmodel.pp.normalize import log_values


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scan:
    """What one pass found."""

    report: ValueReport  # the kind of values, and in which range they lie
    depth: Float[np.ndarray, " cell"]  # (cell,) sum of the values
    totals: Float[np.ndarray, " gene"]  # (gene,) sum of the values
    n_cells: Int[np.ndarray, " gene"]  # (gene,) cells in which the value is above zero
    # mean, variance: (gene,) of the normalised values before the logarithm, the variance with divisor n - 1
    mean: Float[np.ndarray, " gene"]
    variance: Float[np.ndarray, " gene"]


class BlockCells(Protocol):
    """Cells in memory, or backed."""

    @property
    def matrix(self) -> CellByGene | CellBlocks:
        """The values that are used."""

    @property
    def kind(self) -> ValueKind:
        """What the values are."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LogExpression:
    """Log-normalised expression of some genes, block by block."""

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
        return map(self.of, row_blocks(self.matrix))

    def of(self, values: CellByGene) -> CellByGene:
        """Expression of cells whose values, of all genes, are in memory."""
        expression = log_values(values, self.kind)
        return expression if self.columns is None else expression[:, self.columns]


def scan(matrix: CellByGene | CellBlocks, *, kind: ValueKind) -> Scan:
    """Read all values once.

    ``kind``: what the values are taken for; the report says what they look like. Moments are zero where values are
    negative, not finite, or no logarithms though taken for such, since nothing can be made of those.
    """
    n_cells, n_genes = matrix.shape
    tally, linear = ValueTally(), GeneSums(n_genes)
    depth, totals, n_expressing = np.zeros(n_cells), np.zeros(n_genes), np.zeros(n_genes, dtype=np.int64)
    highest = LOG1P_MAX if kind == ValueKind.LOG1P else np.finfo(np.float32).max
    start = 0
    for block in row_blocks(matrix):
        tally.add(block)
        depth[start : start + block.shape[0]] = np.asarray(block.sum(axis=1, dtype=np.float64)).ravel()
        start += block.shape[0]
        if block.data.min(initial=0) >= 0 and block.data.max(initial=0) <= highest:
            totals += np.bincount(block.indices, block.data, minlength=n_genes)
            n_expressing += np.bincount(block.indices[block.data > 0], minlength=n_genes)
            linear.add(block, values=np.expm1(log_values(block, kind).data.astype(np.float64)))
    (mean,), (scatter,) = linear.moments()
    return Scan(
        report=tally.report(),
        depth=depth,
        totals=totals,
        n_cells=n_expressing,
        mean=mean,
        variance=scatter / max(n_cells - 1, 1),
    )


def expression_of(cells: BlockCells, columns: Sequence[int] | Int[np.ndarray, " gene"] | None = None) -> CellByGene:
    """Log-normalised expression of some genes of all cells, in memory; of backed cells a block is read at a time."""
    chosen = None if columns is None else np.asarray(columns, dtype=np.int64)
    return sp.vstack(list(LogExpression(matrix=cells.matrix, kind=cells.kind, columns=chosen).blocks()), format="csr")
