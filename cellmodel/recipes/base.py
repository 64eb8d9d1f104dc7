"""What a recipe is: views in, a representation out, a head that cuts it into clusters. No recipe sees a label."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor, nn

from cellmodel.cluster.n_clusters import NClusters
from cellmodel.core.arrays import CellByGene, CellGraph, Embedding, GeneVectors, Labels
from cellmodel.core.device import Compute
from cellmodel.nn.distributed import Workers
from cellmodel.nn.train import Batch, History, LossTerm


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
    n_clusters
        Number of clusters, for recipes that learn centres; None to estimate it.
    raw_gene_vectors
        (gene, dim) the encoder's own vectors behind ``gene_vectors``, neither centred nor whitened; zero where a gene
        has none; None without knowledge.
    text_path2_encoded
        Whether the second of ``text_paths`` is the encoder's reading of each cell's sentence, not a pooled one.
    spatial
        Distances to the nearest cells by their coordinates, symmetric; None where these are not used.
    gene_weights
        (gene,) weights of ``expression`` in ``pcs``; None where all are 1.
    compute
        Where models are trained.
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
    n_clusters: int | None = None
    raw_gene_vectors: GeneVectors | None = None
    text_path2_encoded: bool = False
    spatial: CellGraph | None = None
    gene_weights: Float[np.ndarray, " gene"] | None = None
    compute: Compute = field(default_factory=Compute)


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
    centres
        (cluster, dim) learnt centres among the ``features``; None where none are learnt.
    n_clusters
        How the number of centres was found; None where it was given or there are none.
    state
        Arrays with which the recipe's ``embed`` places new cells; empty where it has none or needs none.
    """

    z: Embedding
    z_expr: Embedding
    z_text: Embedding | None
    features: Embedding
    history: History = ()
    text_head: Float[np.ndarray, "dim joint"] | None = None
    centres: Float[np.ndarray, "cluster dim"] | None = None
    n_clusters: NClusters | None = None
    state: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class NewCells:
    """What a fitted recipe may see of cells that it was not fitted to; as in :class:`CellViews`, rows are new cells.

    Parameters
    ----------
    pcs
        Their expression on the principal components of the fitted cells.
    smoothed
        ``pcs`` averaged with their neighbours among the fitted cells.
    has_gene
        Which of the fitted genes the new cells have; ``expression`` and the vectors hold these alone.
    """

    expression: CellByGene
    pcs: Embedding
    smoothed: Embedding
    text: Embedding | None
    text_paths: tuple[Embedding, Embedding] | None
    gene_vectors: GeneVectors | None
    raw_gene_vectors: GeneVectors | None
    has_gene: Bool[np.ndarray, " fitted_gene"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Clustering:
    """Clusters of the cells, and how their number was found (None: it was given)."""

    labels: Labels
    n_clusters: NClusters | None = None


Represent = Callable[[CellViews, int], Representation]  # views, seed
OnEpoch = Callable[[int, Embedding], None]  # number of the epoch, features of the given cells that the head would cut


@runtime_checkable
class Train(Protocol):
    """What a recipe that is trained does, for those who look into it; without options it is its ``represent``."""

    def __call__(
        self, views: CellViews, seed: int, *, on_epoch: OnEpoch | None = None, off: frozenset[str] = frozenset()
    ) -> Representation:
        """Train, reporting each epoch's embedding, and leaving out the objectives whose names are given."""


Embed = Callable[[NewCells, Mapping[str, np.ndarray]], Representation]  # ..., state of the fitted representation
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
    needs_text
        Whether it cannot do without.
    uses_coordinates
        Whether coordinates of the cells change its clusters.
    source
        Paper or study that it follows.
    train
        The same as ``represent``, with options; None where nothing is trained.
    objectives
        Names of what it minimises, that ``train`` can leave out.
    learns_centres
        Whether the representation depends on the number of clusters.
    embed
        Places new cells without training; None where the recipe reads the graph of all its cells and cannot.
    out_of_core
        Whether it can read backed cells: its views are memory-mapped then, and not to be written to.
    uses_counts
        Whether it reads ``counts``, which of backed cells are gathered only then.
    uses_workers
        Whether several processes can train it together.
    """

    name: str
    summary: str
    represent: Represent
    head: Head
    uses_text: bool
    source: str
    needs_text: bool = False
    uses_coordinates: bool = False
    train: Train | None = None
    objectives: tuple[str, ...] = ()
    learns_centres: bool = False
    embed: Embed | None = None
    uses_workers: bool = False
    out_of_core: bool = False
    uses_counts: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One term of an objective: its name, its weight, and the loss of a model on a batch."""

    name: str
    weight: float
    loss: Callable[[Mapping[str, Tensor]], Tensor] = field(repr=False)


def objective(
    forward: Callable[[nn.Module, Batch], Mapping[str, Tensor]],
    terms: tuple[Term, ...],
    *,
    workers: Workers | None = None,
) -> LossTerm:
    """Combine a forward pass and weighted terms into what :func:`cellmodel.nn.train.fit` minimises.

    Parameters
    ----------
    workers
        Those that pass their share of the batch through the model; the terms see the outputs of all.
    """

    def weighted(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        outputs = forward(model, batch)
        if workers is not None:
            outputs = workers.gather(outputs)
        return {term.name: term.weight * term.loss(outputs) for term in terms}

    return weighted


def without(terms: tuple[Term, ...], off: frozenset[str]) -> tuple[Term, ...]:
    """Leave out terms by name.

    Raises
    ------
    ValueError
        If none is left, or a name is none of theirs.
    """
    unknown = off - {term.name for term in terms}
    kept = tuple(term for term in terms if term.name not in off)
    if unknown or not kept:
        raise ValueError(f"{sorted(off)} of {[term.name for term in terms]} cannot be left out")
    return kept
