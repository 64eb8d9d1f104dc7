"""Explanation of the clusters of a run: their tree, markers and words, and the text view beside its controls."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.cluster.algorithms import confidence, draw_rows
from cellmodel.cluster.structure import Tree, grow_tree
from cellmodel.core.arrays import Embedding, Labels
from cellmodel.core.config import GraphConfig, Knowledge, RunConfig
from cellmodel.core.stages import AnyStages
from cellmodel.explain.markers import MarkerTable, SideMarkers, markers_of_splits, rank_by_moments
from cellmodel.explain.words import ClusterWords, words_by_moments
from cellmodel.io.backed import AnyCells
from cellmodel.pp.features import Features
from cellmodel.pp.moments import GroupMoments, kept_moments
from cellmodel.pp.neighbors import knn_graph
from cellmodel.pp.normalize import LogExpression
from cellmodel.pp.text.align import GeneAlignment, apply_knowledge
from cellmodel.pp.text.sentences import SentenceRecord, read_clusters
from cellmodel.pp.text.view import TextView, text_view

MOST_COMPARED: Final = 3000  # cells, drawn once: the figure is a mean and needs no more


@dataclass(frozen=True, kw_only=True, slots=True)
class KnowledgeRow:
    """How well one kind of knowledge, on its own, keeps the cells of a cluster together."""

    knowledge: str  # ``real``, ``shuffled`` or ``random``; ``chance`` for permuted clusters
    # fraction of a cell's nearest cells in the text view that are in its cluster, in [0, 1]. The clusters come from
    # expression, so the figure shows how much of them the text alone can see, not which is right
    neighbor_agreement: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """What is found of clusters; empty without any."""

    confidence: Float[np.ndarray, " cell"] | None = None  # of each cell in its cluster, in [0, 1]
    tree: Tree | None = None  # hierarchy above the clusters
    split_markers: tuple[tuple[SideMarkers, SideMarkers], ...] = ()  # of both sides of each split of it
    markers: tuple[MarkerTable, ...] = ()
    words: tuple[ClusterWords, ...] = ()
    sentences: SentenceRecord | None = None  # those of the text view with those of the clusters; None without any
    knowledge: tuple[KnowledgeRow, ...] = ()  # how well the text view keeps clusters together, real beside its controls


def explain_clusters(
    cells: AnyCells,
    labels: Labels,
    embedding: Embedding,
    *,
    features: Features,
    alignment: GeneAlignment | None,
    text: TextView | None,
    config: RunConfig,
    stages: AnyStages,
    parents: Sequence[int] | None = None,
) -> Explanation:
    """Find markers and words in one pass over the cells, and set the text view beside its controls on a sample.

    ``embedding``: (cell, dim) what was clustered. ``alignment``, ``text``: of the genes with a store, and of the cells
    with knowledge. ``parents``: of each cluster, the group that it is a part of in the tree.
    """
    tree = grow_tree(embedding, labels, pcs=features.pcs, seed=config.seed, parents=parents)
    found = Explanation(
        confidence=confidence(embedding, labels),
        tree=tree,
        knowledge=()
        if alignment is None or text is None
        else compare_knowledge(labels, features, alignment, text, config),
    )
    has_sentences = text is not None and text.sentences is not None
    if not config.n_words and not has_sentences:
        return found
    expression = LogExpression(matrix=cells.matrix, kind=cells.kind, columns=features.detected)
    inside, rest = kept_moments(expression, labels, stages)
    if text is not None and has_sentences:
        found = replace(found, sentences=_cluster_sentences(text, inside, features))
    if not config.n_words:
        return found
    names = [cells.names[column] for column in features.detected]
    texts = None if alignment is None else _known_texts(alignment, features.detected, config)
    words: tuple[ClusterWords, ...] = ()
    if alignment is not None and texts:
        words = words_by_moments(
            inside, rest, texts=texts, gene_names=names, n_words=config.n_words, seed=config.seed,
            split=alignment.split, cite=alignment.cite,
        )  # fmt: skip
    return replace(
        found,
        markers=rank_by_moments(inside, rest, gene_names=names),
        split_markers=markers_of_splits(tree, inside, gene_names=names),
        words=words,
    )


def _cluster_sentences(text: TextView, inside: GroupMoments, features: Features) -> SentenceRecord | None:
    """Add the sentences of the clusters' mean cells, where an encoder reads any."""
    if text.reading is None or text.sentences is None:
        return None
    means = inside.mean[:, np.searchsorted(features.detected, text.reading.columns)]
    mean = inside.n_cells @ means / inside.n_cells.sum()
    return replace(text.sentences, clusters=read_clusters(sp.csr_matrix(means), text.reading, mean=mean))


def _known_texts(
    alignment: GeneAlignment, columns: Int[np.ndarray, " gene"], config: RunConfig
) -> list[str | None] | None:
    """Texts of the genes, permuted for the shuffled control; None where no words can be found."""
    if config.knowledge in {"none", "random"}:
        return None
    texts = [alignment.texts[column] for column in columns]
    if config.knowledge == "real":
        return texts
    having = np.array([row for row, text in enumerate(texts) if text])
    permuted = apply_knowledge(having[:, None], knowledge="shuffled", seed=config.seed)[:, 0]
    shuffled = list(texts)
    for row, source in zip(having, permuted, strict=True):
        shuffled[row] = texts[source]
    return shuffled


def compare_knowledge(
    labels: Labels, features: Features, alignment: GeneAlignment, text: TextView, config: RunConfig
) -> tuple[KnowledgeRow, ...]:
    """Compare the run's text view with those of other knowledge, by the clusters that were found, on a sample."""
    rows = draw_rows(len(labels), MOST_COMPARED, config.seed, purpose="text evidence")
    expression, clusters = features.expression[rows], labels[rows]
    kinds: tuple[Knowledge, ...] = ("real", "shuffled", "random")
    found = []
    for kind in kinds:
        own = kind == config.knowledge
        view = text.z[rows] if own else text_view(expression, features.top_genes, alignment, config, knowledge=kind).z
        agreement = neighbor_agreement(view, clusters, graph=config.graph)
        found.append(KnowledgeRow(knowledge=kind, neighbor_agreement=agreement))
    chance = float(((np.bincount(clusters) / len(clusters)) ** 2).sum())
    return (*found, KnowledgeRow(knowledge="chance", neighbor_agreement=chance))


def neighbor_agreement(embedding: Embedding, clusters: Labels, *, graph: GraphConfig) -> float:
    """Mean fraction of a cell's nearest neighbors that carry its label."""
    knn = knn_graph(embedding, config=graph).tocoo()
    return float((clusters[knn.row] == clusters[knn.col]).mean())
