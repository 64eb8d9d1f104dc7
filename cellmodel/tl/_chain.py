"""Cluster cells, name the clusters, and explain what sets them apart, all in one go."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import genekb
from cellmodel.annotate.candidates import Panel, choose_types
from cellmodel.annotate.cell_types import CellType, usual_types
from cellmodel.annotate.levels import Level
from cellmodel.annotate.name_cells import TypeChoice, TypeNaming
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
from cellmodel.core.errors import InputUnusable, UnknownName
from cellmodel.core.stages import AnyStages
from cellmodel.core.tools import Kb, Paths, names_of, open_kb, paths_of, tool
from cellmodel.explain.evidence import AttributeConfig
from cellmodel.io.backed import AnyCells, cells_in_memory
from cellmodel.io.cells import ReadConfig, cells_from_anndata
from cellmodel.io.writers import WriteConfig, check_targets
from cellmodel.pl.report.write import report_cells
from cellmodel.tl._annotate import AnnotateJob, OverlapJob
from cellmodel.tl._attribute import AttributeJob
from cellmodel.tl._cluster import ClusterJob, keep_model, model_target, note_structure
from cellmodel.tl._run.task import Slot, Task, run_on_anndata, run_on_cells
from genekb.core.messages import check_choice
from genekb.core.progress import progress
from genekb.files.replace import Target
from genekb.files.tables import write_table

if TYPE_CHECKING:
    from anndata import AnnData

    from cellmodel.recipes.base import Recipe

log = logging.getLogger(__name__)
AFTER: Final = ("annotate", "attribute")  # steps after the clusters, each named as its command


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainConfig:
    """What is done with the clusters of a run."""

    skip: tuple[str, ...] = ()  # of ``AFTER``
    types: tuple[CellType, ...] = field(default_factory=usual_types)  # the names to choose from
    level: Level = "auto"  # of names, see :class:`cellmodel.annotate.name_cells.TypeNaming`
    panel: Panel | None = None  # marker genes by type, by whose overlap clusters are named where there is no store
    gmt: tuple[Path, ...] = ()  # files of gene sets
    tables: Path | None = None  # folder for the table of the cells and those of the evidence

    def __post_init__(self) -> None:
        """Check the steps."""
        for name in self.skip:
            check_choice("step", name, AFTER, error=UnknownName)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A task within another: the command that does it alone, and the name of its slots."""

    name: str
    task: Task[Any]
    key_added: str


@dataclass(frozen=True)
class ChainJob(Task[dict[str, Any]]):
    """Cluster cells, name the clusters and explain what sets them apart: all that the commands for each do, as one.

    The result is by the name of the step; of cells that are one cluster, that of ``cluster`` alone. Names and evidence
    are in the slots ``<key>_name`` and ``<key>_attribution``. Raises ``InputUnusable`` if a step needs a store and
    there is none.
    """

    kb: genekb.Store | None
    config: RunConfig
    _: KW_ONLY
    chain: ChainConfig
    key_added: str = "cellmodel"
    prefers_memory: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check that there is a store where one is needed."""
        wanted = [name for name in AFTER if name not in self.chain.skip]
        without = [name for name in wanted if name != "annotate" or self.chain.panel is None]
        if self.kb is None and without:
            raise InputUnusable(
                f'{" and ".join(without)} need a store; give `kb`, or leave them out: skip="{",".join(without)}"'
            )

    @cached_property
    def clustering(self) -> ClusterJob:
        """The first step."""
        return ClusterJob(self.kb, self.config)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """All steps in their order."""
        return (Step(name="cluster", task=self.clustering, key_added=self.key_added), *self._steps_after())

    def _steps_after(self) -> Iterator[Step]:
        """Name and explain the clusters, with the settings of their commands: genes and seed are those of the run."""
        chain, key = self.chain, self.key_added
        own = RunConfig(
            encoder=self.config.encoder,
            min_coverage=self.config.min_coverage,
            use_orthologs=self.config.use_orthologs,
            seed=self.config.seed,
        )
        if "annotate" not in chain.skip:
            task: Task[Any] = OverlapJob(panel=chain.panel or {}, cluster_key=key)
            if self.kb is not None:
                choice = TypeChoice(cluster_key=key, types=chain.types, naming=TypeNaming(level=chain.level))
                task = AnnotateJob(self.kb, own, choice=choice)
            yield Step(name="annotate", task=task, key_added=f"{key}_name")
        if "attribute" not in chain.skip and self.kb is not None:
            choice_of_genes = AttributeConfig(cluster_key=key, gmt=chain.gmt)
            task = AttributeJob(self.kb, own, choice=choice_of_genes, tables=chain.tables)
            yield Step(name="attribute", task=task, key_added=f"{key}_attribution")

    @property
    def stage_key(self) -> Mapping[str, Any]:
        """That of the clusters: what follows is not kept."""
        return self.clustering.stage_key

    @property
    def obsm(self) -> tuple[str, ...]:
        """Those of the clusters."""
        return self.clustering.obsm

    @property
    def batch_key(self) -> str | None:
        """That of the clusters."""
        return self.clustering.batch_key

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Those of all steps."""
        return tuple(path for step in self.steps for path in step.task.inputs)

    @property
    def targets(self) -> tuple[Target, ...]:
        """Those of all steps, and the table of the cells."""
        table = () if self.chain.tables is None else (Target(self.chain.tables / "cells.tsv", makes_parents=True),)
        return (*(target for step in self.steps for target in step.task.targets), *table)

    def check(self, write: WriteConfig, *, is_backed: bool) -> None:
        """Refuse what one of the steps refuses."""
        for step in self.steps:
            step.task.check(write, is_backed=is_backed)

    def select(self, cells: AnyCells, stages: AnyStages) -> AnyCells:
        """Select as the clusters do."""
        return self.clustering.select(cells, stages)

    def slots(self, key_added: str) -> list[Slot]:
        """Slots of all steps; ``key_added`` is that of the job."""
        return [slot for step in self.steps for slot in step.task.slots(step.key_added)]

    def compute(self, cells: AnyCells, stages: AnyStages) -> dict[str, Any]:
        """Do the steps, each of which writes its slots, which the next one reads."""
        results: dict[str, Any] = {}
        for step in self.steps:
            if results and results["cluster"].result.labels.max() == 0:
                log.warning("the cells are one cluster, which is neither named nor explained")
                break
            cells = cells_in_memory(cells) if results else cells
            progress(step.name, 0, 0)
            results[step.name] = run_on_cells(cells, step.task, key_added=step.key_added, overwrite=True, stages=stages)
        return results

    def values(self, cells: AnyCells, result: dict[str, Any], key_added: str) -> dict[Slot, Any]:
        """Nothing more than the steps have written."""
        return {}

    def write_slots(self, cells: AnyCells, result: dict[str, Any], key_added: str) -> None:
        """Leave what the steps have written."""

    def write_beside(self, cells: AnyCells, result: dict[str, Any], write: WriteConfig) -> None:
        """Write what each step writes, and the table of the cells."""
        for step in self.steps:
            if step.name in result:
                step.task.write_beside(cells, result[step.name], write)
        if self.chain.tables is not None:
            self._write_table(cells, self.chain.tables / "cells.tsv", overwrite=write.overwrite)

    def _write_table(self, cells: AnyCells, path: Path, *, overwrite: bool) -> None:
        """Write what was found of each cell, a row a cell and its columns of obs, for programs that read no AnnData."""
        obs = cells.adata.obs
        columns = [key for part, key in self.slots(self.key_added) if part == "obs" and key in obs]
        columns += [] if cells.quality is None else cells.quality.columns()
        rows = zip(obs.index, *(obs[column] for column in columns), strict=True)
        write_table(path, ["cell", *columns], rows, overwrite=overwrite)


@tool
def run(  # noqa: PLR0913 - those of the tools that it does
    adata: "AnnData",
    kb: Kb | None = None,
    *,
    n_clusters: "int | Literal['auto'] | None" = None,
    resolution: float | None = None,
    recipe: "str | Recipe" = "fused",
    knowledge: Knowledge = "real",
    encoder: str | None = None,
    batch_key: str | BatchConfig | None = None,
    use_rep: str | None = None,
    spatial: bool | SpatialConfig = False,
    candidates: str | Path | Sequence[str | CellType] | None = None,
    tissue: str | Sequence[str] | None = None,
    level: Level = "auto",
    gmt: Paths = (),
    skip: str | Sequence[str] = (),
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
) -> "AnnData | None":
    """Cluster cells, name the clusters, and explain what sets them apart, all in one go.

    Adds the slots of :func:`cluster`, those of :func:`annotate` under ``<key>_name``, and those of :func:`attribute`
    under ``<key>_attribution``: what the three do one after the other. Cells that are one cluster get the first alone.

    From the shell: ``cellmodel run``.

    Parameters
    ----------
    adata
        Counts or log-normalized expression; genes by any of their names; in memory or backed.
    kb
        Store: its name, such as ``human``, its folder, or opened.
    n_clusters
        Number of clusters; estimated without labels if None or ``"auto"``.
    resolution
        In place of ``n_clusters``, > 0: as many clusters as Leiden finds at this resolution; higher gives more.
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
    candidates
        Cell types to choose names from, or a file of them; those of the package's table if None.
    tissue
        Cell types of these tissues of the table, such as ``gut``, and the cells that every tissue has.
    level
        ``fine``: a type; ``broad``: its everyday group; ``auto``: a type, or the group of types that disagree.
    gmt
        Files of gene sets, tested beside those of the store.
    skip
        Steps to leave out, of ``annotate`` and ``attribute``.
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
        Cells with fewer counts are left out of ``adata``, as by scanpy's filter_cells; none if None.
    min_genes
        Cells with fewer genes are left out; none if None.
    max_mito
        Cells with more than so many % of their counts from mitochondrial genes are left out; none if None.
    doublets
        Whether doublets are looked for, as Scrublet does: ``obs["doublet_score"]``, ``obs["predicted_doublet"]``; they
        are reported and stay. A column of that name that ``adata`` has is reported in any case.
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
    >>> cm.tl.run(adata, "demo", n_clusters=2, report="report.html")
    >>> cm.get.names(adata)["name"].tolist()  # doctest: +ELLIPSIS
    [...]
    """
    chosen = settings_of(
        config, n_clusters=n_clusters, resolution=resolution, recipe=recipe, knowledge=knowledge, encoder=encoder,
        batch_key=batch_key, use_rep=use_rep, spatial=spatial, random_state=random_state, min_coverage=min_coverage,
        orthologs=orthologs, sentences=sentences, low_data=low_data, integration=integration,
        confounded_ok=confounded_ok, harmony_theta=harmony_theta, head=head, smooth_labels=smooth_labels, device=device,
        min_counts=min_counts, min_genes=min_genes, max_mito=max_mito, doublets=doublets,
    )  # fmt: skip
    chain = ChainConfig(
        skip=names_of(skip), types=choose_types(candidates, tissue=tissue), level=level, gmt=paths_of(gmt)
    )
    page = None if report is None else Path(report)
    check_targets([model_target(save_model), None if page is None else Target(page)], overwrite=overwrite)
    task = ChainJob(open_kb(kb), chosen, chain=chain, key_added=key_added)
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values)
    done, found = run_on_anndata(adata, task, read, key_added=key_added, overwrite=overwrite, copy=copy)
    note_structure(found["cluster"])
    keep_model(found["cluster"], save_model, overwrite=overwrite)
    if page is not None:
        cells = cells_from_anndata(adata if done is None else done, read)
        report_cells(cells, page, cluster_key=key_added, overwrite=overwrite)
    return done
