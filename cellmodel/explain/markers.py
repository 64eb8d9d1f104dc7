"""Marker genes: each cluster against the rest, Welch's t from sparse sums, Benjamini-Hochberg per cluster."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from jaxtyping import Float

from cellmodel.cluster.structure import Tree
from cellmodel.core.arrays import CellByGene, Labels, benjamini_hochberg
from cellmodel.pp.moments import GroupMoments, cluster_moments, pool_groups

if TYPE_CHECKING:
    import pandas as pd

_PSEUDOCOUNT = 1.0  # normalized counts, added to both sides of a fold change
_MIN_CELLS = 2  # of each side, for a variance
Order = Literal["specificity", "t"]  # of markers: t times the specificity of the gene, or t alone


@dataclass(frozen=True, kw_only=True, slots=True)
class Marker:
    """One gene of one cluster against the rest."""

    gene: int  # column of the expression matrix
    name: str  # its name, as given
    # t, p_value, p_adjusted: welch's t, its two-sided p value, and that p value after Benjamini-Hochberg over all genes
    # of the cluster
    t: float
    p_value: float
    p_adjusted: float
    # log2((a + 1) / (b + 1)), a and b the means of expm1(expression) inside and outside, in normalized counts
    log2_fold_change: float
    fraction_in: float  # fraction_in, fraction_out: fraction of cells that express the gene, 0 to 1
    fraction_out: float
    mean_in: float  # mean_in, mean_out: mean expression (log1p)
    mean_out: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MarkerTable:
    """Markers of one cluster, best first."""

    cluster: int  # cluster, n_cells: the label and the number of cells that carry it
    n_cells: int
    is_tested: bool  # False where no test exists: the cluster or its rest has fewer than two cells
    markers: tuple[Marker, ...]  # ties go by log2 fold change, then column; empty where there is no rest


def rank_markers(
    expression: CellByGene,
    clusters: Labels,
    *,
    gene_names: Sequence[str],
    n_top: int = 50,
    order: Order = "specificity",
) -> tuple[MarkerTable, ...]:
    r"""Rank the genes of each cluster by Welch's t against all other cells :cite:`welch1947`, and by specificity.

    A t above 0 counts times the specificity of the gene :cite:`skene2016ewce`: its mean of normalized counts in the
    cluster over the sum of its means in all clusters. Genes that every cell expresses much (ribosomal, mitochondrial,
    housekeeping) vary little, so that t alone puts them first wherever they differ at all.

    t and p are those of ``scipy.stats.ttest_ind(equal_var=False)``, and of Scanpy to single precision. Fold changes are
    from the means of the normalized counts with a pseudocount of 1, so that a gene absent on one side stays finite.
    Where a side has fewer than two cells, t is 0, p is 1, and the fold change alone orders the genes. Differences below
    what sums in double precision can resolve count as 0.

    ``expression``: (cell, gene) log1p of normalized counts. ``n_top``: markers kept per cluster. ``order``: ``"t"``
    leaves specificity out.
    """
    if len(gene_names) != expression.shape[1]:
        raise ValueError(f"{len(gene_names)} gene names for {expression.shape[1]} genes: one per column is needed")
    return rank_by_moments(*cluster_moments(expression, clusters), gene_names=gene_names, n_top=n_top, order=order)


def rank_by_moments(
    inside: GroupMoments,
    rest: GroupMoments,
    *,
    gene_names: Sequence[str],
    n_top: int = 50,
    order: Order = "specificity",
) -> tuple[MarkerTable, ...]:
    """Rank as :func:`rank_markers`, from moments that are at hand."""
    if n_top < 1:
        raise ValueError(f"n_top must be >= 1, got {n_top}")
    figures = _figures(inside, rest)
    t = figures["t"]
    strength = t if order == "t" else np.where(t > 0, t * specificity(inside), t)
    tables = []
    for cluster, n_cells in enumerate(inside.n_cells.tolist()):
        n_rest = int(rest.n_cells[cluster])
        keys = (-figures["log2_fold_change"][cluster], -strength[cluster])
        best = np.lexsort(keys)[:n_top].tolist() if n_rest else []
        markers = tuple(
            Marker(
                gene=gene,
                name=gene_names[gene],
                **{name: float(values[cluster, gene]) for name, values in figures.items()},
            )
            for gene in best
        )
        is_tested = min(n_cells, n_rest) >= _MIN_CELLS
        tables.append(MarkerTable(cluster=cluster, n_cells=n_cells, is_tested=is_tested, markers=markers))
    return tuple(tables)


def specificity(inside: GroupMoments) -> Float[np.ndarray, "cluster gene"]:
    """Share that each cluster has in the sum of a gene's means of normalized counts; 0 where no cell expresses it."""
    total = inside.linear_mean.sum(axis=0)
    return np.divide(inside.linear_mean, total, out=np.zeros_like(inside.linear_mean), where=total > 0)


def _figures(inside: GroupMoments, rest: GroupMoments) -> dict[str, Float[np.ndarray, "cluster gene"]]:
    """Every figure of a :class:`Marker`, for all genes of all clusters."""
    t, p_value = _welch(inside, rest)
    return {
        "t": t,
        "p_value": p_value,
        "p_adjusted": benjamini_hochberg(p_value),
        "log2_fold_change": np.log2((inside.linear_mean + _PSEUDOCOUNT) / (rest.linear_mean + _PSEUDOCOUNT)),
        "fraction_in": inside.fraction,
        "fraction_out": rest.fraction,
        "mean_in": inside.mean,
        "mean_out": rest.mean,
    }


def _welch(
    inside: GroupMoments, rest: GroupMoments
) -> tuple[Float[np.ndarray, "cluster gene"], Float[np.ndarray, "cluster gene"]]:
    """Welch's t, and two-sided p by Satterthwaite's degrees of freedom."""
    from scipy.special import stdtr

    n_in, n_out = inside.n_cells[:, None], rest.n_cells[:, None]
    is_tested = np.minimum(n_in, n_out) >= _MIN_CELLS
    error_in, error_out = inside.variance / np.maximum(n_in, 1), rest.variance / np.maximum(n_out, 1)
    error = error_in + error_out
    resolution = 4 * (n_in + n_out) * np.finfo(np.float64).eps * np.maximum(inside.mean, rest.mean)
    difference = inside.mean - rest.mean
    has_t = is_tested & (np.abs(difference) > resolution)
    t = np.divide(difference, np.maximum(np.sqrt(error), resolution), out=np.zeros_like(error), where=has_t)
    spread = error_in**2 / np.maximum(n_in - 1, 1) + error_out**2 / np.maximum(n_out - 1, 1)
    pooled = np.broadcast_to(np.maximum(n_in + n_out - 2.0, 1.0), error.shape).copy()  # where neither side varies
    freedom = np.divide(error**2, spread, out=pooled, where=spread > 0)
    p_value = np.where(has_t, 2 * stdtr(freedom, -np.abs(t)), 1.0)
    return t, p_value


MAX_P: Final = 0.05  # adjusted, of a marker of one side
LEAST_FOLD: Final = 1.0  # log2 fold change of such a marker


@dataclass(frozen=True, kw_only=True, slots=True)
class SideMarkers:
    """Genes that are higher on one side of a comparison than on the other."""

    n_genes: int
    names: tuple[str, ...]  # the first of them, highest t first


def markers_of_sides(
    left: GroupMoments, right: GroupMoments, *, gene_names: Sequence[str], n_top: int = 15
) -> tuple[tuple[SideMarkers, SideMarkers], ...]:
    """Markers of both sides of each comparison: row *i* of ``left`` with row *i* of ``right``.

    A marker has an adjusted p of at most .05 by Welch's t, and twice the mean of the other side in normalized counts,
    with a pseudocount of 1. ``n_top``: how many are named.
    """
    figures = _figures(left, right)
    found = []
    for t, fold, p in zip(*(figures[name] for name in ("t", "log2_fold_change", "p_adjusted")), strict=True):
        sides = []
        for sign in (1.0, -1.0):
            genes = np.flatnonzero((sign * t > 0) & (sign * fold >= LEAST_FOLD) & (p <= MAX_P))
            first = genes[np.argsort(-sign * t[genes], kind="stable")[:n_top]].tolist()
            sides.append(SideMarkers(n_genes=len(genes), names=tuple(gene_names[gene] for gene in first)))
        found.append((sides[0], sides[1]))
    return tuple(found)


def markers_of_splits(
    tree: Tree, inside: GroupMoments, *, gene_names: Sequence[str]
) -> tuple[tuple[SideMarkers, SideMarkers], ...]:
    """Markers of both sides of each split of a tree, from the moments of its clusters."""
    if not tree.splits:
        return ()
    left, right = (pool_groups(inside, [getattr(split, side) for split in tree.splits]) for side in ("left", "right"))
    return markers_of_sides(left, right, gene_names=gene_names)


def upregulated(markers: Iterable[Marker], *, max_p: float) -> list[Marker]:
    """Markers that are significantly higher inside."""
    return [marker for marker in markers if marker.t > 0 and marker.p_adjusted <= max_p]


def marker_frame(tables: Sequence[MarkerTable], *, names: Sequence[str] = ()) -> "pd.DataFrame":
    """One row a marker, by cluster; a cluster is named by its number if no names are given."""
    import pandas as pd

    rows = [
        {
            "cluster": names[table.cluster] if names else str(table.cluster),
            **{key: value for key, value in asdict(marker).items() if key != "gene"},
        }
        for table in tables
        for marker in table.markers
    ]
    return pd.DataFrame(rows)
