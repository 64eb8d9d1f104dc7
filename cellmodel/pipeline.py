"""The whole run on arrays: cells and a store in, clusters with their meaning out. No AnnData and no label in here."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

import genekb
from cellmodel.align import GeneAlignment, align_genes
from cellmodel.cluster import confidence, order_by_size
from cellmodel.config import RunConfig
from cellmodel.errors import InputUnusable
from cellmodel.graph import knn_graph, smooth, snn_weights
from cellmodel.io import Cells
from cellmodel.knowledge import apply_knowledge
from cellmodel.markers import MarkerTable, rank_markers
from cellmodel.preprocess import detected_genes, highly_variable, normalise_log1p, principal_components
from cellmodel.semantics import (
    Whitening,
    cell_sentences,
    encode_sentences,
    expression_weighted,
    fit_whitening,
    mix_paths,
    ranked_sentence,
)
from cellmodel.text_evidence import KnowledgeRow, compare_knowledge
from cellmodel.types import CellByGene, CellGraph, Embedding, GeneVectors, Knowledge, Labels
from cellmodel.values import ValueKind
from cellmodel.words import ClusterWords, cluster_words

if TYPE_CHECKING:
    from cellmodel.recipes.base import CellViews, Clustering, Representation

log = logging.getLogger(__name__)
EncodedPath = Callable[[CellByGene, Int[np.ndarray, " gene"], Whitening], Embedding]


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """Expression side of the cells, before any recipe.

    Parameters
    ----------
    expression
        (cell, gene) log-normalised, genes in the order of the cells' names.
    detected
        Columns of ``expression`` that are seen in enough cells.
    top_genes
        Columns that are highly variable.
    pcs, smoothed
        Principal components, and their mean over the graph.
    knn, graph
        Distances to the nearest cells, and shared-nearest-neighbour weights.
    """

    expression: CellByGene
    detected: Int[np.ndarray, " gene"]
    top_genes: Int[np.ndarray, " gene"]
    pcs: Embedding
    smoothed: Embedding
    knn: CellGraph
    graph: CellGraph


@dataclass(frozen=True, kw_only=True, slots=True)
class TextView:
    """Text side of the cells.

    Parameters
    ----------
    z
        The mixed paths.
    paths
        The expression-weighted path and the ranked sentence.
    whitening
        The map that whitened the gene vectors.
    gene_vectors
        (gene, dim) whitened vectors of the highly variable genes; zero where a gene has none.
    """

    z: Embedding
    paths: tuple[Embedding, Embedding]
    whitening: Whitening
    gene_vectors: GeneVectors


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """Everything that a run found; what each part means stands with the part.

    Parameters
    ----------
    labels
        Cluster of each cell; 0 is the largest; None where only an embedding was asked for.
    confidence
        Confidence of each cell in [0, 1].
    share_hvgs
        Share of the highly variable genes that have a vector; None without a store.
    knowledge
        How well the text view keeps clusters together, real beside its controls.
    seconds
        By stage.
    """

    config: RunConfig
    features: Features
    representation: "Representation"
    clustering: "Clustering | None"
    labels: Labels | None
    confidence: Float[np.ndarray, " cell"] | None
    alignment: GeneAlignment | None
    share_hvgs: float | None
    text: TextView | None
    markers: tuple[MarkerTable, ...] = ()
    words: tuple[ClusterWords, ...] = ()
    knowledge: tuple[KnowledgeRow, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


def run(cells: Cells, kb: genekb.Store | None, config: RunConfig, *, with_clusters: bool = True) -> RunResult:
    """Embed cells and, unless told otherwise, cluster them and find what the clusters mean.

    Parameters
    ----------
    cells
        Matrix, gene names and kind of values.
    kb
        Opened store; may be None if ``config.knowledge`` is ``none``.

    Raises
    ------
    InputUnusable
        If there are too few cells or genes, or a store is needed and not given.
    AlignmentTooLow
        If too few genes are known to the store.
    """
    from cellmodel.recipes.registry import find_recipe

    recipe = find_recipe(config.recipe)
    if kb is None and config.knowledge != "none":
        raise InputUnusable(f"knowledge {config.knowledge!r} needs a store; give --kb NAME, or --knowledge none")
    _check_size(cells, config, with_clusters=with_clusters)
    seconds: dict[str, float] = {}
    with _timed(seconds, "align"):
        alignment = _align(cells, kb, config) if kb is not None else None
    with _timed(seconds, "features"):
        features = make_features(cells, config)
    with _timed(seconds, "text"):
        text = _text_view(cells, kb, alignment, features, config)
    with _timed(seconds, "represent"):
        views = _views(cells, features, text)
        representation = recipe.represent(views, config.seed)
    result = RunResult(
        config=config,
        features=features,
        representation=representation,
        clustering=None,
        labels=None,
        confidence=None,
        alignment=alignment,
        share_hvgs=float(alignment.has_vector[features.top_genes].mean()) if alignment else None,
        text=text,
        seconds=seconds,
    )
    if not with_clusters:
        return result
    with _timed(seconds, "cluster"):
        clustering = recipe.head(representation, views, config.n_clusters, config.seed)
    return _explained(result, clustering, cells, seconds)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - started, 3)
    log.debug("%s: %.2f s", stage, seconds[stage])


def _check_size(cells: Cells, config: RunConfig, *, with_clusters: bool) -> None:
    n_cells, n_genes = cells.matrix.shape
    if n_cells < 3 or n_genes < 2:  # noqa: PLR2004 - below this nothing can be compared
        raise InputUnusable(f"{cells.source} has {n_cells} cells x {n_genes} genes; at least 3 x 2 are needed")
    if with_clusters and config.n_clusters is not None and config.n_clusters > n_cells:
        raise InputUnusable(f"{config.n_clusters} clusters were asked for, there are {n_cells} cells")


def _align(cells: Cells, kb: genekb.Store, config: RunConfig) -> GeneAlignment:
    return align_genes(
        cells.names,
        kb,
        counts=np.asarray(cells.matrix.sum(axis=0), dtype=np.float64).ravel(),
        encoder=config.encoder,
        use_orthologs=config.use_orthologs,
        min_coverage=config.min_coverage,
    )


def make_features(cells: Cells, config: RunConfig) -> Features:
    """Normalise, choose genes, reduce, and link cells: the expression side, which every recipe shares.

    Raises
    ------
    InputUnusable
        If no gene is seen in enough cells.
    """
    settings = config.preprocess
    is_log = cells.kind == ValueKind.LOG1P
    expression = cells.matrix if is_log else normalise_log1p(cells.matrix)
    min_cells = min(settings.min_cells, max(1, expression.shape[0] // 10))
    detected = np.flatnonzero(detected_genes(cells.matrix, min_cells=min_cells))
    if len(detected) < 2:  # noqa: PLR2004 - one gene spans no space
        raise InputUnusable(
            f"{len(detected)} of {len(cells.names)} genes are seen in at least {min_cells} cells of {cells.source}, "
            "2 are needed; is it filtered already, or transposed?"
        )
    top_genes = detected[highly_variable(expression[:, detected], n_top=settings.n_top_genes)]
    pcs = principal_components(expression[:, top_genes], n_components=settings.n_components, seed=config.seed)
    knn = knn_graph(pcs, config=config.graph)
    graph = snn_weights(knn)
    return Features(
        expression=expression,
        detected=detected,
        top_genes=top_genes,
        pcs=pcs,
        smoothed=smooth(pcs, graph, n_steps=settings.n_smoothing),
        knn=knn,
        graph=graph,
    )


def _views(cells: Cells, features: Features, text: TextView | None) -> "CellViews":
    from cellmodel.recipes.base import CellViews

    counts = cells.matrix[:, features.top_genes] if cells.kind == ValueKind.COUNTS else None
    return CellViews(
        expression=features.expression[:, features.top_genes],
        pcs=features.pcs,
        graph=features.graph,
        smoothed=features.smoothed,
        text=text.z if text else None,
        knn=features.knn,
        depth=np.asarray(cells.matrix.sum(axis=1), dtype=np.float64).ravel(),
        counts=counts,
        text_paths=text.paths if text else None,
        gene_vectors=text.gene_vectors if text else None,
    )


def _text_view(
    cells: Cells, kb: genekb.Store | None, alignment: GeneAlignment | None, features: Features, config: RunConfig
) -> TextView | None:
    if alignment is None or kb is None or config.knowledge == "none":
        return None
    if config.semantics.sentences == "encoded" and config.knowledge == "real":
        encoder = kb.encoder(alignment.encoder_id)

        def encoded(expression: CellByGene, columns: Int[np.ndarray, " gene"], whitening: Whitening) -> Embedding:
            names = [cells.names[column] for column in columns]
            sentences = cell_sentences(expression, names, n_top=config.semantics.sentence_genes)
            return encode_sentences(sentences, lambda texts: encoder.encode(texts).vectors, whitening)

        return text_view(features, alignment, config, knowledge="real", encoded_path2=encoded)
    return text_view(features, alignment, config, knowledge=config.knowledge)


def text_view(
    features: Features,
    alignment: GeneAlignment,
    config: RunConfig,
    *,
    knowledge: Knowledge,
    encoded_path2: EncodedPath | None = None,
) -> TextView:
    """Make the text view of the cells from gene vectors or from a control.

    Parameters
    ----------
    encoded_path2
        Reads the cells' sentences with the encoder; path 2 is pooled if None.

    Raises
    ------
    InputUnusable
        If fewer than two highly variable genes have a text.
    """
    settings = config.semantics
    columns = features.top_genes[alignment.has_vector[features.top_genes]]
    if len(columns) < 2:  # noqa: PLR2004 - whitening needs two texts
        raise InputUnusable(
            f"{len(columns)} of {len(features.top_genes)} highly variable genes have a text in {alignment.store_id}, "
            "2 are needed; build the store for more genes, or use --knowledge none"
        )
    expression = features.expression[:, columns]
    vectors = apply_knowledge(alignment.vectors[columns], knowledge=knowledge, seed=config.seed)
    whitening = fit_whitening(vectors, rank=settings.rank)
    whitened = whitening(vectors)
    path1 = expression_weighted(expression, whitened)
    if encoded_path2 is not None:
        path2 = encoded_path2(expression, columns, whitening)
    else:
        path2 = ranked_sentence(expression, whitened, n_top=settings.sentence_genes)
    return TextView(
        z=mix_paths(path1, path2, path1_weight=settings.path1_weight),
        paths=(path1, path2),
        whitening=whitening,
        gene_vectors=_of_top_genes(whitened, columns, features),
    )


def _of_top_genes(whitened: GeneVectors, columns: Int[np.ndarray, " gene"], features: Features) -> GeneVectors:
    """Vectors in the order of the highly variable genes, zero for those without one."""
    vectors = np.zeros((len(features.top_genes), whitened.shape[1]), dtype=np.float32)
    vectors[np.isin(features.top_genes, columns)] = whitened
    return vectors


def _explained(result: RunResult, clustering: "Clustering", cells: Cells, seconds: dict[str, float]) -> RunResult:
    from dataclasses import replace

    config, features, alignment = result.config, result.features, result.alignment
    labels = order_by_size(clustering.labels)
    markers: tuple[MarkerTable, ...] = ()
    words: tuple[ClusterWords, ...] = ()
    knowledge: tuple[KnowledgeRow, ...] = ()
    with _timed(seconds, "explain"):
        if config.n_words:
            expression = features.expression[:, features.detected]
            names = [cells.names[column] for column in features.detected]
            markers = rank_markers(expression, labels, gene_names=names)
            texts = _texts(alignment, features.detected, config)
            if texts:
                words = cluster_words(
                    expression, labels, texts=texts, gene_names=names, n_words=config.n_words, seed=config.seed
                )
        if alignment is not None and result.text is not None:
            knowledge = compare_knowledge(
                lambda control: text_view(features, alignment, config, knowledge=control).z,
                clusters=labels,
                own=(config.knowledge, result.text.z),
                graph=config.graph,
                seed=config.seed,
            )
    return replace(
        result,
        clustering=clustering,
        labels=labels,
        confidence=confidence(result.representation.features, labels),
        markers=markers,
        words=words,
        knowledge=knowledge,
    )


def _texts(
    alignment: GeneAlignment | None, columns: Int[np.ndarray, " gene"], config: RunConfig
) -> list[str | None] | None:
    """Texts of the genes, dealt out anew for the shuffled control; None where no words can be found."""
    if alignment is None or config.knowledge in {"none", "random"}:
        return None
    texts = [alignment.texts[column] for column in columns]
    if config.knowledge == "real":
        return texts
    having = np.array([row for row, text in enumerate(texts) if text])
    dealt = apply_knowledge(having[:, None], knowledge="shuffled", seed=config.seed)[:, 0]
    shuffled = list(texts)
    for row, source in zip(having, dealt, strict=True):
        shuffled[row] = texts[source]
    return shuffled
