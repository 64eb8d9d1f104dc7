"""Pipeline of a run: cells and a store in, clusters with their meaning out; no AnnData and no label in here."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np
from jaxtyping import Float

import genekb
from cellmodel.cluster.algorithms import order_by_size, smooth_by_majority
from cellmodel.cluster.structure import FoundClusters, Structure, check_structure
from cellmodel.core import random as seeding
from cellmodel.core.arrays import CellByGene, Labels
from cellmodel.core.config import RESOLUTION, RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.stages import AnyStages, Arrays, MemoryStages
from cellmodel.explain.clusters import Explanation, explain_clusters
from cellmodel.io.backed import AnyCells, BackedCells, Scan
from cellmodel.io.cells import Cells
from cellmodel.io.matrix import ValueKind
from cellmodel.nn.train import find_device
from cellmodel.pp.features import Features, batch_mixing, kept_counts, make_features, scan_cells
from cellmodel.pp.gene_weights import load_adapter
from cellmodel.pp.integrate import Mixing, check_integration, read_batches
from cellmodel.pp.spatial import nearest_by_coordinates
from cellmodel.pp.text.align import GeneAlignment, align_if_known
from cellmodel.pp.text.sentences import SentenceRecord
from cellmodel.pp.text.view import TextView, find_reader, text_view
from cellmodel.recipes.base import CellViews, Head, Recipe, Representation
from cellmodel.recipes.registry import BUILT_IN, find_recipe
from genekb.core.progress import progress

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Both sides of the cells, and the views made of them."""

    alignment: GeneAlignment | None  # genes found in the store; None without one
    features: Features
    text: TextView | None  # None without knowledge
    views: CellViews
    seconds: dict[str, float]  # by stage


def prepare(
    cells: AnyCells, kb: genekb.Store | None, config: RunConfig, *, stages: AnyStages | None = None
) -> Prepared:
    """Align genes, make the expression side and the text side, and put them together for a recipe."""
    if cells.shape[0] < 3 or cells.shape[1] < 2:  # noqa: PLR2004 - below this nothing can be compared
        raise InputUnusable(
            f"{cells.source} has {cells.shape[0]} cells x {cells.shape[1]} genes; at least 3 x 2 are needed, with "
            "fewer there is nothing to compare"
        )
    if kb is None and config.knowledge != "none":
        raise InputUnusable(f'knowledge {config.knowledge!r} needs a store; give `kb`, or knowledge="none"')
    stages, seconds = stages or MemoryStages(), dict[str, float]()
    with timed(seconds, "align"):
        batches = read_batches(cells, config) if config.batch else None
        scanned = scan_cells(cells, batches)
        alignment = align_if_known(cells.names, kb, config, totals=scanned.totals)
    with timed(seconds, "features"):
        from_text = _from_text(alignment, config)
        features = make_features(cells, config, from_text=from_text, stages=stages, batches=batches, scanned=scanned)
    with timed(seconds, "text"):
        text = None
        if alignment is not None and kb is not None and config.knowledge != "none":
            text = _text_view(cells, kb, alignment, features, config, stages=stages)
    views = CellViews(
        expression=features.expression,
        pcs=features.pcs,
        graph=features.graph,
        smoothed=features.smoothed,
        text=text.z if text else None,
        knn=features.knn,
        depth=scanned.depth,
        counts=_counts(cells, features, config, scanned=scanned, stages=stages),
        text_paths=text.paths if text else None,
        gene_vectors=text.text_map.gene_vectors if text else None,
        raw_gene_vectors=text.text_map.raw_gene_vectors if text else None,
        text_path2_encoded=text.sentences_encoded if text else False,
        spatial=features.spatial,
        n_clusters=config.n_clusters,
        resolution=config.resolution or RESOLUTION,
        gene_weights=features.gene_weights,
        device=config.device,
        training=config.training,
    )
    return Prepared(alignment=alignment, features=features, text=text, views=views, seconds=seconds)


_STAGES: Final = {  # of a run, and what each makes
    "align": "genes",
    "features": "components and neighbors",
    "text": "text view",
    "represent": "embedding",
    "cluster": "clusters",
    "explain": "markers and words",
}


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Show a stage, and write down how long it takes."""
    progress(f"stage {_STAGES[stage]}", list(_STAGES).index(stage), len(_STAGES))
    started = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - started, 3)
    log.debug("%s: %.2f s", stage, seconds[stage])


def _from_text(alignment: GeneAlignment | None, config: RunConfig) -> Float[np.ndarray, " gene"] | None:
    """How informative each gene is by its text, or by a control in its place; None where it is not asked for."""
    if not config.low_data or alignment is None or config.knowledge == "none":
        return None
    predicted = load_adapter()(alignment.texts)
    having = np.flatnonzero([bool(text) for text in alignment.texts])
    rng = seeding.generator(config.seed, "informativeness from text")
    if config.knowledge == "shuffled":
        predicted[having] = rng.permutation(predicted[having])
    elif config.knowledge == "random":
        predicted[having] = rng.standard_normal(len(having))
    return predicted


def _text_view(
    cells: AnyCells,
    kb: genekb.Store,
    alignment: GeneAlignment,
    features: Features,
    config: RunConfig,
    *,
    stages: AnyStages,
) -> TextView:
    """Make the text view; sentences are read where that is asked for, and the texts are those of the genes."""
    read = None
    if config.semantics.sentences != "pooled" and config.knowledge == "real":
        read = (cells.names, find_reader(kb, alignment.lineage.encoder_id))
    elif config.semantics.sentences != "pooled":
        log.warning("sentences hold no %s texts: path 2 is pooled, and no sentence is read", config.knowledge)
    return text_view(
        features.expression, features.top_genes, alignment, config, knowledge=config.knowledge, stages=stages, read=read
    )


def _counts(
    cells: AnyCells, features: Features, config: RunConfig, *, scanned: Scan, stages: AnyStages
) -> CellByGene | None:
    """Raw counts of the highly variable genes, for a recipe that reads them."""
    if cells.kind != ValueKind.COUNTS or not find_recipe(config.recipe).uses_counts:
        return None
    if isinstance(cells, Cells):
        return cells.matrix[:, features.top_genes]
    return kept_counts(cells, features.top_genes, scanned, stages)


_REPRESENTED: Final = ("z", "z_expr", "z_text", "z_joint", "features", "text_head", "centers")
_SHARED: Final = ("pcs", "smoothed", "text")  # views that a recipe may give back as they are


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """Everything that a run found; what each part means stands with the part."""

    config: RunConfig
    features: Features
    representation: Representation
    labels: Labels | None = None  # cluster of each cell; 0 is the largest; None where only an embedding was asked for
    given: FoundClusters | None = None  # where the run did not cluster the cells itself
    alignment: GeneAlignment | None
    share_hvgs: float | None  # fraction of the highly variable genes that have a vector; None without a store
    text: TextView | None
    structure: Structure | None = None  # how well the clusters hold up; None where they were given
    explanation: Explanation = field(default_factory=Explanation)  # of the clusters
    mixing: tuple[Mixing, ...] = ()  # how far batches are mixed, in all clusters and in each; empty without batches
    seconds: dict[str, float] = field(default_factory=dict)  # by stage

    @property
    def sentences(self) -> SentenceRecord | None:
        """What the encoder's reading of sentences gave; None where it read none."""
        return self.explanation.sentences or (self.text.sentences if self.text else None)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the clusters: their numbers, unless they were given."""
        if self.given is not None:
            return self.given.names
        return () if self.labels is None else tuple(map(str, range(int(self.labels.max()) + 1)))

    @property
    def n_clusters_by(self) -> str:
        """Where the number of clusters comes from, in words."""
        if self.given is not None:
            return self.given.method
        return "given" if self.config.n_clusters else f"Leiden at resolution {self.config.resolution or RESOLUTION:g}"


def run(
    cells: AnyCells,
    kb: genekb.Store | None,
    config: RunConfig,
    *,
    with_clusters: bool = True,
    given: FoundClusters | None = None,
    stages: AnyStages | None = None,
) -> RunResult:
    """Embed cells and, unless ``with_clusters`` is false, cluster them and find what the clusters mean.

    ``cells``: in memory, or backed, of which a block is in memory at a time; what is per cell and small stays in
    memory: components, graph, embeddings. ``given``: clusters that are explained in place of clusters of its own.
    ``stages``: where arrays are kept; in memory if None.
    """
    from cellmodel.recipes.heads import find_head, keep_equal_cells_together

    stages = stages or MemoryStages()
    recipe = check_settings(config, out_of_core=isinstance(cells, BackedCells))
    if with_clusters and config.n_clusters is not None and config.n_clusters > cells.shape[0]:
        raise InputUnusable(
            f"{config.n_clusters} clusters were asked for, there are {cells.shape[0]} cells; ask for fewer "
            "(`n_clusters`)"
        )
    prepared = prepare(cells, kb, config, stages=stages)
    views, seconds = prepared.views, prepared.seconds
    if given is not None:
        views = replace(views, n_clusters=len(given.names))
    with timed(seconds, "represent"):
        representation = _represented(stages, recipe, views, config)
    alignment, features = prepared.alignment, prepared.features
    result = RunResult(
        config=config,
        features=features,
        representation=representation,
        alignment=alignment,
        share_hvgs=float(alignment.has_vector[features.top_genes].mean()) if alignment else None,
        text=prepared.text,
        seconds=seconds,
    )
    if not with_clusters:
        return replace(result, mixing=batch_mixing(features, np.zeros(cells.shape[0], dtype=np.int64)))
    if given is not None:
        with timed(seconds, "explain"):
            return _described(replace(result, given=given), given.labels, cells, stages)
    with timed(seconds, "cluster"):
        head = find_head(config.head) if config.head else recipe.head
        labels, structure = _clustered(stages, head, representation, views, config)
        if config.spatial is None:  # else equal cells have different coordinates
            labels = keep_equal_cells_together(labels, cells.matrix)
    with timed(seconds, "explain"):
        return _described(replace(result, structure=structure), labels, cells, stages)


def check_settings(config: RunConfig, *, out_of_core: bool) -> Recipe:
    """Refuse settings that would change nothing, or need all cells in memory, before any work is done."""
    recipe = find_recipe(config.recipe)
    if config.spatial is not None and not config.spatial.smooth_labels and not recipe.uses_coordinates:
        raise InputUnusable(
            f"recipe {recipe.name!r} does not use the coordinates of cells; use fused or scrcl, leave `spatial` out, "
            "or add smooth_labels=True"
        )
    if out_of_core and not recipe.out_of_core:
        raise InputUnusable(
            f'recipe {recipe.name!r} reads all cells at once; give out_of_core="no" where memory allows, or one of '
            f"{', '.join(BUILT_IN)}"
        )
    if out_of_core and config.quality.doublets:
        raise InputUnusable('`doublets` needs all cells in memory; give out_of_core="no" where memory allows')
    if config.batch is not None:
        check_integration(config.integration)
    if config.device != "cpu":
        find_device(config.device)
    return recipe


def _represented(stages: AnyStages, recipe: Recipe, views: CellViews, config: RunConfig) -> Representation:
    """Train, or take up what was trained before a run was cut short; an array that is a view is kept by its name."""

    def make(arrays: Arrays) -> Mapping[str, Any]:
        made = recipe.represent(views, config.seed)
        same = {}
        for name in _REPRESENTED:
            values = getattr(made, name)
            view = next((view for view in _SHARED if values is not None and values is getattr(views, view)), None)
            if view is not None:
                same[name] = view
            elif values is not None:
                arrays.save(name, values)
        for name, values in made.state.items():
            arrays.save(f"state.{name}", np.asarray(values))
        history = [dict(epoch) for epoch in made.history]
        return {"history": history, "same": same}

    stage = stages.run("representation", make)
    kept = {name: np.asarray(values) for name, values in stage.arrays.items()}
    state = {name.removeprefix("state."): values for name, values in kept.items() if name.startswith("state.")}
    found: dict[str, Any] = {name: kept.get(name) for name in _REPRESENTED}
    found |= {name: getattr(views, view) for name, view in stage.record["same"].items()}
    return Representation(**found, history=tuple(stage.record["history"]), state=state)


def _clustered(
    stages: AnyStages, head: Head, representation: Representation, views: CellViews, config: RunConfig
) -> tuple[Labels, Structure]:
    """Cluster and check, or take up the clusters of a run that was cut short; the largest is first."""
    from cellmodel.recipes.heads import is_leiden

    def make(arrays: Arrays) -> Mapping[str, Any]:
        labels = order_by_size(head(representation, views, config.seed))
        arrays.save("labels", labels)
        repeated = views if is_leiden(head, representation, views) else None
        n_clusters, resolution = (repeated.n_clusters, repeated.resolution) if repeated else (None, None)
        found = check_structure(
            labels,
            pcs=views.pcs,
            total_counts=views.depth,
            seed=config.seed,
            n_clusters=n_clusters,
            resolution=resolution,
        )
        return asdict(found)

    stage = stages.run("clusters", make)
    return np.array(stage.arrays["labels"]), Structure(**stage.record)


def _described(result: RunResult, labels: Labels, cells: AnyCells, stages: AnyStages) -> RunResult:
    """Smooth labels where that was asked for, and explain the clusters."""
    features, config = result.features, result.config
    if features.coordinates is not None and config.spatial is not None and config.spatial.smooth_labels:
        n_voters = config.spatial.voters_of(n_cells=len(labels))
        labels = smooth_by_majority(labels, nearest_by_coordinates(features.coordinates, n_neighbors=n_voters))
    explanation = explain_clusters(
        cells,
        labels,
        result.representation.features,
        features=features,
        alignment=result.alignment,
        text=result.text,
        config=config,
        stages=stages,
        parents=None if result.given is None else result.given.parents,
    )
    return replace(result, labels=labels, explanation=explanation, mixing=batch_mixing(features, labels))
