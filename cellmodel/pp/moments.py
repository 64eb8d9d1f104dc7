"""Mean and variance of each gene over the cells, or over groups of them; the genes that are highly variable by them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

from cellmodel.core.arrays import CellBlocks, CellByGene, Labels, ahead, in_order, row_blocks
from cellmodel.core.errors import InputUnusable
from cellmodel.core.stages import AnyStages, Arrays
from cellmodel.io.backed import Scan
from cellmodel.io.cells import ObsCategories
from cellmodel.io.matrix import LOG1P_MAX, ValueKind, ValueTally
from cellmodel.io.quality import figures_of_block
from cellmodel.pp.normalize import Entries, LogExpression, runs_of_rows, scaled_entries, size_factors

Transform: TypeAlias = Callable[[Entries, slice], Entries]  # values of some rows, and which rows
_N_BINS: Final = 20  # bins of mean expression within which Seurat's rule compares dispersions


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


def scan(
    matrix: CellByGene | CellBlocks,
    *,
    kind: ValueKind,
    batches: ObsCategories | None = None,
    mito: Int[np.ndarray, " mito"] | None = None,
) -> Scan:
    """Read all values once.

    ``kind``: what the values are taken for; the report says what they look like. ``batches``: within which moments are
    taken, too. ``mito``: columns of mitochondrial genes. Moments are zero where values are
    negative, not finite, or no logarithms though taken for such, since nothing can be made of those.
    """
    n_cells, n_genes = matrix.shape
    tally, linear = ValueTally(), GeneSums(n_genes, n_groups=1 if batches is None else len(batches.names))
    depth, of_mito, totals = np.zeros(n_cells), np.zeros(n_cells), np.zeros(n_genes)
    n_above = np.zeros(n_cells, dtype=np.int64)
    mito = np.zeros(0, dtype=np.int64) if mito is None else mito
    highest = LOG1P_MAX if kind == ValueKind.LOG1P else np.finfo(np.float32).max
    start = 0
    for read in ahead(row_blocks(matrix)):
        tally.add(read)
        rows = slice(start, start + read.shape[0])
        depth[rows] = np.asarray(read.sum(axis=1, dtype=np.float64)).ravel()
        n_above[rows], of_mito[rows] = figures_of_block(read, mito)
        start = rows.stop
        if read.data.min(initial=0) >= 0 and read.data.max(initial=0) <= highest:
            block = without_zeros(read)
            totals += np.bincount(block.indices, block.data, minlength=n_genes)
            groups = None if batches is None else batches.codes[rows]
            linear.add(block, groups, transform=_before_logarithm(block, kind))
    (mean,), (scatter,) = (linear if batches is None else linear.pooled()).moments()
    within = None if batches is None else linear.moments()
    return Scan(
        report=tally.report(),
        depth=depth,
        totals=totals,
        n_genes=n_above,
        mito=of_mito,
        n_cells=linear.n_expressing.sum(axis=0).astype(np.int64),
        mean=mean,
        variance=scatter / max(n_cells - 1, 1),
        batch_mean=None if within is None else within[0],
        batch_variance=None if within is None else within[1] / np.maximum(linear.n_cells - 1, 1)[:, None],
    )


def _before_logarithm(block: CellByGene, kind: ValueKind) -> Transform:
    """Give what turns stored values into normalized ones, without a logarithm."""
    if kind == ValueKind.LOG1P:
        return lambda values, _: np.expm1(values)
    scale = size_factors(block)
    return lambda _, rows: scaled_entries(block, scale, rows)


_SIDES: Final = ("inside", "rest")


def kept_moments(expression: LogExpression, clusters: Labels, stages: AnyStages) -> tuple[GroupMoments, GroupMoments]:
    """Moments of genes in each cluster and in its rest, see :func:`cluster_moments`, kept as a stage of the run."""

    def make(arrays: Arrays) -> Mapping[str, Any]:
        for side, moments in zip(_SIDES, cluster_moments(expression, clusters), strict=True):
            for name, values in asdict(moments).items():
                arrays.save(f"{side}.{name}", values)
        return {}

    stored = stages.run("moments", make).arrays
    inside, rest = (
        GroupMoments(**{field.name: np.array(stored[f"{side}.{field.name}"]) for field in fields(GroupMoments)})
        for side in _SIDES
    )
    return inside, rest


def detected_genes(counts: CellByGene, *, min_cells: int = 3) -> Bool[np.ndarray, " gene"]:
    """Mark the genes with a value above zero in at least ``min_cells`` cells."""
    found = np.bincount(counts.indices[counts.data > 0], minlength=counts.shape[1])
    return np.asarray(found >= min_cells)


def highly_variable(expression: CellByGene, *, n_top: int = 2000) -> Int[np.ndarray, " gene"]:
    """Choose the genes that vary more than others of their mean: Scanpy's ``flavor="seurat"`` :cite:`satija2015seurat`.

    The log of variance over mean is turned into a z-score within 20 bins of log mean expression, both taken on the
    scale before the logarithm. A gene alone in its bin scores 1. Genes that tie with the last one are kept too, so that
    the choice does not depend on the order of the genes.

    Returns column numbers in rising order: all columns if there are no more than ``n_top``, otherwise without the genes
    whose score is not defined (no variance, or none within their bin).
    """
    sums = GeneSums(expression.shape[1])
    for block in row_blocks(expression):
        sums.add(block, transform=lambda values, _: np.expm1(values))
    (mean,), (scatter,) = sums.moments()
    return variable_by_moments(mean, scatter / max(expression.shape[0] - 1, 1), n_top=n_top)


def variable_by_moments(
    mean: Float[np.ndarray, " gene"], variance: Float[np.ndarray, " gene"], *, n_top: int
) -> Int[np.ndarray, " gene"]:
    """Choose genes as :func:`highly_variable`, from mean and variance before the logarithm.

    Raises ``InputUnusable`` if there is a choice to make and no gene varies.
    """
    n_genes = len(mean)
    if n_genes <= n_top:
        return np.arange(n_genes)
    score = _dispersion_scores(mean, variance)
    if np.isnan(score).all():
        raise InputUnusable(
            f"none of {n_genes:,} genes varies after normalizing, so the cells are all the same; is it the right layer "
            "(`layer`), or one cell written many times?"
        )
    return np.flatnonzero(_is_top(score, n_top=n_top))


def variable_in_batches(
    mean: Float[np.ndarray, "batch gene"], variance: Float[np.ndarray, "batch gene"], *, n_top: int
) -> Int[np.ndarray, " gene"]:
    """Choose genes that are highly variable within batches: Scanpy's ``batch_key`` with ``flavor="seurat"``.

    A gene is ranked by the number of batches in which :func:`variable_by_moments` would choose it, then by the mean of
    its scores, 0 where a batch gives none. Ties and columns: see there, and so are the errors.
    """
    n_genes = mean.shape[1]
    if n_genes <= n_top:
        return variable_by_moments(mean[0], variance[0], n_top=n_top)
    scores = np.full(mean.shape, np.nan)
    for score, center, spread in zip(scores, mean, variance, strict=True):
        seen = np.flatnonzero(center > 0)
        if len(seen):
            score[seen] = _dispersion_scores(center[seen], spread[seen])
    n_batches = np.sum([_is_top(score, n_top=n_top) for score in scores], axis=0)
    if not n_batches.any():
        return variable_by_moments(mean.mean(axis=0), variance.mean(axis=0), n_top=n_top)
    mean_score = np.where(np.isnan(scores), 0.0, scores).mean(axis=0)
    rank = np.unique(np.column_stack([n_batches, mean_score]), axis=0, return_inverse=True)[1].ravel()
    return np.flatnonzero((rank >= np.sort(rank)[n_genes - n_top]) & (n_batches > 0))


def _is_top(score: Float[np.ndarray, " gene"], *, n_top: int) -> Bool[np.ndarray, " gene"]:
    """Mark the genes of the highest scores, and those that tie with the last one; none without a score."""
    usable = score[~np.isnan(score)]
    if usable.size == 0:
        return np.zeros(len(score), dtype=np.bool_)
    last = max(usable.size - n_top, 0)
    return np.asarray(score >= np.partition(usable, last)[last])


def _dispersion_scores(
    mean: Float[np.ndarray, " gene"], variance: Float[np.ndarray, " gene"]
) -> Float[np.ndarray, " gene"]:
    """Z-score of log dispersion within bins of log mean; NaN where it is not defined, 1 for a gene alone in its bin."""
    mean = np.where(mean == 0, 1e-12, mean)
    dispersion = np.log(variance / mean, out=np.full(len(mean), np.nan), where=variance > 0)
    logs = np.log1p(mean)
    edges = np.linspace(logs.min(), logs.max(), _N_BINS + 1)
    bins = np.clip(np.searchsorted(edges, logs, side="left") - 1, 0, _N_BINS - 1)  # closed on the right: pandas.cut
    defined = ~np.isnan(dispersion)
    of_gene, values = bins[defined], dispersion[defined]
    n_genes = np.bincount(of_gene, minlength=_N_BINS)
    center = np.bincount(of_gene, values, minlength=_N_BINS) / np.maximum(n_genes, 1)
    squares = np.bincount(of_gene, (values - center[of_gene]) ** 2, minlength=_N_BINS)
    alone = n_genes == 1
    spread = np.where(alone, center, np.sqrt(squares / np.maximum(n_genes - 1, 1)))
    center = np.where(alone, 0.0, center)
    score = np.full(len(mean), np.nan)
    np.divide(dispersion - center[bins], spread[bins], out=score, where=defined & (spread[bins] != 0))
    return score
