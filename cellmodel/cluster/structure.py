"""Structure of clusters: the tree above them, support of its splits, agreement of repeats, separation beside nulls."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int

from cellmodel.cluster.algorithms import cluster_means, draw_rows, leiden, leiden_to_k
from cellmodel.core import random as seeding
from cellmodel.core.arrays import Embedding, Labels, content_order
from cellmodel.core.config import RESOLUTION, GraphConfig
from cellmodel.pp.neighbors import knn_graph, snn_weights

MOST_LEVELS: Final = 3  # cuts that are stored, the clusters among them
FEWEST_GROUPS: Final = 3  # of a level that is coarser than the clusters
COARSER: Final = 2 / 3  # of the groups of the next finer level: the most that a level has
N_FOLDS: Final = 5  # of the cells of a split; a side of fewer cells has no support
SIDE_CELLS: Final = 300  # of each side of a split that are compared, at most


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FoundClusters:
    """Clusters that were found before a run, which embeds the cells and explains them."""

    labels: Labels
    names: tuple[str, ...]
    parents: tuple[int, ...]  # of each cluster, the group whose clusters are merged first in the tree
    method: str  # how they were found, in words


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """A node of the tree, and the two groups of clusters below it."""

    left: tuple[int, ...]  # left, right: clusters on either side, ascending; that of the lowest number is left
    right: tuple[int, ...]
    height: float  # Ward's distance between the sides, in units of the features; no node below is higher
    support: float  # see :func:`split_support`

    @property
    def clusters(self) -> tuple[int, ...]:
        """All clusters below the node."""
        return tuple(sorted(self.left + self.right))


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """Binary tree whose leaves are the clusters."""

    n_clusters: int
    splits: tuple[Split, ...]  # root first, by height: the first *m* - 1 of them give *m* groups

    def groups(self, n_groups: int) -> tuple[tuple[int, ...], ...]:
        """Cut the tree into groups of clusters, in the order of their first."""
        found = {tuple(range(self.n_clusters))}
        for split in self.splits[: n_groups - 1]:
            found = found - {split.clusters} | {split.left, split.right}
        return tuple(sorted(found))

    def levels(self) -> tuple[int, ...]:
        """Give the numbers of groups of a few cuts, coarsest first; the last are the clusters. Empty without a split.

        A cut is well separated where the split above it is much higher than the one below: by the ratio of their
        heights, highest first. Each level has at most two thirds of the groups of the next, a coarse one three or more,
        and there are three levels at most.
        """
        if not self.splits:
            return ()
        heights = np.array([split.height for split in self.splits])
        first = FEWEST_GROUPS - 1
        ratio = heights[first - 1 : -1] / np.maximum(heights[first:], np.finfo(np.float64).tiny)
        levels = [self.n_clusters]
        for n_groups in (np.argsort(-ratio, kind="stable") + FEWEST_GROUPS).tolist():
            pairs = ((min(n_groups, level), max(n_groups, level)) for level in levels)
            if len(levels) < MOST_LEVELS and all(fewer <= COARSER * more for fewer, more in pairs):
                levels.append(n_groups)
        return tuple(sorted(levels))

    def group_of(self, n_groups: int) -> tuple[int, ...]:
        """Place of each cluster's group among those of a cut."""
        of = {cluster: at for at, group in enumerate(self.groups(n_groups)) for cluster in group}
        return tuple(of[cluster] for cluster in range(self.n_clusters))

    def linkage(self) -> Float[np.ndarray, "split 4"]:
        """Give the merges as :func:`scipy.cluster.hierarchy.linkage` does, lowest first, sizes in clusters."""
        number: dict[tuple[int, ...], int] = {(cluster,): cluster for cluster in range(self.n_clusters)}
        rows = []
        for at, split in enumerate(reversed(self.splits)):
            rows.append((number[split.left], number[split.right], split.height, len(split.clusters)))
            number[split.clusters] = self.n_clusters + at
        return np.array(rows, dtype=np.float64).reshape(-1, 4)


def grow_tree(
    features: Embedding, clusters: Labels, *, pcs: Embedding, seed: int, parents: Sequence[int] | None = None
) -> Tree:
    """Merge clusters into a tree by unweighted Ward of their centers, and measure the support of each split.

    ``features``: (cell, dim) what was clustered. ``pcs``: (cell, dim) components that are not averaged over neighbors,
    in which support is measured. ``parents``: of each cluster, its group: those of one group are merged first.
    """
    n_clusters = int(clusters.max()) + 1
    splits: list[tuple[tuple[int, ...], tuple[int, ...], float]] = []
    if n_clusters > 1:
        centers = cluster_means(features, clusters)
        of_group = list(range(n_clusters)) if parents is None else np.unique(parents, return_inverse=True)[1].tolist()
        parts = [tuple(c for c in range(n_clusters) if of_group[c] == group) for group in range(max(of_group) + 1)]
        for group in parts:
            splits += _merges([(cluster,) for cluster in group], centers[list(group)])
        sizes = np.bincount(clusters)
        groups = np.array([np.average(centers[list(group)], axis=0, weights=sizes[list(group)]) for group in parts])
        below = max((height for *_, height in splits), default=0.0)
        splits += [(left, right, max(height, below)) for left, right, height in _merges(parts, groups)]
    order = content_order(pcs)  # by which cells are drawn
    order = order[np.argsort(clusters[order], kind="stable")]
    members = np.split(order, np.cumsum(np.bincount(clusters))[:-1])
    return Tree(
        n_clusters=n_clusters,
        splits=tuple(
            Split(left=left, right=right, height=height, support=_support(pcs, members, (left, right), seed))
            for left, right, height in sorted(reversed(splits), key=lambda split: -split[2])
        ),
    )


def tree_of_linkage(linkage: Float[np.ndarray, "split 4"], supports: Sequence[float]) -> Tree:
    """Give the tree whose :meth:`Tree.linkage` this is, ``supports`` root first; ``ValueError`` if it is none."""
    if not _is_linkage(linkage) or len(supports) != len(linkage) or not all(0 <= one <= 1 for one in supports):
        raise ValueError("no tree: not a linkage matrix with one support in [0, 1] a split")
    leaves = [(cluster,) for cluster in range(len(linkage) + 1)]
    splits = [
        Split(left=left, right=right, height=height, support=float(support))
        for (left, right, height), support in zip(_sides(linkage, leaves), reversed(supports), strict=True)
    ]
    return Tree(n_clusters=len(linkage) + 1, splits=tuple(reversed(splits)))


def _is_linkage(linkage: Float[np.ndarray, "split 4"]) -> bool:
    """Whether each row merges two nodes that are there by then, and no node is merged twice."""
    if linkage.ndim != 2 or linkage.shape[1] != 4 or not len(linkage):  # noqa: PLR2004 - a matrix of four columns
        return False
    merged, known = linkage[:, :2], len(linkage) + 1 + np.arange(len(linkage))[:, None]
    is_node = np.isfinite(linkage).all() and (linkage >= 0).all() and (merged < known).all()
    return bool(is_node and (merged == np.floor(merged)).all() and len(np.unique(merged)) == merged.size)


def group_name(names: Sequence[str], group: Sequence[int]) -> str:
    """Name of a group of clusters: their names, with + between."""
    return "+".join(names[cluster] for cluster in group)


def _merges(
    members: Sequence[tuple[int, ...]], centers: Float[np.ndarray, "group dim"]
) -> list[tuple[tuple[int, ...], tuple[int, ...], float]]:
    """Sides and height of each merge, lowest first."""
    from scipy.cluster.hierarchy import linkage

    if len(members) < 2:  # noqa: PLR2004 - nothing to merge
        return []
    return list(_sides(linkage(centers, method="ward"), members))


def _sides(
    linkage: Float[np.ndarray, "split 4"], members: Sequence[tuple[int, ...]]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], float]]:
    """Sides and height of each row of a linkage matrix; ``members`` are the clusters of each leaf."""
    nodes = list(members)
    for one, other, height, _ in linkage.tolist():
        left, right = sorted((nodes[int(one)], nodes[int(other)]))
        yield left, right, height
        nodes.append(tuple(sorted(left + right)))


def _support(
    pcs: Embedding, members: Sequence[Int[np.ndarray, " cell"]], sides: Sequence[tuple[int, ...]], seed: int
) -> float:
    """Support of a split, on cells of each side that are drawn; ``members`` are the cells of each cluster."""
    rng = seeding.generator(seed, f"split {sides}")
    rows_of = (np.concatenate([members[cluster] for cluster in side]) for side in sides)
    drawn = [rng.choice(rows, min(len(rows), SIDE_CELLS), replace=False) for rows in rows_of]
    is_right = np.repeat([False, True], [len(rows) for rows in drawn])
    return split_support(np.asarray(pcs[np.concatenate(drawn)]), is_right)


def split_support(points: Embedding, is_right: Bool[np.ndarray, " cell"]) -> float:
    r"""Measure how much better two Gaussians than one predict where cells lie that are held out.

    .. math:: 1 - e^{-2 g}, \quad g = \frac{1}{n} \Big(\sum_i \log\frac{\pi_l N(x_i; \mu_l, s^2) + \pi_r N(x_i; \mu_r,
        s^2)}{N(x_i; \mu, \sigma^2)} - \log n\Big), \text{ 0 where } g < 0

    *x* is the place of a cell between the sides: its part along Fisher's discriminant direction, with the covariance
    shrunk :cite:`ledoit2004wellconditioned`, which is found from four fifths of the cells and applied to the fifth
    that is held out. The comparison of one Gaussian with two on the line between two centers is that of G-means
    :cite:`hamerly2003gmeans`; :math:`\log n` is the penalty of BIC for the two more parameters, and :math:`1 - e^{-2g}`
    turns a gain of log likelihood into a share of variance explained. Cells that are one Gaussian gain nothing,
    wherever they are cut: the value is 0. Two equal Gaussians have .1 where their centers lie three standard deviations
    apart, .5 at five and .8 at nine. The cells that are held out took part in the clustering, so this does not show
    that a split is found again in other cells; and a few outlying cells are well supported, too. It is 0, too,
    where a side has fewer than five cells.
    """
    n_cells, n_right = len(is_right), int(is_right.sum())
    if min(n_right, n_cells - n_right) < N_FOLDS:
        return 0.0
    fold = np.empty(n_cells, dtype=np.int64)
    for side in (False, True):
        rows = np.flatnonzero(is_right == side)
        fold[rows] = np.arange(len(rows)) % N_FOLDS
    place = np.empty(n_cells)
    for held_out in range(N_FOLDS):
        fitted = fold != held_out
        direction, start = _discriminant(points[fitted].astype(np.float64), is_right[fitted])
        place[~fitted] = points[~fitted] @ direction - start
    log_one = _log_normal(place, float(place.mean()), float(place.std()))
    centers = [float(place[is_right == side].mean()) for side in (False, True)]
    spread = float(np.sqrt(((place - np.where(is_right, centers[1], centers[0])) ** 2).mean()))  # of both sides
    share = float(is_right.mean())
    parts = (_log_normal(place, center, spread) for center in centers)
    log_two = np.logaddexp(*(part + np.log(weight) for part, weight in zip(parts, (1 - share, share), strict=True)))
    gain = float((log_two - log_one).mean()) - np.log(n_cells) / n_cells
    return float(1 - np.exp(-2 * max(gain, 0.0)))


def _discriminant(
    points: Float[np.ndarray, "cell dim"], is_right: Bool[np.ndarray, " cell"]
) -> tuple[Float[np.ndarray, " dim"], float]:
    """Fisher's direction, scaled so that the centers of the sides lie one apart, and the place of the left one."""
    from sklearn.covariance import ledoit_wolf

    left, right = points[~is_right].mean(axis=0), points[is_right].mean(axis=0)
    covariance, _ = ledoit_wolf(points - np.where(is_right[:, None], right, left), assume_centered=True)
    covariance += np.finfo(np.float64).eps * np.eye(len(left))  # cells of a side may all be equal
    direction = np.linalg.solve(covariance, right - left)
    direction /= max(float(direction @ (right - left)), np.finfo(np.float64).tiny)
    return direction, float(left @ direction)


def _log_normal(place: Float[np.ndarray, " cell"], center: float, spread: float) -> Float[np.ndarray, " cell"]:
    """Log density up to a constant that is the same for all."""
    spread = max(spread, np.finfo(np.float64).eps)
    return -0.5 * ((place - center) / spread) ** 2 - np.log(spread)


N_REPEATS: Final = 3
REPEATED_SHARE: Final = 0.8  # of the cells, in a repeat
REPEATED_CELLS: Final = 5_000  # of a repeat, at most
N_NULLS: Final = 19  # the cells are the most separated of twenty by chance in one of twenty
TESTED_CELLS: Final = 1_000  # of the test, at most
CELLS_PER_GROUP: Final = 50  # of similar total counts, among which a null draws
LEAST_SPREAD: Final = 0.005  # of a statistic over the nulls: a few can lie closer together by chance
FEWEST_CELLS: Final = 30  # below it nothing differs from chance
SIGNIFICANT: Final = 0.05

Points = Float[np.ndarray, "cell dim"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure:
    """How well the clusters of some cells hold up; NaN where it was not asked, or there are too few cells."""

    # mean ARI with the clusters that random four fifths of the cells give, with another seed each
    repeats: float = float("nan")
    # fraction of data sets without clusters whose communities are as separated as those of the cells
    p_value: float = float("nan")


def structure_notes(record: Mapping[str, Any] | None) -> Iterator[str]:
    """Say what the values of a :class:`Structure` mean, as they are recorded."""
    repeats, p_value = ((record or {}).get(name) for name in ("repeats", "p_value"))
    if repeats is not None and not math.isnan(repeats):
        yield f"clustering random 80 % of the cells again gives these clusters with an ARI of {repeats:.2f}"
    if p_value is not None and p_value > SIGNIFICANT:
        yield f"the clusters are no better separated than those of data without structure (p = {p_value:.2f})"


def check_structure(
    labels: Labels,
    *,
    pcs: Embedding,
    total_counts: Float[np.ndarray, " cell"],
    seed: int,
    n_clusters: int | None = None,
    resolution: float | None = None,
) -> Structure:
    """Repeat the clustering on parts of the cells, and compare its separation with that of data without clusters.

    Leiden communities of at most 1,000 cells are set beside those of two nulls, both within groups of cells of about
    the same total counts, which spread shallow cells out: their modularity beside that of permuted components, their
    mean silhouette beside that of the Gaussian of the group. One long axis splits like two clusters in the second null
    and not in the first; uniform and heavy-tailed noise in the first and not in the second. The larger of the two
    standard scores counts.

    ``n_clusters``, ``resolution``: of the Leiden communities that ``labels`` are, which are repeated; None where they
    are from elsewhere. Nothing depends on the order of the cells.
    """
    if len(pcs) < FEWEST_CELLS or not labels.any():
        return Structure()
    order = content_order(pcs)
    repeated = n_clusters is not None or resolution is not None
    return Structure(
        repeats=_repeats(labels[order], pcs[order], n_clusters, resolution, seed) if repeated else float("nan"),
        p_value=_p_value(pcs[order], total_counts[order], seed),
    )


def _repeats(labels: Labels, pcs: Embedding, n_clusters: int | None, resolution: float | None, seed: int) -> float:
    from sklearn.metrics import adjusted_rand_score

    found = []
    for repeat in range(N_REPEATS):
        state = seeding.derive(seed, f"repeat {repeat}")
        n_cells = min(int(REPEATED_SHARE * len(pcs)), REPEATED_CELLS)
        rows = draw_rows(len(pcs), n_cells, state, purpose="repeated cells")
        graph = snn_weights(knn_graph(pcs[rows], config=GraphConfig()))
        if n_clusters is not None:
            again = leiden_to_k(graph, n_clusters=min(n_clusters, len(rows)), seed=state, n_runs=1)
        else:
            again = leiden(graph, resolution=resolution or RESOLUTION, seed=state, n_runs=1)
        found.append(adjusted_rand_score(labels[rows], again))
    return float(np.mean(found))


def _p_value(pcs: Embedding, total_counts: Float[np.ndarray, " cell"], seed: int) -> float:
    """Rank of the cells among data without clusters, from the top, as a fraction."""
    rows = draw_rows(len(pcs), TESTED_CELLS, seed, purpose="tested cells")
    cells = pcs[rows].astype(np.float64)
    cells -= cells.mean(axis=0)
    own = _separation(cells, seed)
    rngs = [seeding.generator(seed, f"null {draw}") for draw in range(N_NULLS)]
    scores = []
    for statistic, draw in enumerate((lambda group, rng: rng.permuted(group, axis=0), _gaussian)):
        nulls = [_separation(_by_group(cells, total_counts[rows], draw, rng), seed)[statistic] for rng in rngs]
        values = np.array([own[statistic], *nulls])
        scores.append((values - values.mean()) / (values.std() + LEAST_SPREAD))
    highest = np.maximum(*scores)
    return float((highest >= highest[0]).mean())


def _by_group(
    cells: Points,
    total_counts: Float[np.ndarray, " cell"],
    draw: Callable[[Points, np.random.Generator], Points],
    rng: np.random.Generator,
) -> Points:
    """Draw the cells of each group of similar total counts again."""
    order = np.lexsort((rng.random(len(cells)), total_counts))  # equal ones: any order
    drawn = np.empty_like(cells)
    for group in np.array_split(order, max(1, len(cells) // CELLS_PER_GROUP)):
        drawn[group] = draw(cells[group], rng)
    return drawn


def _gaussian(cells: Points, rng: np.random.Generator) -> Points:
    """Draw from the Gaussian with the mean and the covariance of the cells."""
    mean = cells.mean(axis=0)
    return mean + rng.standard_normal((len(cells), len(cells))) / np.sqrt(max(len(cells) - 1, 1)) @ (cells - mean)


def _separation(points: Points, seed: int) -> tuple[float, float]:
    """Modularity and mean silhouette of Leiden communities; 0 where there is one."""
    from sklearn.metrics import silhouette_score
    from sknetwork.clustering import get_modularity

    graph = snn_weights(knn_graph(points, config=GraphConfig()))
    communities = leiden(graph, resolution=RESOLUTION, seed=seed, n_runs=1)
    if not 1 < communities.max() + 1 < len(points):
        return 0.0, 0.0
    return float(get_modularity(graph, communities)), float(silhouette_score(points, communities))
