"""The neighbors graph of cells: exact or approximate search, shared neighbors, smoothing of features over it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from numpy.typing import NDArray

from cellmodel.core.arrays import (
    CellGraph,
    Embedding,
    content_order,
    in_order,
    one_openmp_thread,
    one_thread,
    row_ranges,
)
from cellmodel.core.config import GraphConfig

log = logging.getLogger(__name__)

LEAST_RECALL: Final = 0.9  # below it a warning is given
_BLOCK: Final = 10_000  # rows that are searched at once: bounds memory
_QUERIES: Final = 2_048  # rows that a thread searches for at once
_SORTED: Final = 1_024  # rows of which the distances to all candidates are taken at once, for the same reason
_COUNTED: Final = 2_000  # rows whose shared neighbors are counted at once, which takes most of the memory
_PROBES, _CANDIDATES = 40, 4  # inverted file: lists that are searched, and points for each that is wanted
_LARGE, _LONGEST_LIST = 1_000_000, 1_000  # points from which on both are doubled, and a list has so many in the mean
_SEARCHED: Final = 100_000  # points that are searched for at once, for the same reason
_TRAINED_PER_LIST, _TRAINING_ROUNDS = 32, 10
_WIDTH_STEP = 8  # faiss adds up this many dimensions at once, and a remainder one by one


def knn_graph(embedding: Embedding, *, config: GraphConfig) -> CellGraph:
    """Compute the neighbors graph: distances from every cell to its nearest others.

    Exactly ``min(n_neighbors, n_cells - 1)`` stored entries a row, never the cell itself, even where cells are equal. A
    distance of 0 is stored, so do not call ``eliminate_zeros``. Under the cosine metric, an all-zero row is at distance
    1 from every cell that is not all zero and at 0 from those that are.
    """
    return measured_knn_graph(embedding, config=config)[0]


def measured_knn_graph(embedding: Embedding, *, config: GraphConfig) -> tuple[CellGraph, float]:
    """Compute :func:`knn_graph`, and the fraction of the true nearest cells in it: 1 if exact, else measured."""
    n_cells = len(embedding)
    if n_cells == 0 or not np.isfinite(embedding).all():
        raise ValueError(f"embedding of {n_cells} cells must hold at least one cell and finite values only")
    n_neighbors = min(config.n_neighbors, n_cells - 1)
    if n_neighbors == 0:
        return sp.csr_matrix((n_cells, n_cells), dtype=np.float64), 1.0
    points = metric_points(embedding, metric=config.metric)
    is_exact = n_cells <= config.exact_up_to
    if is_exact:
        squared, neighbors = exact_search(points, points, n_neighbors=n_neighbors + 1)
    else:
        squared, neighbors = approximate_search(points, n_neighbors=n_neighbors + 1)
    squared, neighbors = without_self(squared, neighbors)
    distances = squared / 2 if config.metric == "cosine" else np.sqrt(squared)
    starts = np.arange(0, n_cells * n_neighbors + 1, n_neighbors)
    graph = sp.csr_matrix((distances.ravel(), neighbors.ravel(), starts), shape=(n_cells, n_cells))
    graph.sort_indices()
    return graph, 1.0 if is_exact else knn_recall(embedding, graph, metric=config.metric)  # warns where it is low


def snn_weights(knn: CellGraph) -> CellGraph:
    r"""Weight the kNN edges by how many neighbors their two cells share.

    The weight of edge (i, j) is the Jaccard index :math:`|N_i \cap N_j| / |N_i \cup N_j|` of the neighbor sets, each
    with the cell itself, for all pairs of which at least one is a neighbor of the other :cite:`jarvis1973snn`. The
    distances are not used. Symmetric, nothing on the diagonal.
    """
    n_cells = knn.shape[0]
    links = sp.csr_matrix((np.ones(knn.nnz, dtype=np.float32), knn.indices, knn.indptr), shape=knn.shape)
    members = _binary(links + sp.identity(n_cells, dtype=np.float32, format="csr"))
    edges = _binary(links + links.T)
    edges.setdiag(0)
    edges.eliminate_zeros()
    sizes = np.diff(members.indptr)
    owners = members.T.tocsr()

    def shared(rows: slice) -> CellGraph:
        return (members[rows] @ owners).multiply(edges[rows]).tocsr()

    ranges = (slice(at, at + _COUNTED) for at in range(0, n_cells, _COUNTED))
    graph = sp.vstack(list(in_order(shared, ranges)), format="csr")
    n_union = np.repeat(sizes, np.diff(graph.indptr)) + sizes[graph.indices] - graph.data
    graph.data = graph.data / n_union
    return graph


def smooth(features: Embedding, graph: CellGraph, *, n_steps: int = 2) -> Embedding:
    """Replace each cell by the mean of itself (weight 1) and its neighbors, ``n_steps`` times :cite:`wu2019sgc`."""
    weights = (graph + sp.identity(graph.shape[0], format="csr")).tocsr()
    totals = np.asarray(weights.sum(axis=1)).ravel()
    weights.data = weights.data / np.repeat(totals, np.diff(weights.indptr))
    smoothed, ranges = features.astype(np.float64), row_ranges(len(features))

    def averaged(rows: tuple[int, int]) -> Embedding:
        return weights[slice(*rows)] @ smoothed

    for _ in range(n_steps):
        found = np.empty_like(smoothed)
        for (start, end), block in zip(ranges, in_order(averaged, ranges), strict=True):
            found[start:end] = block
        smoothed = found
    return smoothed.astype(features.dtype)


def attach(features: Embedding, reference: Embedding, *, config: GraphConfig) -> CellGraph:
    """Link new cells with reference cells, each as if it alone had joined their graph.

    A new cell is linked with its nearest reference cells, weighted by the neighbors that they share; the graph of the
    reference itself stays as it was. Returns the rows of all cells, the reference first: row *i* has the weights with
    which cell *i* takes the values of others. Nothing is taken from new cells, so their columns are empty.
    """
    n_cells = len(reference)
    knn = knn_graph(reference, config=config)
    members = _binary(knn + sp.identity(n_cells, dtype=np.float32, format="csr"))
    n_neighbors = min(config.n_neighbors, n_cells)
    points, queries = (metric_points(rows, metric=config.metric) for rows in (reference, features))
    blocks = (queries[at : at + _BLOCK] for at in range(0, len(queries), _BLOCK))
    nearest = np.concatenate([exact_search(points, block, n_neighbors=n_neighbors)[1] for block in blocks])
    starts = np.arange(0, nearest.size + 1, n_neighbors)
    links = sp.csr_matrix((np.ones(nearest.size), nearest.ravel(), starts), shape=(len(features), n_cells))
    weights = (links @ members.T).multiply(links).tocsr()
    sizes = np.diff(members.indptr)
    n_union = n_neighbors + 1 + sizes[weights.indices] - weights.data  # the new cell is a member of its own set
    weights.data = weights.data / n_union
    graph = sp.vstack([snn_weights(knn), weights], format="csr")
    graph.resize(graph.shape[0], graph.shape[0])
    return graph


def nearest_votes(
    features: Embedding, reference: Embedding, clusters: Int[np.ndarray, " cell"], *, n_neighbors: int
) -> Float[np.ndarray, "new cluster"]:
    """Share of the nearest reference cells, by Euclidean distance in single precision, that lie in each cluster."""
    import faiss

    n_kept = min(n_neighbors, len(reference))
    center = reference.mean(axis=0, dtype=np.float64).astype(np.float32)  # so that no digit is lost to a common offset
    index = faiss.IndexFlatL2(reference.shape[1])
    index.add(np.ascontiguousarray(reference - center, dtype=np.float32))
    votes = np.zeros((len(features), int(clusters.max()) + 1))
    for start in range(0, len(features), _BLOCK):
        rows = slice(start, start + _BLOCK)
        nearest = index.search(np.ascontiguousarray(features[rows] - center, dtype=np.float32), n_kept)[1]
        for column in nearest.T:
            votes[np.arange(start, start + len(nearest)), clusters[column]] += 1
    return votes / n_kept


def without_self(
    squared: Float[np.ndarray, "cell neighbor"], neighbors: Int[np.ndarray, "cell neighbor"]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Drop the cell itself from its row or, where equal cells crowded it out, the farthest neighbor."""
    n_cells, width = neighbors.shape
    is_self = neighbors == np.arange(n_cells)[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    return squared[~is_self].reshape(n_cells, width - 1), neighbors[~is_self].reshape(n_cells, width - 1)


def _binary(graph: CellGraph) -> CellGraph:
    """Keep the stored entries, each with value 1."""
    graph = graph.tocsr()
    graph.data = np.ones_like(graph.data)
    return graph


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

    def search(rows: slice) -> tuple[Float[np.ndarray, "query neighbor"], Int[np.ndarray, "query neighbor"]]:
        with one_openmp_thread():
            squared, neighbors = index.kneighbors(queries[rows])
        return squared, neighbors.astype(np.int64)

    ranges = (slice(at, at + _QUERIES) for at in range(0, len(queries), _QUERIES))
    with one_thread():
        blocks = list(in_order(search, ranges))
    return np.concatenate([squared for squared, _ in blocks]), np.concatenate([near for _, near in blocks])


def approximate_search(
    points: Float[np.ndarray, "cell dim"], *, n_neighbors: int
) -> tuple[Float[np.ndarray, "cell neighbor"], Int[np.ndarray, "cell neighbor"]]:
    """Find most of what :func:`exact_search` finds for all points among themselves.

    An inverted file: points are compared with those of the k-means lists nearest to them, by products of 4 bits a
    dimension :cite:`andre2017quickadc`, and the distances to the nearest by these are taken in double precision. Time
    grows as n to the power 1.5 up to a million points, then in proportion. Unlike a graph built by threads it is the
    same on every run. Rows that the lists leave short are searched exactly.
    """
    import faiss

    n_padded = -points.shape[1] % _WIDTH_STEP
    order = content_order(points)  # of points at the same distance by products, the first are taken
    vectors = np.pad(points.astype(np.float32)[order], ((0, 0), (0, n_padded)))
    n_lists, width = max(round(len(vectors) ** 0.5), len(vectors) // _LONGEST_LIST), vectors.shape[1]
    quantizer = faiss.IndexFlatL2(width)
    quantizer.add(faiss_centers(vectors, n_clusters=n_lists))
    index = faiss.IndexIVFPQFastScan(quantizer, width, n_lists, width, 4)
    with _one_thread():
        index.train(_spread(vectors, _TRAINED_PER_LIST * n_lists))
    index.add(vectors)
    times = 2 if len(vectors) > _LARGE else 1
    index.nprobe = min(times * _PROBES, n_lists)
    n_candidates = min(times * _CANDIDATES * n_neighbors, len(vectors))
    neighbors, squared = (np.empty((len(vectors), n_neighbors), dtype) for dtype in (np.int64, np.float64))
    for start in range(0, len(vectors), _SEARCHED):
        rows = order[start : start + _SEARCHED]
        found = index.search(vectors[start : start + _SEARCHED], n_candidates)[1]
        found = np.where(found < 0, -1, order[found])
        squared[rows], neighbors[rows] = _nearest_candidates(points, points[rows], found, n_neighbors=n_neighbors)
    short = np.flatnonzero(np.isinf(squared).any(axis=1))
    if short.size:
        squared[short], neighbors[short] = exact_search(points, points[short], n_neighbors=n_neighbors)
    return squared, neighbors


def _nearest_candidates(
    points: Float[np.ndarray, "cell dim"],
    queries: Float[np.ndarray, "query dim"],
    candidates: Int[np.ndarray, "query candidate"],
    *,
    n_neighbors: int,
) -> tuple[Float[np.ndarray, "query neighbor"], Int[np.ndarray, "query neighbor"]]:
    """Squared distances to the nearest of some points, and their rows, in rising order; -1 is no candidate."""

    def nearest(rows: slice) -> tuple[Float[np.ndarray, "query neighbor"], Int[np.ndarray, "query neighbor"]]:
        apart = points[candidates[rows]]
        apart -= queries[rows, None]
        found = np.einsum("ijk,ijk->ij", apart, apart)
        found[candidates[rows] < 0] = np.inf
        order = np.argsort(found, axis=1, kind="stable")[:, :n_neighbors]
        return np.take_along_axis(found, order, axis=1), np.take_along_axis(candidates[rows], order, axis=1)

    blocks = list(in_order(nearest, (slice(at, at + _SORTED) for at in range(0, len(queries), _SORTED))))
    squared, neighbors = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return squared, neighbors


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let faiss fit by one thread: several change the last bits."""
    import faiss

    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(n_threads)


def _spread(vectors: Float[np.ndarray, "cell dim"], n_wanted: int) -> Float[np.ndarray, "some dim"]:
    """Take some of the points, or all; permuting the points changes nothing."""
    places = np.linspace(0, len(vectors) - 1, min(len(vectors), n_wanted)).astype(np.int64)
    return np.ascontiguousarray(vectors[content_order(vectors)[places]])


def faiss_centers(vectors: Float[np.ndarray, "cell dim"], *, n_clusters: int) -> Float[np.ndarray, "cluster dim"]:
    """Centers of a quick k-means on some of the points (float32); permuting the points changes nothing."""
    import faiss

    algorithm = faiss.Kmeans(
        vectors.shape[1],
        n_clusters,
        niter=_TRAINING_ROUNDS,
        min_points_per_centroid=1,
        max_points_per_centroid=_TRAINED_PER_LIST,
    )
    with _one_thread():
        algorithm.train(_spread(vectors, _TRAINED_PER_LIST * n_clusters))
    return np.asarray(algorithm.centroids, dtype=np.float32)


def nearest_center(
    vectors: Float[np.ndarray, "cell dim"], centers: Float[np.ndarray, "cluster dim"]
) -> Int[np.ndarray, " cell"]:
    """Row of the nearest center, Euclidean, in single precision."""
    import faiss

    index = faiss.IndexFlatL2(centers.shape[1])
    index.add(np.ascontiguousarray(centers, dtype=np.float32))
    return np.asarray(index.search(np.ascontiguousarray(vectors, dtype=np.float32), 1)[1][:, 0])


def knn_recall(
    embedding: Embedding, graph: CellGraph, *, metric: Literal["cosine", "euclidean"], n_cells: int = 1_000
) -> float:
    """Fraction of the true nearest cells that a kNN graph holds, measured on evenly spaced cells; warns below 0.9."""
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
