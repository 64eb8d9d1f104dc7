"""Heads that every recipe can use: features or graph → clusters, their number given or estimated."""

from cellmodel.cluster import kmeans, leiden, leiden_to_k, micro_ward
from cellmodel.n_clusters import NClusters, estimate_n_clusters
from cellmodel.recipes.base import CellViews, Clustering, Representation


def micro_ward_head(representation: Representation, views: CellViews, n_clusters: int | None, seed: int) -> Clustering:
    """Micro-clusters merged by unweighted Ward, the best silhouette of eight runs."""
    n_clusters, estimate = _given_or_estimated(n_clusters, views, seed)
    return Clustering(labels=micro_ward(representation.features, n_clusters=n_clusters, seed=seed), n_clusters=estimate)


def kmeans_head(representation: Representation, views: CellViews, n_clusters: int | None, seed: int) -> Clustering:
    """Plain k-means on the features."""
    n_clusters, estimate = _given_or_estimated(n_clusters, views, seed)
    return Clustering(labels=kmeans(representation.features, n_clusters=n_clusters, seed=seed), n_clusters=estimate)


def _given_or_estimated(n_clusters: int | None, views: CellViews, seed: int) -> tuple[int, NClusters | None]:
    if n_clusters is not None:
        return n_clusters, None
    estimate = estimate_n_clusters(views.graph, seed=seed)
    return estimate.n_clusters, estimate


def leiden_head(representation: Representation, views: CellViews, n_clusters: int | None, seed: int) -> Clustering:
    """Leiden on the graph: resolution 1, or the resolution that gives the number asked for."""
    if n_clusters is None:
        return Clustering(labels=leiden(views.graph, resolution=1.0, seed=seed))
    return Clustering(labels=leiden_to_k(views.graph, n_clusters=n_clusters, seed=seed))
