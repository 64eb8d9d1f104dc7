"""The whole run: cells and a store in, clusters with their meaning out. No AnnData and no label in here.

Cells in memory are one block of the same pipeline that reads backed cells block by block.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

import genekb
from cellmodel.cluster.algorithms import confidence, order_by_size, smooth_by_majority
from cellmodel.cluster.n_clusters import NClusters, Stability
from cellmodel.core.arrays import Labels
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.stages import AnyStages, Arrays, MemoryStages
from cellmodel.explain.attribution import KnowledgeRow, compare_knowledge, compared_cells
from cellmodel.explain.markers import MarkerTable, rank_by_moments
from cellmodel.explain.words import ClusterWords, words_by_moments
from cellmodel.io.backed import AnyCells, BackedCells
from cellmodel.pp.blocks import LogExpression
from cellmodel.pp.features import Features
from cellmodel.pp.graph import nearest_by_coordinates
from cellmodel.pp.moments import GroupMoments, cluster_moments
from cellmodel.recipes.base import CellViews, Clustering, Recipe, Representation
from cellmodel.text.align import GeneAlignment
from cellmodel.text.paths import apply_knowledge
from cellmodel.text.sentence_cache import Progress
from cellmodel.text.sentences import SentenceRecord, read_clusters
from cellmodel.text.view import TextView, text_view
from cellmodel.tl._views import Prepared, prepare, timed

log = logging.getLogger(__name__)
_REPRESENTED: Final = ("z", "z_expr", "z_text", "features", "text_head", "centres")
_SIDES: Final = ("inside", "rest")


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
    share_hvgs: float | None  # fraction of the highly variable genes that have a vector; None without a store
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
    cells: AnyCells,
    kb: genekb.Store | None,
    config: RunConfig,
    *,
    with_clusters: bool = True,
    progress: Progress | None = None,
    stages: AnyStages | None = None,
) -> RunResult:
    """Embed cells and, unless ``with_clusters`` is false, cluster them and find what the clusters mean.

    ``cells``: in memory, or backed, of which a block is in memory at a time; what is per cell and small stays in
    memory: components, graph, embeddings. ``kb``: opened store; may be None if ``config.knowledge`` is ``none``.
    ``progress``: called while sentences are encoded. ``stages``: where arrays are kept; in memory if None. Raises
    ``InputUnusable`` if there are too few cells or genes, a store is needed and not given, or a setting needs all cells
    in memory; ``AlignmentTooLow`` if too few genes are known to the store.
    """
    from cellmodel.recipes.heads import find_head, keep_equal_cells_together

    stages = stages or MemoryStages()
    recipe = check_settings(config, out_of_core=isinstance(cells, BackedCells))
    if with_clusters and config.n_clusters is not None and config.n_clusters > cells.shape[0]:
        raise InputUnusable(
            f"{config.n_clusters} clusters were asked for, there are {cells.shape[0]} cells; ask for fewer "
            "(--n-clusters)"
        )
    prepared = prepare(cells, kb, config, progress=progress, stages=stages)
    views, seconds = prepared.views, prepared.seconds
    with timed(seconds, "represent"):
        representation = _represented(stages, recipe, views, config)
    result = _embedded(config, prepared, representation)
    if not with_clusters:
        return result
    with timed(seconds, "cluster"):
        head = find_head(config.head) if config.head else recipe.head
        clustering = _clustered(stages, lambda: head(representation, views, config.n_clusters, config.seed))
        if config.spatial is None:  # else equal cells have different coordinates
            clustering = keep_equal_cells_together(clustering, cells.matrix)
    with timed(seconds, "explain"):
        return _explained(result, clustering, cells, stages)


def check_settings(config: RunConfig, *, out_of_core: bool) -> Recipe:
    """Refuse settings that would change nothing, or need all cells in memory, before any work is done.

    Raises ``InputUnusable`` if there is such a setting; the message says which; ``NotAvailable`` if what is to train
    the model is not there.
    """
    from cellmodel.recipes.registry import check_compute, find_recipe, names_that

    recipe = find_recipe(config.recipe)
    if config.spatial is not None and not config.spatial.smooth_labels and not recipe.uses_coordinates:
        raise InputUnusable(
            f"recipe {recipe.name!r} does not use the places of cells; use fused or scrcl, leave --spatial out, or add "
            "--smooth-labels"
        )
    if out_of_core and not recipe.out_of_core:
        raise InputUnusable(
            f"recipe {recipe.name!r} reads all cells at once; give --out-of-core no where memory allows, or one of "
            f"{names_that('out_of_core')}"
        )
    check_compute(recipe, config.compute)
    return recipe


def _embedded(config: RunConfig, prepared: Prepared, representation: Representation) -> RunResult:
    """Give the result before any clusters."""
    alignment, features = prepared.alignment, prepared.features
    return RunResult(
        config=config,
        features=features,
        representation=representation,
        clustering=None,
        labels=None,
        confidence=None,
        alignment=alignment,
        share_hvgs=float(alignment.has_vector[features.top_genes].mean()) if alignment else None,
        text=prepared.text,
        sentences=prepared.text.sentences if prepared.text else None,
        seconds=prepared.seconds,
    )


def _represented(stages: AnyStages, recipe: Recipe, views: CellViews, config: RunConfig) -> Representation:
    """Train, or take up what was trained before a run was cut short; arrays that are views are kept by name."""
    if isinstance(stages, MemoryStages):
        return recipe.represent(views, config.seed)
    shared = {"pcs": views.pcs, "smoothed": views.smoothed}
    if views.text is not None:
        shared["text"] = views.text

    def make(arrays: Arrays) -> Mapping[str, Any]:
        made = recipe.represent(views, config.seed)
        places = {}
        for name in _REPRESENTED:
            values = getattr(made, name)
            if values is None:
                continue
            places[name] = next((place for place, view in shared.items() if view is values), "")
            if not places[name]:
                arrays.save(name, values)
        for name, values in made.state.items():
            arrays.save(f"state.{name}", np.asarray(values))
        history = [dict(epoch) for epoch in made.history]
        return {"places": places, "history": history, "n_clusters": _estimate_record(made.n_clusters)}

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
        centres=kept.get("centres"),
        n_clusters=_recorded_estimate(stage.record["n_clusters"]),
        state={
            name.removeprefix("state."): np.asarray(values)
            for name, values in stage.arrays.items()
            if name.startswith("state.")
        },
    )


def _clustered(stages: AnyStages, cluster: Callable[[], Clustering]) -> Clustering:
    """Cluster, or take up the clusters of a run that was cut short; the largest is first."""

    def make(arrays: Arrays) -> Mapping[str, Any]:
        found = cluster()
        arrays.save("labels", order_by_size(found.labels))
        return {"n_clusters": _estimate_record(found.n_clusters)}

    stage = stages.run("clusters", make)
    estimate = _recorded_estimate(stage.record["n_clusters"])
    return Clustering(labels=np.array(stage.arrays["labels"]), n_clusters=estimate)


def _estimate_record(estimate: NClusters | None) -> dict[str, Any] | None:
    return None if estimate is None else asdict(estimate)


def _recorded_estimate(record: Mapping[str, Any] | None) -> NClusters | None:
    if record is None:
        return None
    return NClusters(**{**record, "curve": tuple(Stability(*point) for point in record["curve"])})


def _explained(result: RunResult, clustering: Clustering, cells: AnyCells, stages: AnyStages) -> RunResult:
    """Find markers and words in one pass over the cells, and set the text view beside its controls on a sample."""
    config, features = result.config, result.features
    labels = _smoothed(clustering.labels, features, config)
    found = replace(
        result,
        clustering=clustering,
        labels=labels,
        confidence=confidence(result.representation.features, labels),
        knowledge=_knowledge(result, labels),
    )
    if not config.n_words and result.sentences is None:
        return found
    inside, rest = _moments(cells, features, labels, stages)
    found = replace(found, sentences=_cluster_sentences(result, inside))
    if not config.n_words:
        return found
    names = [cells.names[column] for column in features.detected]
    texts = _texts_of(result.alignment, features.detected, config)
    words: tuple[ClusterWords, ...] = ()
    if texts:
        words = words_by_moments(inside, rest, texts=texts, gene_names=names, n_words=config.n_words, seed=config.seed)
    return replace(found, markers=rank_by_moments(inside, rest, gene_names=names), words=words)


def _smoothed(labels: Labels, features: Features, config: RunConfig) -> Labels:
    """Let the cells around a cell decide its cluster, where that was asked for."""
    if features.coordinates is None or config.spatial is None or not config.spatial.smooth_labels:
        return labels
    n_voters = config.spatial.limited_to(n_cells=len(labels)).n_voters
    return smooth_by_majority(labels, nearest_by_coordinates(features.coordinates, n_neighbors=n_voters))


def _texts_of(
    alignment: GeneAlignment | None, columns: Int[np.ndarray, " gene"], config: RunConfig
) -> list[str | None] | None:
    """Texts of the genes, permuted for the shuffled control; None where no words can be found."""
    if alignment is None or config.knowledge in {"none", "random"}:
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


def _cluster_sentences(result: RunResult, inside: GroupMoments) -> SentenceRecord | None:
    """Add the sentences of the clusters' mean cells, where an encoder reads any."""
    reading = result.text.reading if result.text else None
    if reading is None or result.sentences is None:
        return None
    means = inside.mean[:, np.searchsorted(result.features.detected, reading.columns)]
    mean = inside.n_cells @ means / inside.n_cells.sum()
    return replace(result.sentences, clusters=read_clusters(sp.csr_matrix(means), reading, mean=mean))


def _moments(
    cells: AnyCells, features: Features, labels: Labels, stages: AnyStages
) -> tuple[GroupMoments, GroupMoments]:
    """Moments of the detected genes in each cluster and in its rest."""
    expression = LogExpression(matrix=cells.matrix, kind=cells.kind, columns=features.detected)

    def make(arrays: Arrays) -> Mapping[str, Any]:
        for side, moments in zip(_SIDES, cluster_moments(expression, labels), strict=True):
            for name, values in asdict(moments).items():
                arrays.save(f"{side}.{name}", values)
        return {}

    stored = stages.run("moments", make).arrays
    inside, rest = (
        GroupMoments(**{field.name: np.array(stored[f"{side}.{field.name}"]) for field in fields(GroupMoments)})
        for side in _SIDES
    )
    return inside, rest


def _knowledge(result: RunResult, labels: Labels) -> tuple[KnowledgeRow, ...]:
    """Compare the text view with its controls on a sample of the cells."""
    if result.alignment is None or result.text is None:
        return ()
    features, alignment, config = result.features, result.alignment, result.config
    rows = compared_cells(len(labels), config.seed)
    sample = features.expression[rows]
    return compare_knowledge(
        lambda kind: text_view(sample, features.top_genes, alignment, config, knowledge=kind).z,
        clusters=labels[rows],
        own=(config.knowledge, result.text.z[rows]),
        graph=config.graph,
        seed=config.seed,
    )
