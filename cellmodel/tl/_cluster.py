"""Embed and cluster cells, with a model and a report beside them where these are asked for."""

import logging
from collections.abc import Iterable
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

import genekb
from cellmodel.cluster.structure import structure_notes
from cellmodel.core.arrays import row_blocks
from cellmodel.core.config import (
    BatchConfig,
    HeadName,
    Knowledge,
    RunConfig,
    Sentences,
    SpatialConfig,
    Values,
    settings_of,
)
from cellmodel.core.stages import AnyStages
from cellmodel.core.tools import Kb, forwards_to, open_kb, path_of, tool
from cellmodel.io.backed import AnyCells, BackedCells, KeptMatrix
from cellmodel.io.cells import Cells, ReadConfig, obs_categories
from cellmodel.io.matrix import ValueKind
from cellmodel.io.quality import (
    CellQuality,
    figures_of_block,
    keep_rows,
    mitochondrial_genes,
    predicted_doublets,
    rows_to_keep,
    table_of,
)
from cellmodel.io.writers import MODEL
from cellmodel.pp.blocks import scan_again
from cellmodel.pp.doublets import find_doublets
from cellmodel.pp.integrate import integration_version
from cellmodel.recipes.registry import plugin_version
from cellmodel.tl._run.files import CellFiles, run_task
from cellmodel.tl._run.pipeline import RunResult, check_settings, run
from cellmodel.tl._run.slots import run_slots, run_values
from cellmodel.tl._run.task import Reads, Slot, Task
from cellmodel.tl._run.within import Within, check_within, cluster_within, parse_within
from cellmodel.tl.model.fitted import check_can_predict, fit_model, save_model
from genekb.files.replace import Target

if TYPE_CHECKING:
    from anndata import AnnData

    from cellmodel.recipes.base import Recipe

log = logging.getLogger(__name__)
# arguments of `cluster` that other tools have, too: all of them, and those of tools without a store
SHARED: Final = (
    "config", "encoder", "min_coverage", "orthologs", "layer", "use_raw", "gene_key", "values", "overwrite",
    "random_state", "copy",
)  # fmt: skip
VALUES: Final = ("layer", "use_raw", "gene_key", "values", "overwrite", "copy")


@dataclass(frozen=True, kw_only=True, slots=True)
class CellRun:
    """A run, and the cells that it read."""

    cells: AnyCells
    result: RunResult


@dataclass(frozen=True)
class ClusterJob(Task[CellRun]):
    """Embed cells and, unless ``with_clusters`` is false, cluster them, see :func:`cellmodel.tl._run.pipeline.run`.

    ``within``: clusters that are clustered again, see :func:`cellmodel.tl._run.within.cluster_within`.
    """

    kb: genekb.Store | None
    config: RunConfig
    _: KW_ONLY
    with_clusters: bool = True
    within: Within | None = None
    model: Path | None = None  # folder of the fitted model
    report: Path | None = None

    def __post_init__(self) -> None:
        """Check that there is a store where one is needed."""
        knowledge = self.config.knowledge
        if self.kb is None and knowledge != "none":
            raise ValueError(f'knowledge="{knowledge}" needs a store; give `kb`, or knowledge="none"')

    @property
    def targets(self) -> tuple[Target, ...]:
        """Model and report."""
        model = () if self.model is None else (MODEL.target(self.model),)
        return (*model, *(() if self.report is None else (Target(self.report),)))

    @property
    def reads(self) -> Reads:
        """Batches, coordinates, an embedding of the user's; settings, store and plug-ins decide the result."""
        config = self.config
        versions = {} if config.batch is None else integration_version(config.integration)
        return Reads(
            stage_key={
                "config": config.to_dict(),
                "store": self.kb.store_id if self.kb is not None else "",
                "plug-in": plugin_version(config.recipe) | versions,
            },
            obsm=tuple(key for key in ("spatial" if config.spatial else None, config.use_rep) if key is not None),
            batch_key=None if config.batch is None else config.batch.key,
            kb=self.kb,
            use_orthologs=config.use_orthologs,
        )

    def check(self, *, is_backed: bool) -> None:
        """Refuse settings that do not go together, or with cells that are backed."""
        check_settings(self.config, out_of_core=is_backed)
        if self.model is not None:
            check_can_predict(self.config)
        if self.within is not None:
            check_within(self.config, is_backed=is_backed, saves_model=self.model is not None)

    def select(self, cells: AnyCells, stages: AnyStages) -> AnyCells:
        """Cells within the limits of quality."""
        return with_quality(cells, self.config, stages)

    def slots(self, key_added: str) -> list[Slot]:
        """Embeddings, graph and record, and those of the clusters."""
        return run_slots(key_added, with_clusters=self.with_clusters)

    def compute(self, cells: AnyCells, stages: AnyStages) -> CellRun:
        """Run the pipeline."""
        for note in cells.notes:
            log.info("%s", note)
        for note in cells.quality.notes() if cells.quality else ():
            log.warning("%s", note)
        given = None
        if self.within is not None:
            given = cluster_within(cells, self.kb, self.config, self.within)
        result = run(cells, self.kb, self.config, with_clusters=self.with_clusters, given=given, stages=stages)
        for note in cells.quality.notes_on_clusters(result.labels, result.names) if cells.quality else ():
            log.warning("%s", note)
        return CellRun(cells=cells, result=result)

    def values(self, cells: AnyCells, result: CellRun, key_added: str) -> dict[Slot, Any]:
        """Values of the slots."""
        return run_values(cells, result.result, key_added)

    def write_slots(self, cells: AnyCells, result: CellRun, key_added: str) -> None:
        """Write the values, and the figures of quality as columns of obs where it has none of the name."""
        super().write_slots(cells, result, key_added)
        for name, values in cells.quality.columns().items() if cells.quality else ():
            if name not in cells.adata.obs:
                cells.adata.obs[name] = values

    def notes(self, result: CellRun) -> Iterable[str]:
        """Say how well the clusters hold up."""
        return structure_notes(asdict(result.result.structure)) if result.result.structure else ()

    def write_beside(self, cells: AnyCells, result: CellRun, *, key_added: str, overwrite: bool) -> None:
        """Write the model and the report."""
        if self.model is not None:
            save_model(fit_model(cells, result.result), self.model, overwrite=overwrite)
        if self.report is not None:
            from cellmodel.pl.report.write import write_report_of

            write_report_of(cells, self.report, cluster_key=key_added, overwrite=overwrite)


def with_quality(cells: AnyCells, config: RunConfig, stages: AnyStages) -> AnyCells:
    """Measure the quality of cells, and leave out those beyond the limits of ``config``: of the AnnData, in place.

    ``InputUnusable`` if next to no cell is left, or the limits have nothing to compare with.
    """
    if cells.quality is not None:
        return cells
    mito = mitochondrial_genes(cells.names)
    if isinstance(cells, BackedCells):
        depth, n_genes, of_mito = cells.scan.depth, cells.scan.n_genes, cells.scan.mito
    else:
        found = [figures_of_block(block, mito) for block in row_blocks(cells.matrix)]
        n_genes, of_mito = map(np.concatenate, zip(*found, strict=True))
        depth = np.asarray(cells.matrix.sum(axis=1, dtype=np.float64)).ravel()
    are_counts = cells.kind == ValueKind.COUNTS
    quality = CellQuality(
        n_genes=n_genes,
        total_counts=depth if are_counts else None,
        pct_mito=100 * of_mito / np.maximum(depth, 1) if are_counts and len(mito) else None,
        n_measured=len(cells.names),
        n_seen=len(n_genes),
    )
    kept = _without(replace(cells, quality=quality), quality, config, stages)
    return _with_doublets(kept, config)


def _without(cells: AnyCells, quality: CellQuality, config: RunConfig, stages: AnyStages) -> AnyCells:
    """Leave out the cells beyond the limits."""
    rows = rows_to_keep(quality, config.quality, source=cells.source)
    if len(rows) == quality.n_seen:
        return cells
    dropped = {name: int((~kept).sum()) for name, kept in quality.kept_by(config.quality).items()}
    quality = quality.take(rows, dropped)
    if not isinstance(cells, BackedCells):
        keep_rows(cells.adata, rows)
        return replace(cells, matrix=cells.matrix[rows], quality=quality)
    matrix = KeptMatrix(matrix=cells.matrix, rows=rows)
    adata = table_of(cells.adata, rows, columns=cells.var_rows, names=cells.names)
    batches = None if config.batch is None else obs_categories(adata, config.batch.key, source=cells.source)
    again = scan_again(matrix, cells.names, cells.kind, stages, batches=batches, name="scan of kept cells")
    var_rows = np.arange(len(cells.names))
    return replace(cells, adata=adata, matrix=matrix, scan=again, var_rows=var_rows, quality=quality)


def _with_doublets(cells: AnyCells, config: RunConfig) -> AnyCells:
    """Add the doublets that obs names already, or those that are found where that is asked for."""
    assert cells.quality is not None
    known = predicted_doublets(cells.adata)
    if known is not None or not config.quality.doublets:
        return replace(cells, quality=replace(cells.quality, doublets=known))
    assert isinstance(cells, Cells)  # `check` refuses backed ones
    called, score = find_doublets(cells, config)
    return replace(cells, quality=replace(cells.quality, doublets=called, doublet_score=score))


@tool
def cluster(  # noqa: PLR0913 - what users of a clustering tool look for among its arguments
    adata: "AnnData | CellFiles",
    kb: Kb | None = None,
    *,
    n_clusters: "int | Literal['auto'] | None" = None,
    resolution: float | None = None,
    within: str | None = None,
    recipe: "str | Recipe" = "fused",
    knowledge: Knowledge = "real",
    encoder: str | None = None,
    batch_key: str | BatchConfig | None = None,
    use_rep: str | None = None,
    spatial: bool | SpatialConfig = False,
    save_model: str | Path | None = None,
    report: str | Path | None = None,
    config: RunConfig | None = None,
    min_coverage: float = 0.3,
    orthologs: bool = False,
    sentences: Sentences = "pooled",
    low_data: bool = False,
    integration: str | None = None,
    confounded_ok: bool = False,
    harmony_theta: float = 2.0,
    head: HeadName | None = None,
    smooth_labels: bool = False,
    device: str = "cpu",
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    values: Values = "auto",
    min_counts: int | None = None,
    min_genes: int | None = None,
    max_mito: float | None = None,
    doublets: bool = False,
    key_added: str = "cellmodel",
    overwrite: bool = False,
    random_state: int = 0,
    copy: bool = False,
) -> "AnnData | CellRun | None":
    """Embed and cluster cells, and find markers and words of each cluster.

    Adds to the slots of :func:`embed` the categorical ``obs["<key>"]`` (clusters by size, as strings),
    ``obs["<key>_confidence"]``, the levels of their tree, coarsest first, in ``obs["<key>_level_1"]`` and so on, and
    tables in ``uns["<key>"]``.

    From the shell: ``cellmodel cluster``.

    Parameters
    ----------
    adata
        Counts or log-normalized expression; genes by any of their names; in memory, backed, or `CellFiles`.
    kb
        Store: its name, such as ``human``, its folder, or opened.
    n_clusters
        Number of clusters; estimated without labels if None or ``"auto"``.
    resolution
        In place of ``n_clusters``, > 0: as many clusters as Leiden finds at this resolution; higher gives more.
    within
        ``COLUMN=CLUSTER[,CLUSTER]``, such as ``cellmodel=3``: the cells of these clusters of obs are clustered again,
        with genes and components of their own, into ``3.0``, ``3.1``, ...; others keep their clusters.
    recipe
        Name of a recipe, or a `Recipe`.
    knowledge
        Gene vectors: ``real``, ``shuffled`` among the genes, ``random``, or ``none``; shows what the text adds.
    encoder
        Encoder of the store; its first one if None.
    batch_key
        Column of obs with the batch of each cell, to be integrated by Harmony; or a `BatchConfig`.
    use_rep
        Key of obsm with an embedding in place of the principal components, such as ``X_scVI``.
    spatial
        Whether ``obsm["spatial"]`` is used as a graph, or a `SpatialConfig` that says how.
    save_model
        Folder to keep the model in, for :func:`predict`.
    report
        HTML report to write; a file of that name is replaced with ``overwrite`` alone.
    config
        All further settings of a run; an argument that is not at its default wins over it.
    min_coverage
        Fraction of the genes that must have a text, in [0, 1].
    orthologs
        Whether symbols of the orthologous gene of another species may map to a gene.
    sentences
        How ranked-gene sentences are embedded: gene vectors ``pooled`` by rank; the same, compared with the sentences
        of 1,000 cells that the encoder reads (``sampled``); or every cell's sentence ``encoded`` (slow).
    low_data
        For few cells: whether genes are weighted by how informative they are, also by text.
    integration
        With ``batch_key``: ``harmony``, ``none``, or the name of a plug-in; Harmony if None, and none with ``use_rep``.
    confounded_ok
        With ``batch_key``: whether batches may be cell types or conditions, which integration would remove.
    harmony_theta
        With ``batch_key``: how strongly Harmony mixes batches; more mixes cell types of one batch, too.
    head
        Clustering method; that of the recipe if None.
    smooth_labels
        With ``spatial``: whether the majority around a cell decides its cluster.
    device
        Where models are trained: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``cpu`` repeats to the bit.
    layer
        Layer that holds the values; found by what the matrices hold if None.
    use_raw
        Whether the values are those of ``.raw``.
    gene_key
        Column of var with the gene names; the index of var if None.
    values
        What the values are: ``counts``, ``linear``, ``log1p``; found by what the matrices hold if ``auto``.
    min_counts
        Cells with fewer counts are left out, as by scanpy's filter_cells; none if None.
    min_genes
        Cells with fewer genes are left out; none if None.
    max_mito
        Cells with more than so many % of their counts from mitochondrial genes are left out; none if None.
    doublets
        Whether doublets are looked for, as Scrublet does: ``obs["doublet_score"]``, ``obs["predicted_doublet"]``; they
        are reported and stay. A column of that name in ``obs`` is reported in any case.
    key_added
        Name of the slots.
    overwrite
        Whether slots of that name may be replaced.
    random_state
        The run's one seed; ``seed`` is taken, too.
    copy
        Return a copy with the result instead of changing ``adata``.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("cells.h5ad")
    >>> cm.tl.cluster(adata, "demo", n_clusters=2)
    >>> adata.obs["cellmodel"].cat.categories.tolist()
    ['0', '1']
    """
    chosen = settings_of(
        config, n_clusters=n_clusters, resolution=resolution, recipe=recipe, knowledge=knowledge, encoder=encoder,
        batch_key=batch_key, use_rep=use_rep, spatial=spatial, random_state=random_state, min_coverage=min_coverage,
        orthologs=orthologs, sentences=sentences, low_data=low_data, integration=integration,
        confounded_ok=confounded_ok, harmony_theta=harmony_theta, head=head, smooth_labels=smooth_labels, device=device,
        min_counts=min_counts, min_genes=min_genes, max_mito=max_mito, doublets=doublets,
    )  # fmt: skip
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values)
    task = ClusterJob(
        open_kb(kb), chosen, within=None if within is None else parse_within(within),
        model=path_of(save_model), report=path_of(report),
    )  # fmt: skip
    return run_task(adata, task, read, key_added=key_added, overwrite=overwrite, copy=copy)


@tool
@forwards_to(cluster, "n_clusters", "resolution", "within", "save_model", "report", "head", "smooth_labels")
def embed(adata: "AnnData | CellFiles", kb: Kb | None = None, **settings: Any) -> "AnnData | CellRun | None":
    """Embed cells: by their expression, by their text, and in a joint space with words; :func:`cluster` begins with it.

    Adds ``obsm["X_<key>"]``, the embedding for neighbors, maps and clusters; its views ``obsm["X_<key>_expr"]`` and
    ``obsm["X_<key>_text"]``; ``obsm["X_<key>_joint"]``, where genes and free text can be placed among the cells
    (`fused` alone); the graph in ``obsp``, ``var["<key>_gene_id"]`` and ``uns["<key>"]``; and the columns
    ``total_counts``, ``n_genes_by_counts`` and ``pct_counts_mt`` to ``obs`` where it lacks them.

    From the shell: ``cellmodel cluster --no-clusters``.

    Parameters
    ----------
    adata
        Counts or log-normalized expression; genes by any of their names; in memory, backed, or `CellFiles`.
    kb
        Store: its name, its folder, or opened; None only with ``knowledge="none"``.
    settings
        Arguments of :func:`cluster` but those of clusters.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("cells.h5ad")
    >>> cm.tl.embed(adata, "demo", recipe="pca-leiden")
    >>> adata.obsm["X_cellmodel"].shape[0] == adata.n_obs
    True
    """
    config, read, slots = split_settings(settings)
    return run_task(adata, ClusterJob(open_kb(kb), config, with_clusters=False), read, **slots)


def split_settings(settings: dict[str, Any]) -> tuple[RunConfig, ReadConfig, dict[str, Any]]:
    """Give the settings of a run, where its values are, and where its results go, by arguments of :func:`cluster`."""
    read = {name: settings.pop(name) for name in ("layer", "use_raw", "gene_key", "values") if name in settings}
    slots: dict[str, Any] = {
        name: settings.pop(name) for name in ("key_added", "overwrite", "copy") if name in settings
    }
    config = settings_of(settings.pop("config", None), **settings)
    return config, ReadConfig(**read), {"key_added": "cellmodel", **slots}
