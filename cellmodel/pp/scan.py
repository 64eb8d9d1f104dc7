"""One pass over all values of a matrix that is too large for memory: what it holds, and the moments of each gene."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cellmodel.core.types import CellBlocks, CellByGene
from cellmodel.io.value_kind import LOG1P_MAX, ValueKind, ValueReport, ValueTally
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
    log_mean: Float[np.ndarray, " gene"]  # (gene,) of log-normalised expression


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LogExpression:
    """Log-normalised expression of some genes, block by block."""

    matrix: CellBlocks  # the values as they are
    kind: ValueKind  # what they are; log1p values are used as they are
    columns: Int[np.ndarray, " gene"] | None = None  # genes to keep; None for all

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and of genes."""
        n_cells, n_genes = self.matrix.shape
        return n_cells, n_genes if self.columns is None else len(self.columns)

    def blocks(self) -> Iterator[CellByGene]:
        """Give the cells in their order, some at a time."""
        return map(self.of, self.matrix.blocks())

    def of(self, values: CellByGene) -> CellByGene:
        """Expression of cells whose values, of all genes, are in memory."""
        expression = log_values(values, self.kind)
        return expression if self.columns is None else expression[:, self.columns]


def scan(matrix: CellBlocks, *, kind: ValueKind) -> Scan:
    """Read all values once.

    ``kind``: what the values are taken for; the report says what they look like. Moments are zero where values are
    negative, not finite, or no logarithms though taken for such, since nothing can be made of those.
    """
    n_cells, n_genes = matrix.shape
    tally = ValueTally()
    depth = np.zeros(n_cells)
    sums = _Sums(n_genes)
    highest = LOG1P_MAX if kind == ValueKind.LOG1P else np.finfo(np.float32).max
    start = 0
    for block in matrix.blocks():
        tally.add(block)
        depth[start : start + block.shape[0]] = np.asarray(block.sum(axis=1, dtype=np.float64)).ravel()
        start += block.shape[0]
        if block.data.min(initial=0) >= 0 and block.data.max(initial=0) <= highest:
            sums.add(block, log_values(block, kind))
    mean = sums.linear / n_cells
    variance = np.maximum(sums.squares - n_cells * mean**2, 0.0) / max(n_cells - 1, 1)
    return Scan(
        report=tally.report(),
        depth=depth,
        totals=sums.totals,
        n_cells=sums.n_cells,
        mean=mean,
        variance=variance,
        log_mean=sums.log / n_cells,
    )


class _Sums:
    """Sums over cells for each gene."""

    def __init__(self, n_genes: int) -> None:
        self.totals, self.linear, self.squares, self.log = np.zeros((4, n_genes))
        self.n_cells = np.zeros(n_genes, dtype=np.int64)

    def add(self, values: CellByGene, expression: CellByGene) -> None:
        """Add a block: the values as they are, and log-normalised."""
        genes, n_genes = values.indices, values.shape[1]
        linear = np.expm1(expression.data.astype(np.float64))
        self.totals += np.bincount(genes, values.data, minlength=n_genes)
        self.linear += np.bincount(genes, linear, minlength=n_genes)
        self.squares += np.bincount(genes, linear**2, minlength=n_genes)
        self.log += np.bincount(genes, expression.data, minlength=n_genes)
        self.n_cells += np.bincount(genes[values.data > 0], minlength=n_genes)
