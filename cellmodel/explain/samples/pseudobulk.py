"""Pseudobulk: values of the cells of a cluster summed by sample, genes filtered and libraries normalized."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int

from cellmodel.core.arrays import CellBlocks, CellByGene, Labels, row_blocks

_PRIOR_COUNT: Final = 2.0  # added to a count of a library of the smaller side's size, before the logarithm
_MIN_COUNT, _MIN_TOTAL = 10, 15  # of a gene: in a library of median size, and over all
_MANY_UNITS, _SHARE = 10, 0.7  # replicates of a side from which this share of the others is enough
_TRIM_M, _TRIM_A = 0.3, 0.05  # of the log ratios and of the mean expressions, on either end
_MIN_FRACTION: Final = 0.1  # of the cells that express a gene, where values are no counts


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pseudobulk:
    """Sums of values over the cells of every replicate in every cluster."""

    # (replicate * cluster, gene) sums of counts, or of log expression; row ``replicate * n_clusters + cluster``
    sums: sp.csr_matrix
    n_expressing: sp.csr_matrix  # cells with a value above zero, in the same rows
    n_cells: Int[np.ndarray, "unit cluster"]
    is_counts: bool

    def of(self, units: Int[np.ndarray, " unit"], cluster: int, *, rest: bool = False) -> "Libraries":
        """Give the cells of a cluster in some replicates as libraries; with ``rest`` all their other cells."""
        n_clusters = self.n_cells.shape[1]
        rows = units[:, None] * n_clusters + np.arange(n_clusters)[None, :]
        chosen = np.delete(rows, cluster, axis=1) if rest else rows[:, [cluster]]
        adder = sp.csr_matrix(
            (np.ones(chosen.size), chosen.ravel(), np.arange(0, chosen.size + 1, chosen.shape[1])),
            shape=(len(units), self.sums.shape[0]),
        )
        n_cells = np.delete(self.n_cells[units], cluster, axis=1) if rest else self.n_cells[units][:, [cluster]]
        return Libraries(
            values=(adder @ self.sums).toarray().T,
            n_expressing=(adder @ self.n_expressing).toarray().T,
            n_cells=n_cells.sum(axis=1),
            is_counts=self.is_counts,
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Libraries:
    """Pseudobulks that are compared."""

    values: Float[np.ndarray, "gene unit"]  # sums of counts, or of log expression
    n_expressing: Float[np.ndarray, "gene unit"]
    n_cells: Int[np.ndarray, " unit"]
    is_counts: bool

    def with_others(self, others: "Libraries") -> "Libraries":
        """Put others behind."""
        return Libraries(
            values=np.hstack([self.values, others.values]),
            n_expressing=np.hstack([self.n_expressing, others.n_expressing]),
            n_cells=np.concatenate([self.n_cells, others.n_cells]),
            is_counts=self.is_counts,
        )

    def expressed(self, side: Bool[np.ndarray, " unit"]) -> Bool[np.ndarray, " gene"]:
        """Mark the genes that are expressed enough to be tested, whichever side they are expressed on.

        Of counts, by the rule of edgeR's filterByExpr :cite:`chen2016edger`: 10 counts, scaled to the median library of
        the smaller side, in as many libraries as a side has, and 15 in all. Else where a tenth of the cells expresses
        the gene in as many.
        """
        least = float(min(side.sum(), (~side).sum()))
        least = least if least <= _MANY_UNITS else _MANY_UNITS + (least - _MANY_UNITS) * _SHARE - 1e-9
        if not self.is_counts:
            fraction = self.n_expressing / np.maximum(self.n_cells, 1)
            return np.asarray((fraction >= _MIN_FRACTION).sum(axis=1) >= max(least, 1))
        sizes = self.values.sum(axis=0)
        median = min(np.median(sizes[side]), np.median(sizes[~side]))
        scaled = self.values * np.divide(median, sizes, out=np.zeros_like(sizes), where=sizes > 0)
        enough = (scaled >= _MIN_COUNT - 1e-9).sum(axis=1) >= max(least, 1)
        return np.asarray(enough & (self.values.sum(axis=1) >= _MIN_TOTAL))

    def log_expression(
        self, side: Bool[np.ndarray, " unit"], genes: Bool[np.ndarray, " gene"]
    ) -> Float[np.ndarray, "gene unit"]:
        r"""Give log2 counts per million of some genes, or the means of log expression in units of log 2.

        .. math:: \log_2 \frac{(y_{gi} + c_i)\,10^6}{N_i + 2 c_i}, \quad c_i = 2 N_i / \bar N

        with :math:`N_i` the library size times its TMM factor, :math:`\bar N` the mean of the smaller side.
        """
        if not self.is_counts:
            return self.values[genes] / np.maximum(self.n_cells, 1) / np.log(2)
        sizes = self.values.sum(axis=0)
        sizes = np.maximum(sizes * tmm_factors(self.values[genes], sizes), 1.0)
        prior = _PRIOR_COUNT * sizes / min(sizes[side].mean(), sizes[~side].mean())
        return np.asarray(np.log2((self.values[genes] + prior) / (sizes + 2 * prior) * 1e6))


def sum_by_group(
    matrix: CellByGene | CellBlocks, labels: Labels, units: Labels, *, n_clusters: int, is_counts: bool
) -> Pseudobulk:
    """Sum the values of cells by replicate and cluster, block by block; cells with a negative label are left out."""
    n_units = int(units.max(initial=-1)) + 1
    groups = np.where((labels >= 0) & (units >= 0), units * n_clusters + labels, -1)
    shape = (n_units * n_clusters, matrix.shape[1])
    sums, n_expressing = sp.csr_matrix(shape), sp.csr_matrix(shape)
    start = 0
    for block in row_blocks(matrix):
        own = groups[start : start + block.shape[0]]
        start += block.shape[0]
        kept = np.flatnonzero(own >= 0)
        adder = sp.csr_matrix((np.ones(len(kept)), (own[kept], kept)), shape=(shape[0], block.shape[0]))
        values = block.astype(np.float64)
        values.eliminate_zeros()
        sums = sums + adder @ values
        values.data[:] = 1.0
        n_expressing = n_expressing + adder @ values
    n_cells = np.bincount(groups[groups >= 0], minlength=shape[0]).reshape(n_units, n_clusters)
    return Pseudobulk(sums=sums, n_expressing=n_expressing, n_cells=n_cells, is_counts=is_counts)


def tmm_factors(
    counts: Float[np.ndarray, "gene unit"], sizes: Float[np.ndarray, " unit"]
) -> Float[np.ndarray, " unit"]:
    """Trimmed mean of M values: factors of library sizes, whose product is 1 :cite:`robinson2010tmm`.

    The reference is the library whose upper quartile, as a share of its size, is nearest to the mean of all.
    """
    if not len(counts) or (sizes <= 0).any():
        return np.ones(len(sizes))
    shares = counts / sizes
    quartile = np.quantile(shares, 0.75, axis=0)
    reference = int(np.abs(quartile - quartile.mean()).argmin())
    factors = np.array(
        [_tmm(shares[:, unit], shares[:, reference], sizes[unit], sizes[reference]) for unit in range(len(sizes))]
    )
    return np.asarray(factors / np.exp(np.log(factors).mean()))


def _tmm(share: np.ndarray, reference: np.ndarray, size: float, reference_size: float) -> float:
    """Trimmed, weighted mean of the log ratios of one library to the reference; 1 where no gene is in both."""
    both = (share > 0) & (reference > 0)
    share, reference = share[both], reference[both]
    m, a = np.log2(share / reference), np.log2(share * reference) / 2
    if not len(m) or np.abs(m).max() < 1e-6:  # noqa: PLR2004 - the same library
        return 1.0
    ranks_m, ranks_a = (values.argsort(kind="stable").argsort(kind="stable") for values in (m, a))
    low_m, low_a = int(len(m) * _TRIM_M), int(len(m) * _TRIM_A)
    kept = (ranks_m >= low_m) & (ranks_m < len(m) - low_m) & (ranks_a >= low_a) & (ranks_a < len(m) - low_a)
    # the variance of a log ratio of binomial shares, by the delta method
    variance = (1 - share) / (share * size) + (1 - reference) / (reference * reference_size)
    kept &= variance > 0
    if not kept.any():
        return 1.0
    return float(2 ** np.average(m[kept], weights=1 / variance[kept]))
