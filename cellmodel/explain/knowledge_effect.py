"""What the text did for one data set: its view of the cells beside the same view made of controls."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from cellmodel.core import random as seeding
from cellmodel.core.arrays import Embedding, Labels
from cellmodel.core.config import GraphConfig, Knowledge
from cellmodel.pp.graph import knn_graph

MOST_CELLS = 3000  # cells that are compared, drawn once: the figure is a mean and needs no more


@dataclass(frozen=True, kw_only=True, slots=True)
class KnowledgeRow:
    """How well one kind of knowledge, on its own, keeps the cells of a cluster together."""

    knowledge: str  # ``real``, ``shuffled`` or ``random``; ``chance`` for permuted clusters
    # fraction of a cell's nearest cells in the text view that are in its cluster, in [0, 1]. The clusters come from
    # expression, so the figure shows how much of them the text alone can see, not which is right
    neighbour_agreement: float


def compare_knowledge(
    text_view: Callable[[Knowledge], Embedding],
    *,
    clusters: Labels,
    own: tuple[Knowledge, Embedding],
    graph: GraphConfig,
    seed: int,
) -> tuple[KnowledgeRow, ...]:
    """Compare the real text view with its controls, by the clusters that were found.

    ``text_view``: makes the view of a kind of knowledge. ``clusters``: clusters that we found, never an annotator's.
    ``own``: the run's own kind and view, which is not made again.
    """
    chosen = compared_cells(len(clusters), seed)
    kinds: tuple[Knowledge, ...] = ("real", "shuffled", "random")
    rows = []
    for kind in kinds:
        view = own[1] if kind == own[0] else text_view(kind)
        agreement = neighbour_agreement(view[chosen], clusters[chosen], graph=graph)
        rows.append(KnowledgeRow(knowledge=kind, neighbour_agreement=agreement))
    shares = np.bincount(clusters[chosen]) / len(chosen)
    rows.append(KnowledgeRow(knowledge="chance", neighbour_agreement=float((shares**2).sum())))
    return tuple(rows)


def compared_cells(n_cells: int, seed: int) -> Int[np.ndarray, " cell"]:
    """Rows of the cells that are compared; all if they are few."""
    if n_cells <= MOST_CELLS:
        return np.arange(n_cells)
    return np.sort(seeding.generator(seed, "text evidence").choice(n_cells, MOST_CELLS, replace=False))


def neighbour_agreement(embedding: Embedding, clusters: Labels, *, graph: GraphConfig) -> float:
    """Mean fraction of a cell's nearest neighbors that carry its label."""
    knn = knn_graph(embedding, config=graph).tocoo()
    return float((clusters[knn.row] == clusters[knn.col]).mean())
