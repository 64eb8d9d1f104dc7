"""The whole run on cells that stay in their file: stage by stage, each resumable; the same result as in memory."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy.sparse as sp

import genekb
from cellmodel.align import GeneAlignment
from cellmodel.cluster import confidence, order_by_size
from cellmodel.config import RunConfig
from cellmodel.errors import InputUnusable
from cellmodel.markers import rank_by_moments
from cellmodel.moments import GroupMoments, cluster_moments
from cellmodel.n_clusters import NClusters, Stability
from cellmodel.pipeline import RunResult, embedded_result, texts_of
from cellmodel.recipes.base import CellViews, Clustering, Recipe, Representation
from cellmodel.sentences import Read, SentenceRecord, read_clusters
from cellmodel.stages import Stages, save_array
from cellmodel.stored_cells import StoredCells
from cellmodel.streamed_features import stream_features
from cellmodel.streamed_text import sampled_features, stream_text
from cellmodel.text_evidence import KnowledgeRow, compare_knowledge, compared_cells
from cellmodel.types import Labels
from cellmodel.views import align_if_known, check_cells, check_n_clusters, find_reader, make_views, text_view, timed
from cellmodel.words import ClusterWords, words_by_moments

log = logging.getLogger(__name__)
_REPRESENTED: Final = ("z", "z_expr", "z_text", "features", "text_head")
_SIDES: Final = ("inside", "rest")


def run_streamed(
    cells: StoredCells, kb: genekb.Store | None, config: RunConfig, stages: Stages, *, with_clusters: bool = True
) -> RunResult:
    """Embed and cluster cells as :func:`cellmodel.pipeline.run`, with some of them in memory at a time.

    What is per cell and small stays in memory: components, graph, embeddings. The matrix never does.

    Raises
    ------
    InputUnusable
        If a setting needs all cells in memory, there are too few cells or genes, or a store is needed and not given.
    AlignmentTooLow
        If too few genes are known to the store.
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
        return _explained(result, clustering, cells, stages)


def check_streamed(config: RunConfig) -> Recipe:
    """Refuse what needs all cells in memory, before any work is done, and give the recipe.

    Raises
    ------
    InputUnusable
        If there is such a setting; the message says which.
    NotAvailable
        If what is to train the model is not there.
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


def _explained(result: RunResult, clustering: Clustering, cells: StoredCells, stages: Stages) -> RunResult:
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
