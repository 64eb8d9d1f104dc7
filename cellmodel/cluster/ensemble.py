"""Clusters from many views of the same cells, by two methods: the partition that two label-free measures favour."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Final, Literal

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.cluster.algorithms import (
    CoarseConfig,
    MicroWardConfig,
    coarse_leiden_to_k,
    draw_rows,
    micro_ward,
    restore_order,
)
from cellmodel.core import random as seeding
from cellmodel.core.arrays import CellGraph, Embedding, Labels, content_order
from cellmodel.core.config import EnsembleConfig, GraphConfig
from cellmodel.pp.neighbors import knn_graph, nearest_votes, smoothing, snn_weights

Method = Literal["micro-ward", "communities"]
ONE_RUN: Final = MicroWardConfig(n_runs=1, fitted_cells=5_000)
COARSE: Final = CoarseConfig(whole_up_to=5_000, n_micro=2_000)  # of the communities
COMMUNITY_STEPS: Final = 14  # resolutions at which communities are searched for a number of clusters
_BLOCK: Final = 50_000  # cells that follow others at once: bounds memory
_COMPARED: Final = 250  # cells whose distances are in double precision at once, for the same reason


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Candidate:
    """A partition that is compared with others."""

    method: Method
    n_components: int  # of the view that it was found in
    labels: Labels
    separation: float
    modularity: float
    score: float  # by which it is compared


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
    config: EnsembleConfig | None = None,
) -> Labels:
    """Cluster many views of the cells by two methods and keep the best partition by two label-free measures.

    One is :func:`cellmodel.cluster.algorithms.micro_ward`, in views that differ in the number of principal components,
    the number of neighbours and the steps of smoothing: it finds types of unequal size that lie apart. The other is
    Leiden on the shared-neighbour graph of each number of components, its resolution searched to the number of
    clusters: it finds near and graded types of about one size. Neither, and no view, is right for all data. The
    partitions are compared by :func:`separation` on the unsmoothed components, which favours the smoothing of none,
    plus a tenth of their :func:`modularity`, which decides between those that lie about equally far apart.

    ``pcs``: (cell, dim) leading component first, may be mapped from a file; 5/3 of ``n_components``, or all there are.
    ``n_components``: principal components of the run; the views have a little fewer and more. ``n_clusters``: 1 to the
    number of cells. ``own``: integrated components by their number, in place of the leading ones of ``pcs``. ``seed``:
    the run's seed. Permuting the cells permutes the clusters. Returns clusters of which each of 0 .. n_clusters-1
    occurs, the largest first. Raises ``ValueError`` if ``n_clusters`` is out of range, or a component is not finite.
    """
    settings = config or EnsembleConfig()
    order = content_order(pcs)
    components = _Components(widest=pcs, own=own or {}).take(order)
    compare = _Comparison(n_clusters=n_clusters, seed=seed, widths=settings.widths(n_components), settings=settings)
    return restore_order(_in_order(components, compare), order)


def candidates(
    pcs: Embedding, *, n_components: int, n_clusters: int, seed: int, config: EnsembleConfig | None = None
) -> Iterator[Candidate]:
    """Give every partition that :func:`ensemble_clusters` compares; arguments as there. No cells are left out."""
    settings = config or EnsembleConfig()
    order = content_order(pcs)
    compare = _Comparison(n_clusters=n_clusters, seed=seed, widths=settings.widths(n_components), settings=settings)
    for candidate in compare.candidates(_Components(widest=pcs, own={}).take(order)):
        yield replace(candidate, labels=restore_order(candidate.labels, order))


def _in_order(components: _Components, compare: "_Comparison") -> Labels:
    """Clusters of cells in an order of their own; many take those of the nearest of a sample."""
    n_cells, settings = len(components.widest), compare.settings
    if n_cells <= settings.whole_up_to:
        return compare.best(components).labels
    drawn = draw_rows(n_cells, settings.sampled_cells, compare.seed, purpose="clustered cells")
    sampled = components.take(drawn)
    best = compare.best(sampled)
    reference = sampled.of(best.n_components)
    labels = np.empty(n_cells, dtype=np.int64)
    for start in range(0, n_cells, _BLOCK):
        rows = slice(start, start + _BLOCK)
        features = components.of(best.n_components)[rows]
        votes = nearest_votes(features, reference, best.labels, n_neighbors=settings.n_voters)
        labels[rows] = votes.argmax(axis=1)
    labels[drawn] = best.labels
    return labels


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Comparison:
    """What the partitions of cells have in common."""

    n_clusters: int
    seed: int
    widths: list[int]
    settings: EnsembleConfig

    def best(self, components: _Components) -> Candidate:
        """Give the best partition; of equal ones the first."""
        return max(self.candidates(components), key=lambda candidate: candidate.score)

    def candidates(self, components: _Components) -> Iterator[Candidate]:
        """Give every partition; in each number of components those of micro-clusters first."""
        sample = draw_rows(len(components.widest), self.settings.scored_cells, self.seed, purpose="compared cells")
        distances = _cosine_distances(components.widest[sample])
        middle = sorted(self.widths)[len(self.widths) // 2]
        reference = self._graphs(components.of(middle))
        seeds = (seeding.derive(self.seed, f"view {run}") for run in count())
        for width in self.widths:
            graphs = reference if width == middle else self._graphs(components.of(width))
            for method, labels in self._partitions(components.of(width), *graphs, seeds):
                apart = separation(distances, labels[sample])
                dense = modularity(reference[1], labels)
                yield Candidate(
                    method=method,
                    n_components=width,
                    labels=labels,
                    separation=apart,
                    modularity=dense,
                    score=apart + self.settings.modularity_weight * dense,
                )

    def _graphs(self, pcs: Embedding) -> tuple[CellGraph, CellGraph]:
        """Nearest cells, as many as in the view of most, and the weights of shared neighbours."""
        knn = knn_graph(pcs, config=GraphConfig(n_neighbors=max(self.settings.n_neighbors)))
        return knn, snn_weights(knn)

    def _partitions(
        self, pcs: Embedding, knn: CellGraph, shared: CellGraph, seeds: Iterator[int]
    ) -> Iterator[tuple[Method, Labels]]:
        """Give method and clusters of the partitions of some components; ``seeds``: of the views."""
        for view in _views(pcs, knn, shared, self.settings):
            yield "micro-ward", micro_ward(view, n_clusters=self.n_clusters, seed=next(seeds), config=ONE_RUN)
        found = _communities(pcs, shared, n_clusters=self.n_clusters, seed=self.seed)
        if found is not None:
            yield "communities", found


def _communities(pcs: Embedding, shared: CellGraph, *, n_clusters: int, seed: int) -> Labels | None:
    """Communities of the shared-neighbour graph, as many as clusters; None where no resolution gives that number."""
    found = coarse_leiden_to_k(
        shared, pcs, n_clusters=n_clusters, seed=seed, n_runs=1, n_steps=COMMUNITY_STEPS, config=COARSE
    )
    return found if int(found.max()) + 1 == n_clusters else None


def separation(distances: Float[np.ndarray, "cell cell"], clusters: Labels) -> float:
    """Silhouette :cite:`rousseeuw1987silhouettes`, half its mean over cells and half its mean over clusters.

    The mean over cells alone hardly sees a small cluster; the mean over clusters counts it as one of many.

    ``distances``: between the cells; zero on the diagonal. ``clusters``: cluster of each cell. Returns a value in [-1,
    1]; 0 where there is one cluster, or as many as cells.
    """
    codes, sizes = np.unique(clusters, return_inverse=True, return_counts=True)[1:]
    if not 1 < len(sizes) < len(clusters):
        return 0.0
    cells = np.arange(len(codes))
    members = np.eye(len(sizes))[codes]
    blocks = (distances[at : at + _COMPARED] for at in range(0, len(codes), _COMPARED))
    totals = np.concatenate([block @ members for block in blocks])  # (cell, cluster), in double precision
    inside = totals[cells, codes] / np.maximum(sizes[codes] - 1, 1)
    means = totals / sizes
    means[cells, codes] = np.inf
    outside = means.min(axis=1)
    largest = np.maximum(inside, outside)
    is_alone = (sizes[codes] == 1) | (largest <= 0)
    widths = np.where(is_alone, 0.0, (outside - inside) / np.where(is_alone, 1.0, largest))
    return float(widths.mean() + (np.bincount(codes, widths) / sizes).mean()) / 2


def modularity(graph: CellGraph, clusters: Labels) -> float:
    """Share of the weights within clusters, less that of chance :cite:`newman2004modularity`.

    ``graph``: symmetric weights. ``clusters``: cluster of each cell. Returns a value in [-1/2, 1]; 0 without weights.
    """
    total = graph.sum()
    if total == 0:
        return 0.0
    edges = graph.tocoo()
    within = edges.data[clusters[edges.row] == clusters[edges.col]].sum() / total
    return float(within - np.sum((np.bincount(clusters[edges.row], edges.data) / total) ** 2))


def _cosine_distances(features: Embedding) -> Float[np.ndarray, "cell cell"]:
    from sklearn.metrics.pairwise import cosine_distances

    distances: Float[np.ndarray, "cell cell"] = cosine_distances(features)
    return distances


def _views(pcs: Embedding, knn: CellGraph, shared: CellGraph, settings: EnsembleConfig) -> Iterator[Embedding]:
    """Each view of some components, as often as it is to be clustered; one at a time, to save memory.

    ``shared``: shared-neighbour weights of ``knn``, which holds as many neighbours as the view of most.
    """
    for n_neighbors in settings.n_neighbors:
        is_whole = n_neighbors == max(settings.n_neighbors)
        graph = shared if is_whole else snn_weights(_nearest(knn, n_neighbors))
        steps = list(islice(smoothing(pcs, graph), max(settings.n_steps) + 1))
        for n_steps in settings.n_steps:
            for _ in range(settings.runs_per_view):
                yield steps[n_steps]


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
