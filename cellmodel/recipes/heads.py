"""Heads that every recipe can use: features or graph → clusters, their number given or estimated."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from cellmodel.cluster.algorithms import coarse_leiden, coarse_leiden_to_k, kmeans, micro_ward, order_by_size
from cellmodel.cluster.domains import spatial_domains
from cellmodel.cluster.ensemble import ensemble_clusters
from cellmodel.cluster.n_clusters import WITH_PLACES, NClusters, estimate_n_clusters
from cellmodel.core.arrays import CellBlocks, CellByGene, Embedding, group_equal_cells
from cellmodel.core.config import EnsembleConfig, GraphConfig, HeadName
from cellmodel.core.errors import InputUnusable, UnknownName
from cellmodel.pp.neighbors import knn_graph, snn_weights
from cellmodel.pp.normalize import fit_components
from cellmodel.recipes.base import CellViews, Clustering, Head, Representation
from genekb.core.messages import check_choice

if TYPE_CHECKING:
    from cellmodel.cluster.soft import SoftClusters

log = logging.getLogger(__name__)


def micro_ward_head(representation: Representation, views: CellViews, n_clusters: int | None, seed: int) -> Clustering:
    """Micro-clusters merged by unweighted Ward, the best silhouette of eight runs."""
    n_clusters, estimate = _given_or_estimated(n_clusters, representation, views, seed)
    return Clustering(labels=micro_ward(representation.features, n_clusters=n_clusters, seed=seed), n_clusters=estimate)


def ensemble_head(representation: Representation, views: CellViews, n_clusters: int | None, seed: int) -> Clustering:
    """Micro-clusters merged by Ward in 18 views of the expression, the partition that lies farthest apart; or domains.

    Features other than the smoothed components are no view of the expression alone: they are clustered as they are.
    """
    if not np.array_equal(representation.features, views.smoothed):
        return micro_ward_head(representation, views, n_clusters, seed)
    n_clusters, estimate = _given_or_estimated(n_clusters, representation, views, seed)
    if views.spatial is not None:
        labels = spatial_domains(views.pcs, views.spatial, n_clusters=n_clusters, seed=seed)
        return Clustering(labels=labels, n_clusters=estimate)
    own = _integrated(views, seed)
    labels = ensemble_clusters(
        max(own.values(), key=lambda pcs: pcs.shape[1]) if own else _wide_components(views, seed),
        n_components=views.pcs.shape[1],
        n_clusters=n_clusters,
        seed=seed,
        own=own,
    )
    return Clustering(labels=labels, n_clusters=estimate)


def _wide_components(views: CellViews, seed: int) -> Embedding:
    """More principal components than the run's own: the views of the ensemble differ in their number."""
    if views.fixed_pcs:
        return views.pcs
    n_components = max(EnsembleConfig().widths(views.pcs.shape[1]))
    components = fit_components(views.expression, n_components=n_components, seed=seed, weights=views.gene_weights)
    return components(views.expression)


def _integrated(views: CellViews, seed: int) -> dict[int, Embedding]:
    """Components of each number of the ensemble, integrated by themselves; empty where nothing was integrated.

    The leading ones of the most, integrated once, gave worse clusters.
    """
    if views.integrate is None or views.fixed_pcs:
        return {}
    n_components, wide = views.pcs.shape[1], _wide_components(views, seed)
    widths = {min(width, wide.shape[1]) for width in EnsembleConfig().widths(n_components)}
    return {width: views.pcs if width == n_components else views.integrate(wide[:, :width]) for width in sorted(widths)}


def kmeans_head(representation: Representation, views: CellViews, n_clusters: int | None, seed: int) -> Clustering:
    """Plain k-means on the features."""
    n_clusters, estimate = _given_or_estimated(n_clusters, representation, views, seed)
    return Clustering(labels=kmeans(representation.features, n_clusters=n_clusters, seed=seed), n_clusters=estimate)


def _given_or_estimated(
    n_clusters: int | None, representation: Representation, views: CellViews, seed: int
) -> tuple[int, NClusters | None]:
    if n_clusters is not None:
        return n_clusters, None
    if representation.n_clusters is not None:  # the recipe needed a number before
        return representation.n_clusters.n_clusters, representation.n_clusters
    config = None if views.spatial is None else WITH_PLACES
    estimate = estimate_n_clusters(views.graph, pcs=views.pcs, depth=views.depth, seed=seed, config=config)
    return estimate.n_clusters, estimate


def leiden_head(representation: Representation, views: CellViews, n_clusters: int | None, seed: int) -> Clustering:
    """Leiden: resolution 1, or the resolution that gives the number asked for.

    The graph is that of the cells where the features are their principal components, else one of the features.
    """
    graph = views.graph
    if not np.array_equal(representation.features, views.pcs):
        graph = snn_weights(knn_graph(representation.features, config=GraphConfig()))
    if n_clusters is None:
        return Clustering(labels=coarse_leiden(graph, representation.features, resolution=1.0, seed=seed))
    labels = coarse_leiden_to_k(graph, representation.features, n_clusters=n_clusters, seed=seed)
    return Clustering(labels=labels)


def ot_head(representation: Representation, views: CellViews, n_clusters: int | None, seed: int) -> Clustering:
    """Assign cells by optimal transport to centres that move; cluster sizes are drawn a little towards equal ones."""
    from cellmodel.cluster.soft import transport_clusters

    n_clusters, estimate = _given_or_estimated(n_clusters, representation, views, seed)
    found = transport_clusters(representation.features, n_clusters=n_clusters, seed=seed)
    return _clustering(found, "optimal transport", n_clusters, estimate)


def gmm_head(representation: Representation, views: CellViews, n_clusters: int | None, seed: int) -> Clustering:
    """Mixture of Gaussians with a variance of their own in each dimension."""
    from cellmodel.cluster.soft import gaussian_mixture

    n_clusters, estimate = _given_or_estimated(n_clusters, representation, views, seed)
    found = gaussian_mixture(representation.features, n_clusters=n_clusters, seed=seed)
    return _clustering(found, "Gaussian mixture", n_clusters, estimate)


def _clustering(found: "SoftClusters", name: str, n_clusters: int, estimate: NClusters | None) -> Clustering:
    n_found = int(found.labels.max()) + 1
    if not found.converged:
        log.warning("%s did not settle in %d rounds; its last round is used", name, found.n_rounds)
    if n_found < n_clusters:
        log.warning("%s: %d of %d clusters hold no cell", name, n_clusters - n_found, n_clusters)
    return Clustering(labels=found.labels, n_clusters=estimate)


def keep_equal_cells_together(found: Clustering, matrix: CellByGene | CellBlocks) -> Clustering:
    """Give each different cell a cluster where there are no more of them than clusters; a head would part equal ones.

    ``matrix``: (cell, gene), the values that were read; few cells of it are looked at where more differ.
    """
    n_found = len(np.unique(found.labels))
    groups = group_equal_cells(matrix, at_most=n_found)
    if groups is None:
        return found
    n_different = int(groups.max()) + 1
    if n_different < n_found:
        log.warning("only %d different cells: %d clusters, not %d", n_different, n_different, n_found)
    return replace(found, labels=order_by_size(groups))


HEADS: Final[Mapping[HeadName, Head]] = {
    "kmeans": kmeans_head,
    "micro-ward": micro_ward_head,
    "leiden": leiden_head,
    "ot": ot_head,
    "gmm": gmm_head,
}


def find_head(name: str) -> Head:
    """Find a head by name.

    Raises ``UnknownName`` if there is none of that name.
    """
    check_choice("head", name, HEADS, error=UnknownName)
    return HEADS[name]  # type: ignore[index]  # it was just found there


def assignment_head(representation: Representation, views: CellViews, n_clusters: int | None, seed: int) -> Clustering:
    """Cluster of each cell by the centres that were learnt with the representation; nothing is drawn.

    A centre that no cell chose gives no cluster: then fewer are returned, and the log says so.

    ``n_clusters``: None for as many as there are centres. Raises ``InputUnusable`` if the representation has no
    centres, or not as many as clusters are asked for.
    """
    import torch

    from cellmodel.nn.soft_assignment import log_soft_assignment

    if representation.centres is None:
        raise InputUnusable(
            "this recipe learns no centres; take --head micro-ward, or another that clusters its features"
        )
    n_centres = len(representation.centres)
    if n_clusters is not None and n_clusters != n_centres:
        raise InputUnusable(
            f"{n_centres} centres were learnt, {n_clusters} clusters are asked for; the two must be equal"
        )
    features, centres = (torch.tensor(values) for values in (representation.features, representation.centres))
    nearest = log_soft_assignment(features, centres).argmax(dim=1).numpy()
    labels = order_by_size(nearest)
    n_found = int(labels.max()) + 1
    if n_found < n_centres:
        log.warning("%d of %d learnt centres hold no cell", n_centres - n_found, n_centres)
    return Clustering(labels=np.asarray(labels, dtype=np.int64), n_clusters=representation.n_clusters)
