"""Clustering algorithms: features or a graph → clusters 0 .. k-1, each with at least one cell."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.core import random as seeding
from cellmodel.core.arrays import CellGraph, Embedding, Labels, content_order
from cellmodel.core.config import RESOLUTION
from cellmodel.pp.neighbors import faiss_centers, nearest_center

log = logging.getLogger(__name__)
LEIDEN_RUNS: Final = 5
RESOLUTION_STEPS: Final = 24
WHOLE_UP_TO: Final = 200_000  # cells up to which Leiden runs on the cells themselves
N_MICRO: Final = 4_000  # micro-clusters of more, on which it runs
FITTED_CELLS: Final = 50_000  # k-means is fitted on so many cells at most; the others go to their nearest center


def _check(n_clusters: int, n_cells: int) -> None:
    if not 1 <= n_clusters <= n_cells:
        raise ValueError(f"n_clusters must lie in 1 .. {n_cells} (the number of cells), got {n_clusters}")


@contextmanager
def _deterministic_kmeans() -> Iterator[None]:
    """Fit k-means by one thread, and without sklearn's warning where fewer cells differ than there are clusters.

    Threads would add up the centers in the order in which they finish, which changes the last bits.
    """
    from sklearn.exceptions import ConvergenceWarning

    with _thread_pools().limit(limits=1, user_api="openmp"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Number of distinct clusters", category=ConvergenceWarning)
        yield


@cache
def _thread_pools() -> Any:
    """Find the thread pools of this process, once: that takes as long as a small k-means."""
    import sklearn.cluster  # noqa: F401 - its pools have to be there
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # ships no types

    return ThreadpoolController()


def _fill_up(features: Embedding, clusters: Labels, *, n_clusters: int) -> Labels:
    """Give each missing cluster one cell: the one farthest from the mean of a cluster that has others."""
    clusters = clusters.copy()
    for missing in range(int(clusters.max()) + 1, n_clusters):
        sizes = np.bincount(clusters)
        distance = np.linalg.norm(features - cluster_means(features, clusters)[clusters], axis=1)
        clusters[np.argmax(np.where(sizes[clusters] > 1, distance, -1.0))] = missing
    return clusters


def _compact(clusters: np.ndarray) -> Labels:
    """Renumber clusters 0 .. k-1 without gaps."""
    return np.unique(clusters, return_inverse=True)[1].astype(np.int64)


def draw_rows(n_cells: int, n_wanted: int, seed: int, *, purpose: str) -> Int[np.ndarray, " cell"]:
    """Draw some of the cells, in their order; all where there are no more."""
    if n_cells <= n_wanted:
        return np.arange(n_cells)
    return np.sort(seeding.generator(seed, purpose).choice(n_cells, n_wanted, replace=False))


def cluster_means(features: Float[np.ndarray, "cell dim"], clusters: Labels) -> Float[np.ndarray, "cluster dim"]:
    """Mean of the features in each cluster, float64."""
    sums = np.zeros((int(clusters.max()) + 1, features.shape[1]))
    np.add.at(sums, clusters, features)
    return sums / np.bincount(clusters)[:, None]


def kmeans(features: Embedding, *, n_clusters: int, seed: int, n_init: int = 20) -> Labels:
    """Plain k-means, the best of ``n_init`` starts by inertia.

    ``features``: (cell, dim), Euclidean. ``n_clusters``: number of clusters, 1 to the number of cells. Random draws
    follow the features and not the position of the cells, so that permuting the cells permutes the clusters. Each of
    0 .. n_clusters-1 occurs; equal cells are parted where there are too few distinct ones. Raises ``ValueError`` if
    ``n_clusters`` is out of range, or a feature is not finite.
    """
    from sklearn.cluster import KMeans

    _check(n_clusters, len(features))
    n_bad = int(np.count_nonzero(~np.isfinite(features)))
    if n_bad:
        raise ValueError(f"{n_bad} of {features.size} features are NaN or infinite, all must be finite")
    order, state = content_order(features), seeding.derive(seed, "k-means")
    points = features[order]
    fitted = points[draw_rows(len(points), FITTED_CELLS, state, purpose="fitted cells")]
    algorithm = KMeans(min(n_clusters, len(fitted)), n_init=n_init, random_state=state)
    with _deterministic_kmeans():
        clusters = _compact(algorithm.fit(fitted).predict(points))
    restored = np.empty_like(clusters)
    restored[order] = _fill_up(points, clusters, n_clusters=n_clusters)
    return order_by_size(restored)


def leiden(graph: CellGraph, *, resolution: float, seed: int, n_runs: int = LEIDEN_RUNS) -> Labels:
    """Communities of a weighted graph by Leiden :cite:`traag2019leiden`, the best modularity of a few runs.

    ``graph``: symmetric weights, zero diagonal. ``resolution``: resolution of the modularity; higher gives more
    communities. ``n_runs``: runs, of which the one with the best modularity is kept. Raises ``ValueError`` if
    ``resolution`` is not positive.
    """
    if resolution <= 0:
        raise ValueError(f"resolution must be > 0, got {resolution}")
    if graph.nnz == 0:
        return np.arange(graph.shape[0], dtype=np.int64)
    from sknetwork.clustering import Leiden, get_modularity

    runs = []
    for run in range(n_runs):
        state = seeding.derive(seed, f"leiden {run}")
        _seed_c_library(state)
        algorithm = Leiden(resolution=resolution, shuffle_nodes=True, random_state=state)
        runs.append(algorithm.fit_predict(graph))
    best = int(np.argmax([get_modularity(graph, clusters, resolution=resolution) for clusters in runs]))
    return _compact(runs[best])


def _seed_c_library(seed: int) -> None:
    """Seed C's ``rand``: scikit-network's refinement draws from it, and its random_state does not reach there."""
    import ctypes
    import sys

    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    library.srand(ctypes.c_uint(seed))


def leiden_to_k(
    graph: CellGraph, *, n_clusters: int, seed: int, n_runs: int = LEIDEN_RUNS, n_steps: int = RESOLUTION_STEPS
) -> Labels:
    """Communities at the resolution that gives a wanted number, found by bisection.

    Where none gives it, those of the next larger number are merged, the pair that is most linked for its size first.

    ``n_runs``: as in :func:`leiden`. ``n_steps``: resolutions that are tried, at most. Raises ``ValueError`` if
    ``n_clusters`` is out of range.
    """
    _check(n_clusters, graph.shape[0])
    low, high = 1e-3, 64.0
    fewest = np.arange(graph.shape[0], dtype=np.int64)  # of the partitions into at least so many
    for _ in range(n_steps):
        middle = float(np.sqrt(low * high))
        tried = leiden(graph, resolution=middle, seed=seed, n_runs=n_runs)
        found = int(tried.max()) + 1
        if n_clusters <= found <= fewest.max():
            fewest = tried
        if found == n_clusters:
            break
        low, high = (middle, high) if found < n_clusters else (low, middle)
    return _merge_communities(graph, fewest, n_clusters=n_clusters)


def _merge_communities(graph: CellGraph, communities: Labels, *, n_clusters: int) -> Labels:
    """Merge the two communities with the most weight between them for the product of their degrees, again and again."""
    members = sp.csr_matrix((np.ones(len(communities)), communities, np.arange(len(communities) + 1)))
    weights = (members.T @ graph @ members).toarray()
    weights += np.finfo(np.float64).tiny + 1e-9 * weights.mean()  # of the unlinked the smallest are merged
    merged = np.arange(len(weights))
    while len(weights) > n_clusters:
        degrees = weights.sum(axis=1)
        linked = weights / np.outer(degrees, degrees)
        np.fill_diagonal(linked, -1.0)
        one, other = sorted(np.unravel_index(linked.argmax(), linked.shape))
        weights[one] += weights[other]
        weights[:, one] += weights[:, other]
        weights = np.delete(np.delete(weights, other, axis=0), other, axis=1)
        merged = np.where(merged == other, one, merged - (merged > other))
    return np.asarray(merged[communities], dtype=np.int64)


def order_by_size(clusters: Labels) -> Labels:
    """Renumber clusters so that 0 is the largest; equal sizes by their first cell."""
    _, first, codes, sizes = np.unique(clusters, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[codes]


def smooth_by_majority(clusters: Labels, neighbors: Int[np.ndarray, "cell neighbor"]) -> Labels:
    """Give each cell the cluster that most of its neighbors and itself have; on a tie its own, else the lower number.

    A cluster that would vanish keeps its cells, with a warning. Clusters are renumbered by size.
    """
    n_cells = len(clusters)
    votes = np.zeros((n_cells, int(clusters.max()) + 1))
    rows = np.arange(n_cells)
    np.add.at(votes, (rows[:, None], clusters[neighbors]), 1.0)
    votes[rows, clusters] += 1.5  # its own vote, and half of one to win a tie
    voted = votes.argmax(axis=1)
    kept = np.setdiff1d(clusters, voted)
    while len(lost := np.setdiff1d(clusters, np.where(np.isin(clusters, kept), clusters, voted))):
        kept = np.concatenate([kept, lost])  # of whose voters the cells above are taken back
    if len(kept):
        sizes = ", ".join(f"{size:,}" for size in np.bincount(clusters)[kept])
        log.warning("clusters of size %s would vanish when labels are smoothed; they keep their spots", sizes)
    return order_by_size(np.where(np.isin(clusters, kept), clusters, voted))


def confidence(features: Embedding, clusters: Labels) -> Float[np.ndarray, " cell"]:
    r"""How clearly each cell lies in its cluster, from its distances to the clusters' centers.

    .. math:: c_i = 1 - d_i^{own} / d_i^{next}, \text{ clipped to } [0, 1]

    This is the simplified silhouette :cite:`hruschka2004simplified`: 1 at the center, 0 half-way to the next cluster or
    beyond. With one cluster every cell has 1.
    """
    n_clusters = int(clusters.max()) + 1
    if n_clusters == 1:
        return np.ones(len(clusters))
    centers = cluster_means(features, clusters)
    own = np.linalg.norm(features - centers[clusters], axis=1)
    nearest = np.full(len(clusters), np.inf)
    for cluster in range(n_clusters):
        distance = np.linalg.norm(features - centers[cluster], axis=1)
        nearest = np.where(clusters == cluster, nearest, np.minimum(nearest, distance))
    ratio = np.divide(own, nearest, out=np.ones_like(own), where=nearest > 0)
    return np.asarray(np.clip(1.0 - ratio, 0.0, 1.0))


def coarse_graph(graph: CellGraph, points: Embedding, *, n_micro: int) -> tuple[CellGraph, Labels]:
    """Merge cells into micro-clusters by k-means, and add up the weights between and within these.

    With the weight within a micro-cluster on the diagonal, the modularity of clusters of micro-clusters is that of the
    same clusters of cells.

    ``graph``: symmetric weights, zero diagonal. ``points``: what the cells are merged by, Euclidean. Returns weights of
    the micro-clusters, and the micro-cluster of each cell; none is empty.
    """
    n_cells = len(points)
    vectors = np.ascontiguousarray(points, dtype=np.float32)
    nearest = nearest_center(vectors, faiss_centers(vectors, n_clusters=min(n_micro, n_cells)))
    micro = np.unique(nearest, return_inverse=True)[1].astype(np.int64)
    members = sp.csr_matrix((np.ones(n_cells), micro, np.arange(n_cells + 1)))
    merged: CellGraph = (members.T @ graph @ members).tocsr()
    merged.sort_indices()
    return merged, micro


def communities(
    graph: CellGraph,
    points: Embedding,
    *,
    n_clusters: int | None = None,
    resolution: float = RESOLUTION,
    seed: int,
    whole_up_to: int = WHOLE_UP_TO,
    n_micro: int = N_MICRO,
) -> Labels:
    """Leiden communities at a resolution, or of a number: of cells, of micro-clusters of the points where many.

    Random draws follow the points of the cells and not their positions.

    ``n_clusters``: in place of the resolution, see :func:`leiden_to_k`. ``whole_up_to``: cells up to which Leiden runs
    on the cells themselves. ``n_micro``: micro-clusters of more. Raises ``ValueError`` if ``n_clusters`` is out of
    range.
    """

    def cluster(graph: CellGraph) -> Labels:
        if n_clusters is None:
            return leiden(graph, resolution=resolution, seed=seed)
        return leiden_to_k(graph, n_clusters=n_clusters, seed=seed)

    if len(points) > whole_up_to:
        merged, micro = coarse_graph(graph, points, n_micro=max(n_micro, 3 * (n_clusters or 0)))
        return cluster(merged)[micro]
    order = content_order(points)
    labels = np.empty(len(points), dtype=np.int64)
    labels[order] = cluster(graph[order][:, order])
    return labels
