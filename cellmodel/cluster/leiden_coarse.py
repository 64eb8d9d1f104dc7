"""Leiden for many cells: on micro-clusters, whose graph keeps all the weight of the graph of the cells."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from cellmodel.cluster.algorithms import leiden, leiden_to_k
from cellmodel.core.arrays import CellGraph, Embedding, Labels
from cellmodel.pp.neighbors import faiss_centres, nearest_centre


@dataclass(frozen=True, kw_only=True, slots=True)
class CoarseConfig:
    """From how many cells on Leiden runs on micro-clusters, and on how many; one set of values for all data."""

    whole_up_to: int = 200_000  # cells up to which it runs on the cells themselves
    n_micro: int = 4_000

    def __post_init__(self) -> None:
        """Check the ranges."""
        if min(self.whole_up_to, self.n_micro) < 1:
            raise ValueError(f"whole_up_to and n_micro must be >= 1, got {self.whole_up_to} and {self.n_micro}")


def coarse_graph(graph: CellGraph, points: Embedding, *, n_micro: int) -> tuple[CellGraph, Labels]:
    """Merge cells into micro-clusters by k-means, and add up the weights between and within these.

    With the weight within a micro-cluster on the diagonal, the modularity of clusters of micro-clusters is that of the
    same clusters of cells.

    ``graph``: symmetric weights, zero diagonal. ``points``: what the cells are merged by, Euclidean. Returns weights of
    the micro-clusters, and the micro-cluster of each cell; none is empty.
    """
    n_cells = len(points)
    vectors = np.ascontiguousarray(points, dtype=np.float32)
    nearest = nearest_centre(vectors, faiss_centres(vectors, n_clusters=min(n_micro, n_cells)))
    micro = np.unique(nearest, return_inverse=True)[1].astype(np.int64)
    members = sp.csr_matrix((np.ones(n_cells), micro, np.arange(n_cells + 1)))
    merged: CellGraph = (members.T @ graph @ members).tocsr()
    merged.sort_indices()
    return merged, micro


def coarse_leiden(
    graph: CellGraph, points: Embedding, *, resolution: float, seed: int, config: CoarseConfig | None = None
) -> Labels:
    """:func:`cellmodel.cluster.algorithms.leiden`, on micro-clusters of the points where there are many cells."""
    settings = config or CoarseConfig()
    if len(points) <= settings.whole_up_to:
        return leiden(graph, resolution=resolution, seed=seed)
    merged, micro = coarse_graph(graph, points, n_micro=settings.n_micro)
    return leiden(merged, resolution=resolution, seed=seed)[micro]


def coarse_leiden_to_k(
    graph: CellGraph, points: Embedding, *, n_clusters: int, seed: int, config: CoarseConfig | None = None
) -> Labels:
    """:func:`cellmodel.cluster.algorithms.leiden_to_k`, on micro-clusters of the points where there are many cells.

    Raises ``ValueError`` if ``n_clusters`` is out of range.
    """
    settings = config or CoarseConfig()
    if len(points) <= settings.whole_up_to:
        return leiden_to_k(graph, n_clusters=n_clusters, seed=seed)
    merged, micro = coarse_graph(graph, points, n_micro=max(settings.n_micro, 3 * n_clusters))
    return leiden_to_k(merged, n_clusters=n_clusters, seed=seed)[micro]
