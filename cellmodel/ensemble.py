"""Clusters from many views of the same cells: of all partitions, the one whose clusters lie farthest apart."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel import seeding
from cellmodel.cluster import MicroWardConfig, content_order, micro_ward, order_by_size
from cellmodel.graph import GraphConfig, knn_graph, smooth, snn_weights
from cellmodel.preprocess import principal_components
from cellmodel.types import CellByGene, CellGraph, Embedding, Labels

ONE_RUN: Final = MicroWardConfig(n_runs=1, fitted_cells=5_000)


@dataclass(frozen=True, kw_only=True, slots=True)
class EnsembleConfig:
    """Which views are clustered; one set of values serves every data set.

    Parameters
    ----------
    component_shares
        Numbers of principal components, as multiples of the run's own.
    n_neighbors
        Neighbours of a cell in the graph over which it is averaged.
    n_steps
        How many times it is averaged.
    runs_per_view
        Partitions of each view.
    scored_cells
        Cells on which the partitions are compared, at most; memory is quadratic in it.
    """

    component_shares: tuple[float, ...] = (2 / 3, 1.0, 5 / 3)
    n_neighbors: tuple[int, ...] = (10, 15)
    n_steps: tuple[int, ...] = (1, 2, 3)
    runs_per_view: int = 4
    scored_cells: int = 1_500

    def __post_init__(self) -> None:
        """Check the ranges."""
        several = (self.component_shares, self.n_neighbors, self.n_steps)
        if not all(several) or min(*self.component_shares, *self.n_neighbors, *self.n_steps) <= 0:
            raise ValueError(f"every view needs values > 0, got {self}")
        if self.runs_per_view < 1 or self.scored_cells < 3:  # noqa: PLR2004 - a silhouette needs three cells
            raise ValueError(f"runs_per_view must be >= 1 and scored_cells >= 3, got {self}")


def ensemble_clusters(
    expression: CellByGene,
    *,
    n_components: int,
    n_clusters: int,
    seed: int,
    spatial: CellGraph | None = None,
    config: EnsembleConfig | None = None,
) -> Labels:
    """Cluster many views of the cells by :func:`cellmodel.cluster.micro_ward` and keep the best partition.

    The views differ in the number of principal components, the number of neighbours and the steps of smoothing; none
    of these has a value that is right for all data. The partitions meet on one ground, :func:`separation` on the
    unsmoothed components, which favours the smoothing of none.

    Parameters
    ----------
    expression
        (cell, gene) log-normalised, of the genes to use.
    n_components
        Principal components of the run; the views have a little fewer and more.
    n_clusters
        Number of clusters, 1 to the number of cells.
    seed
        The run's seed. Permuting the cells permutes the clusters.
    spatial
        Graph of the nearest by place, over which the cells are averaged, too; None to leave it out.

    Returns
    -------
    Clusters of which each of 0 .. n_clusters-1 occurs, the largest first.

    Raises
    ------
    ValueError
        If ``n_clusters`` is out of range, or the expression is empty or not finite.
    """
    settings = config or EnsembleConfig()
    widths = [max(1, round(share * n_components)) for share in settings.component_shares]
    wanted = max(widths)
    order = content_order(principal_components(expression, n_components=wanted, seed=seed))
    pcs = principal_components(expression[order], n_components=wanted, seed=seed)
    sample = _sample(len(pcs), settings.scored_cells, seed)
    distances = _cosine_distances(pcs[sample])
    best, labels = -np.inf, np.zeros(len(pcs), dtype=np.int64)
    places = None if spatial is None else spatial[order][:, order]
    for run, view in enumerate(_views(pcs, widths, settings, spatial=places)):
        found = micro_ward(view, n_clusters=n_clusters, seed=seeding.derive(seed, f"view {run}"), config=ONE_RUN)
        score = separation(distances, found[sample])
        if score > best:
            best, labels = score, found
    restored = np.empty_like(labels)
    restored[order] = labels
    return order_by_size(restored)


def separation(distances: Float[np.ndarray, "cell cell"], clusters: Labels) -> float:
    """Silhouette :cite:`rousseeuw1987silhouettes`, half its mean over cells and half its mean over clusters.

    The mean over cells alone hardly sees a small cluster; the mean over clusters counts it as one of many.

    Parameters
    ----------
    distances
        Between the cells; zero on the diagonal.
    clusters
        Cluster of each cell.

    Returns
    -------
    A value in [-1, 1]; 0 where there is one cluster, or as many as cells.
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
    pcs: Embedding, widths: list[int], settings: EnsembleConfig, *, spatial: CellGraph | None
) -> Iterator[Embedding]:
    """Each view as often as it is to be clustered; one at a time, since all together would not fit for many cells."""
    for width in widths:
        components = pcs[:, :width]
        knn = knn_graph(components, config=GraphConfig(n_neighbors=max(settings.n_neighbors)))
        for n_neighbors in settings.n_neighbors:
            graph = snn_weights(_nearest(knn, n_neighbors))
            graph = graph if spatial is None else graph + spatial
            for n_steps in settings.n_steps:
                view = smooth(components, graph, n_steps=n_steps)
                for _ in range(settings.runs_per_view):
                    yield view


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


def _sample(n_cells: int, n_wanted: int, seed: int) -> Int[np.ndarray, " cell"]:
    if n_cells <= n_wanted:
        return np.arange(n_cells)
    return np.sort(seeding.generator(seed, "compared cells").choice(n_cells, n_wanted, replace=False))
