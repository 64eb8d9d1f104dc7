"""Heads that every recipe can use: features or graph → clusters, their number given or estimated."""

from cellmodel.cluster import kmeans, leiden, leiden_to_k, micro_ward
from cellmodel.n_clusters import estimate_n_clusters
from cellmodel.recipes.base import CellViews, Clustering, Representation


def micro_ward_head(representation: Representation, views: CellViews, n_clusters: int | None, seed: int) -> Clustering:
    """Micro-clusters merged by unweighted Ward, the best silhouette of eight runs."""
    estimate = None
    if n_clusters is None:
        estimate = estimate_n_clusters(views.graph, seed=seed)
        n_clusters = estimate.n_clusters
    labels = micro_ward(representation.features, n_clusters=n_clusters, seed=seed)
    return Clustering(labels=labels, n_clusters=estimate)


def kmeans_head(representation: Representation, views: CellViews, n_clusters: int | None, seed: int) -> Clustering:
    """Plain k-means on the features."""
    estimate = None
    if n_clusters is None:
        estimate = estimate_n_clusters(views.graph, seed=seed)
        n_clusters = estimate.n_clusters
    return Clustering(labels=kmeans(representation.features, n_clusters=n_clusters, seed=seed), n_clusters=estimate)


def leiden_head(representation: Representation, views: CellViews, n_clusters: int | None, seed: int) -> Clustering:
    """Leiden on the graph: resolution 1, or the resolution that gives the number asked for."""
    if n_clusters is None:
        return Clustering(labels=leiden(views.graph, resolution=1.0, seed=seed))
    return Clustering(labels=leiden_to_k(views.graph, n_clusters=n_clusters, seed=seed))
