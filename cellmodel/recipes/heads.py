"""Clustering heads of all recipes: features or graph → clusters, their number given or estimated."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import numpy as np

from cellmodel.cluster.algorithms import (
    SoftClusters,
    communities,
    gaussian_mixture,
    kmeans,
    order_by_size,
    transport_clusters,
)
from cellmodel.core.arrays import CellBlocks, CellByGene, Labels, group_equal_cells
from cellmodel.core.config import GraphConfig, HeadName
from cellmodel.core.errors import InputUnusable, UnknownName
from cellmodel.pp.neighbors import knn_graph, snn_weights
from cellmodel.recipes.base import CellViews, Head, Representation
from genekb.core.messages import check_choice

log = logging.getLogger(__name__)


def number_of_clusters(views: CellViews, seed: int) -> int:
    """Give the number that is asked for, else that of the communities at the resolution."""
    if views.n_clusters is None:
        return int(communities(views.graph, views.pcs, resolution=views.resolution, seed=seed).max()) + 1
    if views.n_clusters > len(views.pcs):
        raise InputUnusable(f"{views.n_clusters} clusters were asked for, there are {len(views.pcs)} cells")
    return views.n_clusters


def leiden_head(representation: Representation, views: CellViews, seed: int) -> Labels:
    """Leiden communities :cite:`traag2019leiden` at one resolution, or at the one that gives the number asked for.

    The graph is that of the cells where the features are their principal components, averaged over it or not, else one
    of the features.
    """
    features, graph = representation.features, views.graph
    if not _is_of_components(representation, views):
        graph = snn_weights(knn_graph(features, config=GraphConfig()))
    return communities(graph, features, n_clusters=views.n_clusters, resolution=views.resolution, seed=seed)


def _is_of_components(representation: Representation, views: CellViews) -> bool:
    return any(np.array_equal(representation.features, own) for own in (views.pcs, views.smoothed))


def is_leiden(head: Head, representation: Representation, views: CellViews) -> bool:
    """Whether a head gives Leiden communities of the components."""
    return head is leiden_head and _is_of_components(representation, views)


def kmeans_head(representation: Representation, views: CellViews, seed: int) -> Labels:
    """Plain k-means on the features."""
    return kmeans(representation.features, n_clusters=number_of_clusters(views, seed), seed=seed)


def soft_head(
    representation: Representation, views: CellViews, seed: int, *, name: str, method: Callable[..., SoftClusters]
) -> Labels:
    """Soft clusters of the features, by optimal transport or by a mixture of Gaussians."""
    n_clusters = number_of_clusters(views, seed)
    found = method(representation.features, n_clusters=n_clusters, seed=seed)
    n_found = int(found.labels.max()) + 1
    if not found.converged:
        log.warning("%s did not settle in %d rounds; its last round is used", name, found.n_rounds)
    if n_found < n_clusters:
        log.warning("%s: %d of %d clusters hold no cell", name, n_clusters - n_found, n_clusters)
    return found.labels


def keep_equal_cells_together(labels: Labels, matrix: CellByGene | CellBlocks) -> Labels:
    """Give each different cell a cluster where there are no more of them than clusters; heads part equal ones."""
    n_found = len(np.unique(labels))
    groups = group_equal_cells(matrix, at_most=n_found)
    if groups is None:
        return labels
    n_different = int(groups.max()) + 1
    if n_different < n_found:
        log.warning("only %d different cells: %d clusters, not %d", n_different, n_different, n_found)
    return order_by_size(groups)


HEADS: Final[Mapping[HeadName, Head]] = {
    "kmeans": kmeans_head,
    "leiden": leiden_head,
    "ot": partial(soft_head, name="optimal transport", method=transport_clusters),
    "gmm": partial(soft_head, name="Gaussian mixture", method=gaussian_mixture),
}


def find_head(name: str) -> Head:
    """Find a head by name."""
    check_choice("head", name, HEADS, error=UnknownName)
    return HEADS[name]  # type: ignore[index]  # it was just found there


def assignment_head(representation: Representation, views: CellViews, seed: int) -> Labels:
    """Cluster of each cell by the centers that were learned with the representation; nothing is drawn.

    A center that no cell chose gives no cluster: then fewer are returned, and the log says so.
    """
    import torch

    from cellmodel.nn.soft_assignment import log_soft_assignment

    if representation.centers is None:
        raise InputUnusable('this recipe learns no centers; take head="kmeans", or another that clusters its features')
    n_centers = len(representation.centers)
    if views.n_clusters is not None and views.n_clusters != n_centers:
        raise InputUnusable(
            f"{n_centers} centers were learned, {views.n_clusters} clusters are asked for; the two must be equal"
        )
    features, centers = (torch.tensor(values) for values in (representation.features, representation.centers))
    nearest = log_soft_assignment(features, centers).argmax(dim=1).numpy()
    labels = order_by_size(nearest)
    n_found = int(labels.max()) + 1
    if n_found < n_centers:
        log.warning("%d of %d learned centers hold no cell", n_centers - n_found, n_centers)
    return np.asarray(labels, dtype=np.int64)
