"""Search for the nearest points: exactly, or approximately with a recall that is measured."""

import logging
from typing import Final, Literal

import numpy as np
from jaxtyping import Float, Int

from cellmodel.core.arrays import CellGraph, Embedding, content_order

log = logging.getLogger(__name__)

LEAST_RECALL: Final = 0.9  # below it a warning is given
_LISTS_PER_ROOT, _PROBES = 2, 48  # inverted file: lists per square root of the points, and lists that are searched
_TRAINED_PER_LIST, _TRAINING_ROUNDS = 64, 10
_WIDTH_STEP = 8  # faiss adds up this many dimensions at once, and a remainder one by one


def metric_points(
    embedding: Embedding, *, metric: Literal["cosine", "euclidean"]
) -> Float[np.ndarray, "cell metric_dim"]:
    """Points whose Euclidean order is that of the metric, float64.

    Under the cosine metric rows are scaled to length 1, and all-zero rows get an axis of their own, at right angles to
    every other cell.
    """
    points = embedding.astype(np.float64)
    if metric == "euclidean":
        return points
    points /= np.maximum(np.abs(points).max(axis=1, keepdims=True, initial=0), np.finfo(np.float64).tiny)
    lengths = np.linalg.norm(points, axis=1, keepdims=True)  # of rows scaled by their maximum, so squares cannot vanish
    is_zero = lengths == 0
    return np.hstack([points / np.where(is_zero, 1, lengths), is_zero.astype(np.float64)])


def exact_search(
    points: Float[np.ndarray, "cell dim"], queries: Float[np.ndarray, "query dim"], *, n_neighbors: int
) -> tuple[Float[np.ndarray, "query neighbor"], Int[np.ndarray, "query neighbor"]]:
    """Squared Euclidean distances and row numbers of the nearest points, in rising order."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute", metric="sqeuclidean").fit(points)
    squared, neighbors = index.kneighbors(queries)
    return squared, neighbors.astype(np.int64)


def approximate_search(
    points: Float[np.ndarray, "cell dim"], *, n_neighbors: int
) -> tuple[Float[np.ndarray, "cell neighbor"], Int[np.ndarray, "cell neighbor"]]:
    """Find most of what :func:`exact_search` finds for all points among themselves, in time n to the power 1.5.

    An inverted file: points are compared with those of the k-means lists nearest to them. Unlike a graph built by
    threads it is the same on every run. Rows that the lists leave short are searched exactly.
    """
    import faiss

    n_padded = -points.shape[1] % _WIDTH_STEP
    vectors = np.pad(points.astype(np.float32), ((0, 0), (0, n_padded)))
    n_lists = max(1, min(len(vectors), round(_LISTS_PER_ROOT * len(vectors) ** 0.5)))
    quantizer = faiss.IndexFlatL2(vectors.shape[1])
    index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], n_lists)
    quantizer.add(faiss_centres(vectors, n_clusters=n_lists))
    index.is_trained = True
    index.add(vectors)
    index.nprobe = min(_PROBES, n_lists)
    squared, neighbors = index.search(vectors, n_neighbors)
    squared, neighbors = squared.astype(np.float64), neighbors.astype(np.int64)
    short = np.flatnonzero((neighbors < 0).any(axis=1))
    if short.size:
        squared[short], neighbors[short] = exact_search(points, points[short], n_neighbors=n_neighbors)
    return np.maximum(squared, 0), neighbors


def faiss_centres(vectors: Float[np.ndarray, "cell dim"], *, n_clusters: int) -> Float[np.ndarray, "cluster dim"]:
    """Centres of a quick k-means on some of the points (float32); permuting the points changes nothing."""
    import faiss

    order = content_order(vectors)
    n_trained = min(len(vectors), _TRAINED_PER_LIST * n_clusters)
    trained = vectors[order[np.linspace(0, len(vectors) - 1, n_trained).astype(np.int64)]]
    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # threads change the last bits
    try:
        algorithm = faiss.Kmeans(
            vectors.shape[1],
            n_clusters,
            niter=_TRAINING_ROUNDS,
            min_points_per_centroid=1,
            max_points_per_centroid=_TRAINED_PER_LIST,
        )
        algorithm.train(np.ascontiguousarray(trained))
    finally:
        faiss.omp_set_num_threads(n_threads)
    return np.asarray(algorithm.centroids, dtype=np.float32)


def nearest_centre(
    vectors: Float[np.ndarray, "cell dim"], centres: Float[np.ndarray, "cluster dim"]
) -> Int[np.ndarray, " cell"]:
    """Row of the nearest centre, Euclidean."""
    from sklearn.metrics import pairwise_distances_argmin

    return np.asarray(pairwise_distances_argmin(vectors, centres), dtype=np.int64)


def knn_recall(
    embedding: Embedding, graph: CellGraph, *, metric: Literal["cosine", "euclidean"], n_cells: int = 1_000
) -> float:
    """Fraction of the true nearest cells that a kNN graph holds, measured on evenly spaced cells; warns below 0.9.

    ``n_cells``: how many cells are searched exactly, at most. 1 for an exact graph; of equally far cells any counts.
    """
    width = graph.nnz // max(graph.shape[0], 1)
    if width == 0:
        return 1.0
    rows = np.unique(np.linspace(0, graph.shape[0] - 1, n_cells).astype(np.int64))
    points = metric_points(embedding, metric=metric)
    squared, nearest = exact_search(points, points[rows], n_neighbors=width + 1)
    is_self = nearest == rows[:, None]
    squared[is_self] = -1  # it comes first, and is left out; where equal cells crowd it out, one of them is
    farthest = np.sort(squared, axis=1)[:, -1:]
    found = points[graph.indices.reshape(-1, width)[rows]] - points[rows][:, None]
    recall = float(np.mean((found**2).sum(axis=2) <= farthest * (1 + 1e-6) + 1e-12))
    if recall < LEAST_RECALL:
        log.warning("recall of the nearest cells is %.2f, below %.2f; clusters may suffer", recall, LEAST_RECALL)
    return recall
