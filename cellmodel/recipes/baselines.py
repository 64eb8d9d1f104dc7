"""What everybody else would run: principal components with k-means or Leiden."""

from typing import Final

from cellmodel.recipes.base import CellViews, Recipe, Representation
from cellmodel.recipes.heads import kmeans_head, leiden_head


def represent_pcs(views: CellViews, seed: int) -> Representation:
    """Take the principal components as they are."""
    return Representation(z=views.pcs, z_expr=views.pcs, z_text=None, features=views.pcs)


PCA_KMEANS: Final = Recipe(
    name="pca-kmeans",
    summary="30 principal components, k-means",
    represent=represent_pcs,
    head=kmeans_head,
    uses_text=False,
    source="textbook",
)
PCA_LEIDEN: Final = Recipe(
    name="pca-leiden",
    summary="30 principal components, shared-neighbour graph, Leiden (resolution 1, or searched to k)",
    represent=represent_pcs,
    head=leiden_head,
    uses_text=False,
    source="Traag 2019, doi:10.1038/s41598-019-41695-z",
)
