"""What a recipe is: views in, a representation out, a head that cuts it into clusters. No recipe sees a label."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from cellmodel.n_clusters import NClusters
from cellmodel.train import Batch, History, LossTerm
from cellmodel.types import CellByGene, CellGraph, Embedding, GeneVectors, Labels


@dataclass(frozen=True, kw_only=True, slots=True)
class CellViews:
    """All that a recipe may see of the cells.

    Parameters
    ----------
    expression
        (cell, gene) log-normalised, highly variable genes.
    pcs
        (cell, dim) principal components of it.
    graph
        Shared-nearest-neighbour weights.
    smoothed
        ``pcs`` averaged over the graph.
    text
        (cell, dim) the mixed semantic paths, rows of length one; None without knowledge.
    text_paths
        The two paths before they are mixed: expression-weighted, and the ranked sentence; None without knowledge.
    counts
        (cell, gene) raw counts of the genes of ``expression``; None where the input held none.
    depth
        (cell,) sum of all values of a cell, over all genes.
    knn
        (cell, cell) distances to the nearest cells.
    gene_vectors
        (gene, dim) whitened text vectors of the genes of ``expression``, zero where a gene has none; None without
        knowledge.
    """

    expression: CellByGene
    pcs: Embedding
    graph: CellGraph
    smoothed: Embedding
    text: Embedding | None
    knn: CellGraph
    depth: Float[np.ndarray, " cell"]
    counts: CellByGene | None = None
    text_paths: tuple[Embedding, Embedding] | None = None
    gene_vectors: GeneVectors | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Representation:
    """What a recipe made of the views.

    Parameters
    ----------
    z
        The cell's embedding that the user gets.
    z_expr, z_text
        Its two sides; ``z_text`` is None without knowledge.
    features
        What the head clusters.
    history
        Loss terms by epoch; empty where nothing is trained.
    text_head
        (text dim, joint dim) linear map of whitened text vectors into the space of ``z``, so that genes and queries
        can be placed among the cells; None where the recipe has no joint space.
    """

    z: Embedding
    z_expr: Embedding
    z_text: Embedding | None
    features: Embedding
    history: History = ()
    text_head: Float[np.ndarray, "dim joint"] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Clustering:
    """Clusters of the cells, and how their number was found (None: it was given)."""

    labels: Labels
    n_clusters: NClusters | None = None


Represent = Callable[[CellViews, int], Representation]  # views, seed
Head = Callable[[Representation, CellViews, int | None, int], Clustering]  # ..., n_clusters, seed


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A named composition.

    Parameters
    ----------
    name, summary
        What the command line shows.
    represent
        Views → representation.
    head
        Representation → clusters.
    uses_text
        Whether knowledge changes anything.
    source
        Paper or study that it follows.
    """

    name: str
    summary: str
    represent: Represent
    head: Head
    uses_text: bool
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One term of an objective: its name, its weight, and the loss of a model on a batch."""

    name: str
    weight: float
    loss: Callable[[Mapping[str, Tensor]], Tensor] = field(repr=False)


def objective(forward: Callable[[nn.Module, Batch], Mapping[str, Tensor]], terms: tuple[Term, ...]) -> LossTerm:
    """Combine a forward pass and weighted terms into what :func:`cellmodel.train.fit` minimises."""

    def weighted(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        outputs = forward(model, batch)
        return {term.name: term.weight * term.loss(outputs) for term in terms}

    return weighted
