"""The whole run on arrays: cells and a store in, clusters with their meaning out. No AnnData and no label in here."""

import logging
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

import genekb
from cellmodel.align import GeneAlignment
from cellmodel.cluster import confidence, order_by_size, smooth_by_majority
from cellmodel.config import RunConfig
from cellmodel.errors import InputUnusable
from cellmodel.features import Features
from cellmodel.graph import nearest_by_place
from cellmodel.io import Cells
from cellmodel.knowledge import apply_knowledge
from cellmodel.markers import MarkerTable, rank_by_moments
from cellmodel.moments import cluster_moments
from cellmodel.n_clusters import NClusters
from cellmodel.recipes.base import Clustering, Recipe, Representation
from cellmodel.semantics import column_moments
from cellmodel.sentence_cache import Progress
from cellmodel.sentences import SentenceRecord, mean_cells, read_clusters
from cellmodel.text_evidence import KnowledgeRow, compare_knowledge
from cellmodel.types import Labels
from cellmodel.views import TextView, check_n_clusters, prepare, text_view, timed
from cellmodel.words import ClusterWords, words_by_moments

log = logging.getLogger(__name__)


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
    sentences
        What the encoder's reading of sentences gave; None where it read none.
    knowledge
        How well the text view keeps clusters together, real beside its controls.
    seconds
        By stage.
    """

    config: RunConfig
    features: Features
    representation: Representation
    clustering: Clustering | None
    labels: Labels | None
    confidence: Float[np.ndarray, " cell"] | None
    alignment: GeneAlignment | None
    share_hvgs: float | None
    text: TextView | None
    markers: tuple[MarkerTable, ...] = ()
    words: tuple[ClusterWords, ...] = ()
    sentences: SentenceRecord | None = None
    knowledge: tuple[KnowledgeRow, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def estimate(self) -> NClusters | None:
        """How the number of clusters was estimated; None where it was not."""
        return self.clustering.n_clusters if self.clustering else None

    @property
    def n_clusters_by(self) -> str:
        """Where the number of clusters comes from, in words."""
        if self.estimate is not None:
            return self.estimate.method
        return "given" if self.config.n_clusters else "the head's own"


def run(
    cells: Cells,
    kb: genekb.Store | None,
    config: RunConfig,
    *,
    with_clusters: bool = True,
    progress: Progress | None = None,
) -> RunResult:
    """Embed cells and, unless told otherwise, cluster them and find what the clusters mean.

    Parameters
    ----------
    cells
        Matrix, gene names and kind of values.
    kb
        Opened store; may be None if ``config.knowledge`` is ``none``.
    progress
        Told while sentences are encoded.

    Raises
    ------
    InputUnusable
        If there are too few cells or genes, or a store is needed and not given.
    AlignmentTooLow
        If too few genes are known to the store.
    """
    from cellmodel.recipes.heads import find_head, keep_equal_cells_together
    from cellmodel.recipes.registry import check_compute, find_recipe

    recipe = find_recipe(config.recipe)
    if with_clusters:
        check_n_clusters(config, n_cells=cells.shape[0])
    _check_places(config, recipe)
    check_compute(recipe, config.compute)
    prepared = prepare(cells, kb, config, progress=progress)
    seconds, features, alignment = prepared.seconds, prepared.features, prepared.alignment
    with timed(seconds, "represent"):
        representation = recipe.represent(prepared.views, config.seed)
    result = embedded_result(config, features, representation, alignment=alignment, text=prepared.text, seconds=seconds)
    if not with_clusters:
        return result
    with timed(seconds, "cluster"):
        head = find_head(config.head) if config.head else recipe.head
        clustering = head(representation, prepared.views, config.n_clusters, config.seed)
        if config.spatial is None:  # else equal cells lie at different places
            clustering = keep_equal_cells_together(clustering, cells.matrix)
    return _explained(result, clustering, cells, seconds)


def embedded_result(
    config: RunConfig,
    features: Features,
    representation: Representation,
    *,
    alignment: GeneAlignment | None,
    text: TextView | None,
    seconds: dict[str, float],
) -> RunResult:
    """Give the result before any clusters."""
    return RunResult(
        config=config,
        features=features,
        representation=representation,
        clustering=None,
        labels=None,
        confidence=None,
        alignment=alignment,
        share_hvgs=float(alignment.has_vector[features.top_genes].mean()) if alignment else None,
        text=text,
        sentences=text.sentences if text else None,
        seconds=seconds,
    )


def _check_places(config: RunConfig, recipe: Recipe) -> None:
    """Refuse coordinates that would change nothing."""
    if config.spatial is None or config.spatial.smooth_labels or recipe.uses_places:
        return
    raise InputUnusable(
        f"recipe {recipe.name!r} does not use the places of cells; use fused or scrcl, leave --spatial out, or add "
        "--smooth-labels"
    )


def _explained(result: RunResult, clustering: Clustering, cells: Cells, seconds: dict[str, float]) -> RunResult:
    config, features, alignment = result.config, result.features, result.alignment
    labels = _placed(order_by_size(clustering.labels), features, config)
    markers: tuple[MarkerTable, ...] = ()
    words: tuple[ClusterWords, ...] = ()
    knowledge: tuple[KnowledgeRow, ...] = ()
    with timed(seconds, "explain"):
        if config.n_words:
            expression = features.expression[:, features.detected]
            names = [cells.names[column] for column in features.detected]
            moments = cluster_moments(expression, labels)
            markers = rank_by_moments(*moments, gene_names=names)
            texts = texts_of(alignment, features.detected, config)
            if texts:
                words = words_by_moments(
                    *moments, texts=texts, gene_names=names, n_words=config.n_words, seed=config.seed
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
        sentences=_with_clusters(result, labels),
        knowledge=knowledge,
    )


def _with_clusters(result: RunResult, labels: Labels) -> SentenceRecord | None:
    """Add the sentences of the clusters, where an encoder reads any."""
    reading = result.text.reading if result.text else None
    if reading is None or result.sentences is None:
        return None
    expression = result.features.expression[:, reading.columns]
    clusters = read_clusters(mean_cells(expression, labels), reading, mean=column_moments(expression)[0])
    return replace(result.sentences, clusters=clusters)


def _placed(labels: Labels, features: Features, config: RunConfig) -> Labels:
    """Let the cells around a cell decide its cluster, where that was asked for."""
    if features.coordinates is None or config.spatial is None or not config.spatial.smooth_labels:
        return labels
    n_voters = config.spatial.limited_to(n_cells=len(labels)).n_voters
    return smooth_by_majority(labels, nearest_by_place(features.coordinates, n_neighbors=n_voters))


def texts_of(
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
