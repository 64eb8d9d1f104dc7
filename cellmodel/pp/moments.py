"""Mean and variance of each gene over the cells, or over groups of them, from sums of the stored values."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from cellmodel.core.arrays import CellBlocks, CellByGene, Labels, ahead, in_order, row_blocks

Entries: TypeAlias = Float[np.ndarray, " entry"]
Transform: TypeAlias = Callable[[Entries, slice], Entries]  # values of some rows, and which rows
_ENTRIES: Final = 1 << 18  # stored entries that are summed at once, about: bounds memory


class GeneSums:
    """Sums of each gene over groups of cells, added up block by block in double precision."""

    def __init__(self, n_genes: int, *, n_groups: int = 1) -> None:
        self.n_cells = np.zeros(n_groups, dtype=np.int64)
        self.values, self.squares, self.n_expressing, self.linear = np.zeros((4, n_groups, n_genes))

    def add(
        self,
        block: CellByGene,
        groups: Labels | None = None,
        *,
        transform: Transform | None = None,
        with_linear: bool = False,
    ) -> None:
        """Add cells, entry by entry, so that the size of the blocks changes no bit.

        ``transform``: gives what is summed in place of the stored values of some rows; not zero where these are not.
        ``with_linear``: whether ``linear`` is summed, ``expm1`` of the values.
        """
        n_groups, n_genes = self.values.shape
        codes = np.zeros(block.shape[0], dtype=np.int64) if groups is None else groups.astype(np.int64)
        self.n_cells += np.bincount(codes, minlength=n_groups)

        def entries_of(rows: slice) -> tuple[Int[np.ndarray, " entry"], list[Entries | float]]:
            entries = slice(block.indptr[rows.start], block.indptr[rows.stop])
            place = block.indices[entries].astype(np.int64)
            if groups is not None:
                place += np.repeat(codes[rows] * n_genes, np.diff(block.indptr[rows.start : rows.stop + 1]))
            values = block.data[entries].astype(np.float64)
            values = values if transform is None else transform(values, rows)
            return place, [values, values**2, 1.0, *([np.expm1(values)] if with_linear else [])]

        for place, summed in in_order(entries_of, runs_of_rows(block.indptr)):
            for sums, each in zip(self._sums(), summed, strict=False):
                np.add.at(sums.reshape(-1), place, each)

    def _sums(self) -> tuple[Float[np.ndarray, "group gene"], ...]:
        return self.values, self.squares, self.n_expressing, self.linear

    def _combined(self, groups: Float[np.ndarray, "new group"]) -> "GeneSums":
        """Give the sums over unions of groups, of which each row marks the members."""
        found = GeneSums(self.values.shape[1], n_groups=len(groups))
        found.n_cells = groups.astype(np.int64) @ self.n_cells
        found.values, found.squares, found.n_expressing, found.linear = (groups @ sums for sums in self._sums())
        return found

    def pooled(self) -> "GeneSums":
        """Give the sums over all groups as one."""
        return self._combined(np.ones((1, len(self.n_cells))))

    def outside(self) -> "GeneSums":
        """Give the sums over all other groups, not the total less one: a gene absent there is exactly 0."""
        return self._combined(1.0 - np.eye(len(self.n_cells)))

    def moments(self) -> tuple[Float[np.ndarray, "group gene"], Float[np.ndarray, "group gene"]]:
        """Mean, and sum of squared deviations from it, which is 0 where it is below what double precision resolves."""
        cells = np.maximum(self.n_cells, 1)[:, None]
        mean = self.values / cells
        scatter = self.squares - cells * mean**2
        scatter[scatter <= 4 * cells * np.finfo(np.float64).eps * self.squares] = 0.0
        return mean, scatter


def runs_of_rows(indptr: Int[np.ndarray, " row"]) -> Iterator[slice]:
    """Rows of about so many entries, one run after the other."""
    start, last = 0, len(indptr) - 1
    while start < last:
        stop = max(int(np.searchsorted(indptr, indptr[start] + _ENTRIES, side="right")) - 1, start + 1)
        yield slice(start, min(stop, last))
        start = stop


def column_moments(
    expression: CellByGene | CellBlocks,
) -> tuple[Float[np.ndarray, " gene"], Float[np.ndarray, " gene"]]:
    """Mean and standard deviation (divisor n) of each gene."""
    sums = GeneSums(expression.shape[1])
    for block in row_blocks(expression):
        sums.add(block)
    (mean,), (scatter,) = sums.moments()
    return mean, np.sqrt(scatter / expression.shape[0])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GroupMoments:
    """Moments of each gene over one group of cells per cluster."""

    n_cells: Int[np.ndarray, " cluster"]  # cells of the group; 0 is possible for the rest of a single cluster
    # mean, variance: of the expression (log1p), sample variance with divisor n - 1. Both are 0 where they do not exist
    # (no cell; fewer than two cells), and the variance is 0 where it is below what the sums resolve
    mean: Float[np.ndarray, "cluster gene"]
    variance: Float[np.ndarray, "cluster gene"]
    linear_mean: Float[np.ndarray, "cluster gene"]  # mean of expm1 of the expression: normalized counts
    fraction: Float[np.ndarray, "cluster gene"]  # fraction of cells in which the gene is not zero, 0 to 1


def pool_groups(moments: GroupMoments, groups: Sequence[Sequence[int]]) -> GroupMoments:
    """Moments of unions of groups of cells; row *i* is the union of the rows ``groups[i]``, of which none is empty."""
    member = np.zeros((len(groups), len(moments.n_cells)))
    for row, group in enumerate(groups):
        member[row, list(group)] = 1.0
    n_cells = moments.n_cells.astype(np.float64)
    cells = (member @ n_cells)[:, None]
    weight = member * n_cells / cells
    mean = weight @ moments.mean
    within = member @ (np.maximum(n_cells - 1, 0.0)[:, None] * moments.variance)
    between = [row @ (moments.mean - own) ** 2 for row, own in zip(member * n_cells, mean, strict=True)]
    return GroupMoments(
        n_cells=cells[:, 0].astype(np.int64),
        mean=mean,
        variance=(within + np.array(between).reshape(mean.shape)) / np.maximum(cells - 1, 1),
        linear_mean=weight @ moments.linear_mean,
        fraction=weight @ moments.fraction,
    )


def cluster_moments(expression: CellByGene | CellBlocks, clusters: Labels) -> tuple[GroupMoments, GroupMoments]:
    """Moments of every gene inside each cluster, and in all cells outside it, from one pass over the values.

    ``expression``: log1p of normalized counts. ``clusters``: 0 .. k-1, each used at least once. Row *c* of both results
    is cluster *c*.
    """
    sums = GeneSums(expression.shape[1], n_groups=int(clusters.max()) + 1)
    start = 0
    for rows in ahead(row_blocks(expression)):
        sums.add(without_zeros(rows), clusters[start : start + rows.shape[0]], with_linear=True)
        start += rows.shape[0]
    return _group_moments(sums), _group_moments(sums.outside())


def without_zeros(block: CellByGene) -> CellByGene:
    """Give the cells without stored zeros; a copy where there are any."""
    if block.data.all():
        return block
    block = block.copy()
    block.eliminate_zeros()
    return block


def _group_moments(sums: GeneSums) -> GroupMoments:
    mean, scatter = sums.moments()
    cells = np.maximum(sums.n_cells, 1)[:, None]
    return GroupMoments(
        n_cells=sums.n_cells,
        mean=mean,
        variance=scatter / np.maximum(cells - 1, 1),
        linear_mean=sums.linear / cells,
        fraction=sums.n_expressing / cells,
    )


def overall_mean_and_deviation(inside: GroupMoments) -> tuple[Float[np.ndarray, " gene"], Float[np.ndarray, " gene"]]:
    """Mean and standard deviation (divisor n) over all cells, from the moments inside each cluster."""
    n_cells = inside.n_cells.sum()
    mean = inside.n_cells @ inside.mean / n_cells
    within = (inside.n_cells - 1) @ inside.variance
    between = inside.n_cells @ (inside.mean - mean) ** 2
    return mean, np.sqrt((within + between) / n_cells)
