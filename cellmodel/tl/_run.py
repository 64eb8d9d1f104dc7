"""The whole run on arrays: cells and a store in, clusters with their meaning out. No AnnData and no label in here."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

import genekb
from cellmodel.cluster.algorithms import confidence, order_by_size, smooth_by_majority
from cellmodel.cluster.n_clusters import NClusters, Stability
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.stages import Stages, save_array
from cellmodel.core.types import Labels
from cellmodel.explain.knowledge_effect import KnowledgeRow, compare_knowledge, compared_cells
from cellmodel.explain.markers import MarkerTable, rank_by_moments
from cellmodel.explain.words import ClusterWords, words_by_moments
from cellmodel.io.cells import Cells
from cellmodel.pp.backed_cells import StoredCells
from cellmodel.pp.features import Features, stream_features
from cellmodel.pp.graph import nearest_by_place
from cellmodel.pp.moments import GroupMoments, cluster_moments, column_moments
from cellmodel.recipes.base import CellViews, Clustering, Recipe, Representation
from cellmodel.text.align import GeneAlignment, align_if_known
from cellmodel.text.controls import apply_knowledge
from cellmodel.text.sentence_cache import Progress
from cellmodel.text.sentences import Read, SentenceRecord, mean_cells, read_clusters
from cellmodel.text.view import TextView, find_reader, sampled_features, stream_text, text_view
from cellmodel.tl._views import check_cells, check_n_clusters, make_views, prepare, timed

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """Everything that a run found; what each part means stands with the part."""

    config: RunConfig
    features: Features
    representation: Representation
    clustering: Clustering | None
    labels: Labels | None  # cluster of each cell; 0 is the largest; None where only an embedding was asked for
    confidence: Float[np.ndarray, " cell"] | None  # confidence of each cell in [0, 1]
    alignment: GeneAlignment | None
    share_hvgs: float | None  # share of the highly variable genes that have a vector; None without a store
    text: TextView | None
    markers: tuple[MarkerTable, ...] = ()
    words: tuple[ClusterWords, ...] = ()
    sentences: SentenceRecord | None = None  # what the encoder's reading of sentences gave; None where it read none
    knowledge: tuple[KnowledgeRow, ...] = ()  # how well the text view keeps clusters together, real beside its controls
    seconds: dict[str, float] = field(default_factory=dict)  # by stage

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

    ``cells``: matrix, gene names and kind of values. ``kb``: opened store; may be None if ``config.knowledge`` is
    ``none``. ``progress``: told while sentences are encoded. Raises ``InputUnusable`` if there are too few cells or
    genes, or a store is needed and not given; ``AlignmentTooLow`` if too few genes are known to the store.
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


_REPRESENTED: Final = ("z", "z_expr", "z_text", "features", "text_head")
_SIDES: Final = ("inside", "rest")


def run_streamed(
    cells: StoredCells, kb: genekb.Store | None, config: RunConfig, stages: Stages, *, with_clusters: bool = True
) -> RunResult:
    """Embed and cluster cells as :func:`cellmodel.tl._run.run`, with some of them in memory at a time.

    What is per cell and small stays in memory: components, graph, embeddings. The matrix never does.

    Raises ``InputUnusable`` if a setting needs all cells in memory, there are too few cells or genes, or a store is
    needed and not given; ``AlignmentTooLow`` if too few genes are known to the store.
    """
    from cellmodel.recipes.heads import find_head, keep_equal_cells_together

    recipe = check_streamed(config)
    if with_clusters:
        check_n_clusters(config, n_cells=cells.shape[0])
    check_cells(cells.shape, cells.source, kb=kb, config=config)
    seconds: dict[str, float] = {}
    with timed(seconds, "align"):
        alignment = align_if_known(cells.names, kb, config, totals=cells.scan.totals)
    with timed(seconds, "features"):
        streamed = stream_features(cells, config, stages)
    features = streamed.features
    with timed(seconds, "text"):
        text = None
        if alignment is not None:
            read = _reader(kb, alignment, config)
            text = stream_text(cells, features, alignment=alignment, config=config, stages=stages, read=read)
    views = make_views(features, text, config, expression=features.expression, depth=cells.scan.depth)
    views = replace(views, wide_pcs=streamed.wide_pcs)
    with timed(seconds, "represent"):
        representation = _represented(stages, recipe, views, config)
    result = embedded_result(config, features, representation, alignment=alignment, text=text, seconds=seconds)
    if not with_clusters:
        return result
    head = find_head(config.head) if config.head else recipe.head
    with timed(seconds, "cluster"):
        found = _clustered(stages, lambda: head(representation, views, config.n_clusters, config.seed))
        clustering = keep_equal_cells_together(found, cells.matrix)
    with timed(seconds, "explain"):
        return _explained_backed(result, clustering, cells, stages)


def check_streamed(config: RunConfig) -> Recipe:
    """Refuse what needs all cells in memory, before any work is done, and give the recipe.

    Raises ``InputUnusable`` if there is such a setting; the message says which; ``NotAvailable`` if what is to train
    the model is not there.
    """
    from cellmodel.recipes.registry import check_compute, find_recipe, names_that

    recipe = find_recipe(config.recipe)
    wanting = {
        f"recipe {recipe.name!r}": not recipe.out_of_core,
        "--spatial": config.spatial is not None,
        "--low-data": config.low_data,
        "--sentences encoded": config.semantics.sentences == "encoded",
    }
    for what, is_wanted in wanting.items():
        if is_wanted:
            raise InputUnusable(
                f"{what} reads all cells at once; leave it out, or give --out-of-core no where memory allows "
                f"(out of core: {names_that('out_of_core')})"
            )
    check_compute(recipe, config.compute)
    return recipe


def _reader(kb: genekb.Store | None, alignment: GeneAlignment | None, config: RunConfig) -> Read | None:
    """Find what reads sentences of a sample, where that was asked for."""
    if kb is None or alignment is None or config.knowledge != "real" or config.semantics.sentences == "pooled":
        return None
    return find_reader(kb, alignment.encoder_id)


def _represented(stages: Stages, recipe: Recipe, views: CellViews, config: RunConfig) -> Representation:
    """Train, or take up what was trained before a run was cut short; arrays that are views are kept by name."""
    shared = {"pcs": views.pcs, "smoothed": views.smoothed}
    if views.text is not None:
        shared["text"] = views.text

    def make(folder: Path) -> Mapping[str, Any]:
        made = recipe.represent(views, config.seed)
        places = {}
        for name in _REPRESENTED:
            values = getattr(made, name)
            if values is None:
                continue
            places[name] = next((place for place, view in shared.items() if view is values), "")
            if not places[name]:
                save_array(folder, name, values)
        for name, values in made.state.items():
            save_array(folder, f"state.{name}", np.asarray(values))
        return {"places": places, "history": [dict(epoch) for epoch in made.history]}

    stage = stages.run("representation", make)
    places = stage.record["places"]
    kept = {name: shared[place] if place else np.asarray(stage.arrays[name]) for name, place in places.items()}
    return Representation(
        z=kept["z"],
        z_expr=kept["z_expr"],
        z_text=kept.get("z_text"),
        features=kept["features"],
        history=tuple(stage.record["history"]),
        text_head=kept.get("text_head"),
        state={
            name.removeprefix("state."): np.asarray(values)
            for name, values in stage.arrays.items()
            if name.startswith("state.")
        },
    )


def _clustered(stages: Stages, cut: Callable[[], Clustering]) -> Clustering:
    """Cut, or take up the clusters of a run that was cut short."""

    def make(folder: Path) -> Mapping[str, Any]:
        found = cut()
        save_array(folder, "labels", order_by_size(found.labels))
        return {"n_clusters": asdict(found.n_clusters) if found.n_clusters else None}

    stage = stages.run("clusters", make)
    estimate = stage.record["n_clusters"]
    if estimate is not None:
        estimate = NClusters(**{**estimate, "curve": tuple(Stability(*point) for point in estimate["curve"])})
    return Clustering(labels=np.array(stage.arrays["labels"]), n_clusters=estimate)


def _explained_backed(result: RunResult, clustering: Clustering, cells: StoredCells, stages: Stages) -> RunResult:
    """Find markers and words in one pass over the file, and set the text view beside its controls on a sample."""
    config, features, labels = result.config, result.features, clustering.labels
    found = replace(
        result,
        clustering=clustering,
        labels=labels,
        confidence=confidence(result.representation.features, labels),
        knowledge=_knowledge(result, labels),
    )
    if not config.n_words and result.sentences is None:
        return found
    inside, rest = _moments(cells, result, clustering, stages)
    found = replace(found, sentences=_cluster_sentences(result, inside))
    if not config.n_words:
        return found
    names = [cells.names[column] for column in features.detected]
    texts = texts_of(result.alignment, features.detected, config)
    words: tuple[ClusterWords, ...] = ()
    if texts:
        words = words_by_moments(inside, rest, texts=texts, gene_names=names, n_words=config.n_words, seed=config.seed)
    return replace(found, markers=rank_by_moments(inside, rest, gene_names=names), words=words)


def _cluster_sentences(result: RunResult, inside: GroupMoments) -> SentenceRecord | None:
    """Add the sentences of the clusters' mean cells, where an encoder reads any."""
    reading = result.text.reading if result.text else None
    if reading is None or result.sentences is None:
        return None
    means = inside.mean[:, np.searchsorted(result.features.detected, reading.columns)]
    mean = inside.n_cells @ means / inside.n_cells.sum()
    return replace(result.sentences, clusters=read_clusters(sp.csr_matrix(means), reading, mean=mean))


def _moments(
    cells: StoredCells, result: RunResult, clustering: Clustering, stages: Stages
) -> tuple[GroupMoments, GroupMoments]:
    expression = cells.expression(result.features.detected)

    def make(folder: Path) -> Mapping[str, Any]:
        for side, moments in zip(_SIDES, cluster_moments(expression, clustering.labels), strict=True):
            for name, values in asdict(moments).items():
                save_array(folder, f"{side}.{name}", values)
        return {}

    arrays = stages.run("moments", make).arrays
    inside, rest = (
        GroupMoments(**{field.name: np.array(arrays[f"{side}.{field.name}"]) for field in fields(GroupMoments)})
        for side in _SIDES
    )
    return inside, rest


def _knowledge(result: RunResult, labels: Labels) -> tuple[KnowledgeRow, ...]:
    if result.alignment is None or result.text is None:
        return ()
    alignment, config = result.alignment, result.config
    rows = compared_cells(len(labels), config.seed)
    sample = sampled_features(result.features, rows, n_genes=len(alignment.gene_ids))
    return compare_knowledge(
        lambda kind: text_view(sample, alignment, config, knowledge=kind).z,
        clusters=labels[rows],
        own=(config.knowledge, result.text.z[rows]),
        graph=config.graph,
        seed=config.seed,
    )
