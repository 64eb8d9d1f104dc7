"""Clustering algorithms: features or a graph → clusters 0 .. k-1, each with at least one cell; soft clustering."""

import ctypes
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.core import random as seeding
from cellmodel.core.arrays import CellGraph, Embedding, Labels, content_order, in_order, one_openmp_thread, row_ranges
from cellmodel.core.config import RESOLUTION
from cellmodel.pp.neighbors import faiss_centers, nearest_center

log = logging.getLogger(__name__)
LEIDEN_RUNS: Final = 5
RESOLUTION_STEPS: Final = 24
WHOLE_UP_TO: Final = 200_000  # cells up to which Leiden runs on the cells themselves
N_MICRO: Final = 4_000  # micro-clusters of more, on which it runs
FITTED_CELLS: Final = 50_000  # k-means is fitted on so many cells at most; the others go to their nearest center
N_STARTS: Final = 5  # of the k-means that soft clusters begin with
LEAST_VARIANCE: Final = 1e-3  # of a Gaussian, in units of the mean variance of the features


def _check(n_clusters: int, n_cells: int) -> None:
    if not 1 <= n_clusters <= n_cells:
        raise ValueError(f"n_clusters must lie in 1 .. {n_cells} (the number of cells), got {n_clusters}")


@contextmanager
def _deterministic_kmeans() -> Iterator[None]:
    """Fit k-means by one thread: the order in which several add up the centers would change the last bits."""
    from sklearn.exceptions import ConvergenceWarning

    with one_openmp_thread(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Number of distinct clusters", category=ConvergenceWarning)
        yield


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
    """Plain k-means, the best of ``n_init`` starts by inertia; permuting the cells permutes the clusters.

    Each of 0 .. n_clusters-1 occurs: equal cells are parted where there are too few distinct ones.
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
    """Communities of a weighted graph by Leiden :cite:`traag2019leiden`, the best modularity of a few runs."""
    if graph.nnz == 0:
        return np.arange(graph.shape[0], dtype=np.int64)
    from sknetwork.clustering import Leiden, get_modularity

    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    runs = []
    for run in range(n_runs):
        state = seeding.derive(seed, f"leiden {run}")
        library.srand(ctypes.c_uint(state))  # scikit-network's refinement draws from C's rand
        algorithm = Leiden(resolution=resolution, shuffle_nodes=True, random_state=state)
        runs.append(algorithm.fit_predict(graph))
    best = int(np.argmax([get_modularity(graph, clusters, resolution=resolution) for clusters in runs]))
    return _compact(runs[best])


def leiden_to_k(
    graph: CellGraph, *, n_clusters: int, seed: int, n_runs: int = LEIDEN_RUNS, n_steps: int = RESOLUTION_STEPS
) -> Labels:
    """Communities at the resolution that gives a wanted number, found by bisection of at most ``n_steps``.

    Where none gives it, those of the next larger number are merged, the pair that is most linked for its size first.
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

    A cluster that would vanish keeps its cells, with a warning.
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

    def of_block(rows: tuple[int, int]) -> Float[np.ndarray, " cell"]:
        block, labels = features[slice(*rows)], clusters[slice(*rows)]
        distances = np.stack([np.linalg.norm(block - center, axis=1) for center in centers], axis=1)
        cell = np.arange(len(block))
        own = distances[cell, labels]
        distances[cell, labels] = np.inf
        nearest = distances.min(axis=1)
        ratio = np.divide(own, nearest, out=np.ones_like(own), where=nearest > 0)
        return np.asarray(np.clip(1.0 - ratio, 0.0, 1.0))

    return np.concatenate(list(in_order(of_block, row_ranges(len(features)))))


def coarse_graph(graph: CellGraph, points: Embedding, *, n_micro: int) -> tuple[CellGraph, Labels]:
    """Merge cells into micro-clusters by k-means, and add up the weights between and within these.

    With the weight within a micro-cluster on the diagonal, the modularity of clusters of micro-clusters is that of the
    same clusters of cells. No micro-cluster is empty.
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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SoftClusters:
    """Clusters, and whether the solver came to an end."""

    labels: Labels  # 0 the largest; fewer clusters than asked for where one stayed empty
    n_rounds: int  # rounds that were made
    converged: bool  # whether the last round changed nothing that counts, and its solver reached its tolerance


def gaussian_mixture(features: Embedding, *, n_clusters: int, seed: int) -> SoftClusters:
    """Fit a mixture of Gaussians, each with a variance of its own in each dimension, from k-means clusters."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    start = kmeans(features, n_clusters=n_clusters, seed=seed, n_init=N_STARTS)
    centered = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    points = centered / max(float(np.sqrt(centered.var(axis=0).mean())), 1e-12)  # a mean variance of one
    sizes = np.bincount(start, minlength=n_clusters)
    means = cluster_means(points, start)
    variances = np.maximum(cluster_means(points**2, start) - means**2, 0.0) + LEAST_VARIANCE
    mixture = GaussianMixture(
        n_clusters,
        covariance_type="diag",
        weights_init=sizes / sizes.sum(),
        means_init=means,
        precisions_init=1 / variances,  # without these it would draw a k-means of its own, by the order of the cells
        reg_covar=LEAST_VARIANCE,
        max_iter=300,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning)  # reported in the result
        labels = mixture.fit_predict(points)
    return SoftClusters(labels=order_by_size(labels), n_rounds=mixture.n_iter_, converged=bool(mixture.converged_))


def transport_clusters(
    features: Embedding,
    *,
    n_clusters: int,
    seed: int,
    smoothing: float = 0.1,
    sharpness: float = 5.0,
    n_rounds: int = 50,
) -> SoftClusters:
    r"""Assign cells to centers by optimal transport and move the centers, in turns, from k-means clusters.

    The assignment is the transport plan between cells of equal mass and clusters whose masses are those of the current
    assignment shrunk towards equal ones :cite:`asano2020selflabelling`, with cost
    :math:`\lVert z_i - \mu_c \rVert^2` and entropic regularization; a center is the mean of the cells by the plan.

    ``smoothing``: how far cluster sizes are shrunk towards equal ones: 0 leaves them, 1 makes them equal; measured on
    nine data sets, equal sizes cost more than any smoothing gains. ``sharpness``: inverse of the entropic
    regularization, in units of the mean squared distance of the cells to their k-means centers.
    """
    import torch
    from torch.nn import functional as F

    from cellmodel.nn.soft_assignment import cluster_masses, sinkhorn_target

    start = kmeans(features, n_clusters=n_clusters, seed=seed, n_init=N_STARTS)
    points = torch.from_numpy(features.astype(np.float64))
    centers = torch.from_numpy(cluster_means(features.astype(np.float64), start))
    spread = max(float((points - centers[torch.from_numpy(start)]).square().sum(dim=1).mean()), 1e-12)
    nearest = torch.from_numpy(start)
    rounds, target, moved = 0, None, True
    while moved and rounds < n_rounds:
        rounds += 1
        log_q = F.log_softmax(-torch.cdist(points, centers).square() / spread, dim=1)
        masses = cluster_masses(F.log_softmax(sharpness * log_q, dim=1), smoothing=smoothing)
        target = sinkhorn_target(log_q, masses, sharpness=sharpness)
        centers = target.p.T @ points / target.p.sum(dim=0)[:, None]
        assigned = target.p.argmax(dim=1)
        moved, nearest = not torch.equal(assigned, nearest), assigned
    solved = target is not None and target.converged
    return SoftClusters(labels=order_by_size(nearest.numpy()), n_rounds=rounds, converged=solved and not moved)
