"""Recipes: views in, a representation and a clustering head out; no recipe sees a label."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from cellmodel.core.arrays import CellByGene, CellGraph, Embedding, GeneVectors, Labels
from cellmodel.core.config import RESOLUTION, TrainingConfig
from cellmodel.nn.train import History


@dataclass(frozen=True, kw_only=True, slots=True)
class CellViews:
    """All that a recipe may see of the cells."""

    expression: CellByGene  # (cell, gene) log-normalized, highly variable genes
    pcs: Embedding  # (cell, dim) principal components of it, integrated where there are batches
    graph: CellGraph  # shared-nearest-neighbor weights
    smoothed: Embedding  # ``pcs`` averaged over the graph
    text: Embedding | None  # (cell, dim) the mixed semantic paths, rows of length one; None without knowledge
    knn: CellGraph  # (cell, cell) distances to the nearest cells
    depth: Float[np.ndarray, " cell"]  # (cell,) sum of all values of a cell, over all genes
    # (cell, gene) raw counts of the genes of ``expression``; None where the input held none
    counts: CellByGene | None = None
    # the two paths before they are mixed: expression-weighted, and the ranked sentence; None without knowledge
    text_paths: tuple[Embedding, Embedding] | None = None
    # (gene, dim) whitened text vectors of the genes of ``expression``, zero where a gene has none; None without
    # knowledge
    gene_vectors: GeneVectors | None = None
    n_clusters: int | None = None  # number of clusters; None for that of the communities at ``resolution``
    resolution: float = RESOLUTION  # of Leiden, where the number of clusters is not given
    # (gene, dim) the encoder's own vectors behind ``gene_vectors``, neither centered nor whitened; zero where a gene
    # has none; None without knowledge
    raw_gene_vectors: GeneVectors | None = None
    # whether the second of ``text_paths`` is the encoder's reading of each cell's sentence, not a pooled one
    text_path2_encoded: bool = False
    # distances to the nearest cells by their coordinates, symmetric; None where these are not used
    spatial: CellGraph | None = None
    # (gene,) weights of ``expression`` in ``pcs``; None where all are 1
    gene_weights: Float[np.ndarray, " gene"] | None = None
    device: str = "cpu"  # where models are trained
    # what a run changes of the training of its recipe
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class Representation:
    """What a recipe made of the views."""

    z: Embedding  # the cell's embedding that the user gets, of which clusters are made
    # z_expr, z_text: its two sides; ``z_text`` is None without knowledge
    z_expr: Embedding
    z_text: Embedding | None
    features: Embedding  # what the head clusters
    history: History = ()  # loss terms by epoch; empty where nothing is trained
    # cells in a space of their own, in which genes and queries can be placed among them; None where the recipe has none
    z_joint: Embedding | None = None
    # (text dim, joint dim) linear map of whitened text vectors into that space
    text_head: Float[np.ndarray, "dim joint"] | None = None
    # (cluster, dim) learned centers among the ``features``; None where none are learned
    centers: Float[np.ndarray, "cluster dim"] | None = None
    # arrays with which the recipe's ``embed`` places new cells; empty where it has none or needs none
    state: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class NewCells:
    """What a fitted recipe may see of cells that it was not fitted to; as in :class:`CellViews`, rows are new cells."""

    expression: CellByGene
    pcs: Embedding  # their expression on the principal components of the fitted cells
    smoothed: Embedding  # ``pcs`` averaged with their neighbors among the fitted cells
    text: Embedding | None
    text_paths: tuple[Embedding, Embedding] | None
    gene_vectors: GeneVectors | None
    raw_gene_vectors: GeneVectors | None
    # which of the fitted genes the new cells have; ``expression`` and the vectors hold these alone
    has_gene: Bool[np.ndarray, " fitted_gene"]
    fitted_pcs: Embedding  # (fitted cell, dim) ``pcs`` of the cells that it was fitted to
    # rows of the fitted cells, then of the new ones, with the shared-nearest-neighbor weights with which each takes
    # the values of fitted cells; nothing is taken from new ones
    graph: CellGraph


Represent = Callable[[CellViews, int], Representation]  # views, seed


@runtime_checkable
class Train(Protocol):
    """What a recipe that is trained does; without options it is its ``represent``."""

    def __call__(self, views: CellViews, seed: int, *, off: frozenset[str] = frozenset()) -> Representation:
        """Train, leaving out the objectives whose names are given."""


Embed = Callable[[NewCells, Mapping[str, np.ndarray]], Representation]  # ..., state of the fitted representation
Head = Callable[[Representation, CellViews, int], Labels]  # representation, views, seed → cluster of each cell


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A named composition."""

    name: str
    represent: Represent  # views → representation
    head: Head  # representation → clusters
    uses_text: bool  # whether knowledge changes anything
    needs_text: bool = False  # whether it cannot do without
    uses_coordinates: bool = False  # whether coordinates of the cells change its clusters
    train: Train | None = None  # the same as ``represent``, with options; None where nothing is trained
    objectives: tuple[str, ...] = ()  # names of what it minimizes, that ``train`` can leave out
    learns_centers: bool = False  # whether the representation depends on the number of clusters
    # places new cells without training; None where the recipe cannot
    embed: Embed | None = None
    # whether it can read backed cells: its views are memory-mapped then, and not to be written to
    out_of_core: bool = False
    uses_counts: bool = False  # whether it reads ``counts``, which are gathered only then
