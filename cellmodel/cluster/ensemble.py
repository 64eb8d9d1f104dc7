"""Clusters from many views of the same cells: of all partitions, the one whose clusters lie farthest apart."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.cluster.algorithms import MicroWardConfig, draw_rows, micro_ward, restore_order
from cellmodel.core import random as seeding
from cellmodel.core.arrays import CellGraph, Embedding, Labels, content_order
from cellmodel.core.config import EnsembleConfig, GraphConfig
from cellmodel.pp.neighbors import knn_graph, nearest_votes, smoothing, snn_weights

ONE_RUN: Final = MicroWardConfig(n_runs=1, fitted_cells=5_000)
_BLOCK: Final = 50_000  # cells that follow others at once: bounds memory


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Components:
    """Components of cells by their number."""

    widest: Embedding
    own: Mapping[int, Embedding]  # those that are not the leading ones of ``widest``

    def of(self, width: int) -> Embedding:
        """Give so many of them, or all there are."""
        return self.own[width] if width in self.own else self.widest[:, :width]

    def take(self, rows: Int[np.ndarray, " row"]) -> "_Components":
        """Keep some cells."""
        return _Components(widest=self.widest[rows], own={width: each[rows] for width, each in self.own.items()})


def ensemble_clusters(
    pcs: Embedding,
    *,
    n_components: int,
    n_clusters: int,
    seed: int,
    own: Mapping[int, Embedding] | None = None,
    spatial: CellGraph | None = None,
    config: EnsembleConfig | None = None,
) -> Labels:
    """Cluster many views of the cells by :func:`cellmodel.cluster.algorithms.micro_ward` and keep the best partition.

    The views differ in the number of principal components, the number of neighbours and the steps of smoothing; none
    of these has a value that is right for all data. The partitions are compared by :func:`separation` on the
    unsmoothed components, which favours the smoothing of none.

    ``pcs``: (cell, dim) leading component first, may be mapped from a file; 5/3 of ``n_components``, or all there are.
    ``n_components``: principal components of the run; the views have a little fewer and more. ``n_clusters``: 1 to the
    number of cells. ``own``: integrated components by their number, in place of the leading ones of ``pcs``. ``seed``:
    the run's seed. Permuting the cells permutes the clusters. ``spatial``: graph of the
    nearest by coordinates, over which the cells are averaged, too. Returns clusters of which each of
    0 .. n_clusters-1 occurs, the largest first. Raises ``ValueError`` if ``n_clusters`` is out of range, or a component
    is not finite.
    """
    settings = config or EnsembleConfig()
    order = content_order(pcs)
    near = None if spatial is None else spatial[order][:, order]
    components = _Components(widest=pcs, own=own or {}).take(order)
    widths = settings.widths(n_components)
    labels = _in_order(components, near, widths=widths, n_clusters=n_clusters, seed=seed, settings=settings)
    return restore_order(labels, order)


def _in_order(
    components: _Components,
    spatial: CellGraph | None,
    *,
    widths: list[int],
    n_clusters: int,
    seed: int,
    settings: EnsembleConfig,
) -> Labels:
    """Clusters of cells in an order of their own; with places all cells take part, as a sample has few neighbours."""
    n_cells = len(components.widest)
    if spatial is not None or n_cells <= settings.whole_up_to:
        return _best_partition(components, spatial, widths=widths, n_clusters=n_clusters, seed=seed, settings=settings)[
            0
        ]
    drawn = draw_rows(n_cells, settings.sampled_cells, seed, purpose="clustered cells")
    sampled = components.take(drawn)
    clusters, width = _best_partition(sampled, None, widths=widths, n_clusters=n_clusters, seed=seed, settings=settings)
    labels = np.empty(n_cells, dtype=np.int64)
    for start in range(0, n_cells, _BLOCK):
        rows = slice(start, start + _BLOCK)
        votes = nearest_votes(components.of(width)[rows], sampled.of(width), clusters, n_neighbors=settings.n_voters)
        labels[rows] = votes.argmax(axis=1)
    labels[drawn] = clusters
    return labels


def _best_partition(
    components: _Components,
    spatial: CellGraph | None,
    *,
    widths: list[int],
    n_clusters: int,
    seed: int,
    settings: EnsembleConfig,
) -> tuple[Labels, int]:
    """Clusters that lie farthest apart, and the number of components of the view that they were found in."""
    n_cells = len(components.widest)
    sample = draw_rows(n_cells, settings.scored_cells, seed, purpose="compared cells")
    distances = _cosine_distances(components.widest[sample])
    best, labels, width = -np.inf, np.zeros(n_cells, dtype=np.int64), widths[0]
    for run, (n_components, view) in enumerate(_views(components, widths, settings, spatial=spatial)):
        found = micro_ward(view, n_clusters=n_clusters, seed=seeding.derive(seed, f"view {run}"), config=ONE_RUN)
        score = separation(distances, found[sample])
        if score > best:
            best, labels, width = score, found, n_components
    return labels, width


def separation(distances: Float[np.ndarray, "cell cell"], clusters: Labels) -> float:
    """Silhouette :cite:`rousseeuw1987silhouettes`, half its mean over cells and half its mean over clusters.

    The mean over cells alone hardly sees a small cluster; the mean over clusters counts it as one of many.

    ``distances``: between the cells; zero on the diagonal. ``clusters``: cluster of each cell. Returns a value in [-1,
    1]; 0 where there is one cluster, or as many as cells.
    """
    from sklearn.metrics import silhouette_samples

    codes, sizes = np.unique(clusters, return_inverse=True, return_counts=True)[1:]
    if not 1 < len(sizes) < len(clusters):
        return 0.0
    widths = silhouette_samples(distances, codes, metric="precomputed")
    return float(widths.mean() + (np.bincount(codes, widths) / sizes).mean()) / 2


def _cosine_distances(features: Embedding) -> Float[np.ndarray, "cell cell"]:
    from sklearn.metrics.pairwise import cosine_distances

    distances: Float[np.ndarray, "cell cell"] = cosine_distances(features)
    return distances


def _views(
    components: _Components, widths: list[int], settings: EnsembleConfig, *, spatial: CellGraph | None
) -> Iterator[tuple[int, Embedding]]:
    """Each view with its number of components, as often as it is to be clustered; one at a time, to save memory."""
    for width in widths:
        pcs = components.of(width)
        knn = knn_graph(pcs, config=GraphConfig(n_neighbors=max(settings.n_neighbors)))
        for n_neighbors in settings.n_neighbors:
            graph = snn_weights(_nearest(knn, n_neighbors))
            graph = graph if spatial is None else graph + spatial
            steps = list(islice(smoothing(pcs, graph), max(settings.n_steps) + 1))
            for n_steps in settings.n_steps:
                for _ in range(settings.runs_per_view):
                    yield width, steps[n_steps]


def _nearest(knn: CellGraph, n_neighbors: int) -> CellGraph:
    """Keep the nearest of each cell's neighbours; every row holds equally many."""
    n_cells = knn.shape[0]
    width = knn.nnz // n_cells
    if width <= n_neighbors:
        return knn
    distances, neighbors = knn.data.reshape(n_cells, width), knn.indices.reshape(n_cells, width)
    kept = np.sort(np.argsort(distances, axis=1, kind="stable")[:, :n_neighbors], axis=1)
    starts = np.arange(0, n_cells * n_neighbors + 1, n_neighbors)
    chosen = (np.take_along_axis(each, kept, axis=1).ravel() for each in (distances, neighbors))
    return sp.csr_matrix((*chosen, starts), shape=knn.shape)
