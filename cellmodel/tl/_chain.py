"""Cluster cells, name the clusters, and explain what sets them apart, all in one go."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import genekb
from cellmodel.annotate.candidates import Panel, choose_types
from cellmodel.annotate.cell_types import CellType, usual_types
from cellmodel.annotate.levels import Level
from cellmodel.annotate.name_cells import TypeChoice, TypeNaming
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable, UnknownName
from cellmodel.core.stages import AnyStages
from cellmodel.core.tools import Kb, forwards_to, names_of, open_kb, path_of, paths_of, tool
from cellmodel.explain.evidence import N_WORDS, AttributeConfig
from cellmodel.explain.samples.design import SampleConfig
from cellmodel.explain.words import Word
from cellmodel.io.backed import AnyCells, cells_in_memory
from cellmodel.tl._annotate import AnnotateJob, OverlapJob, panel_alone
from cellmodel.tl._attribute import AttributeJob
from cellmodel.tl._cluster import ClusterJob, cluster, split_settings
from cellmodel.tl._run.files import CellFiles, run_task
from cellmodel.tl._run.pipeline import RunResult
from cellmodel.tl._run.task import Reads, Slot, Task, run_on_cells
from cellmodel.tl._samples import CompositionJob, MarkersJob, check_samples
from genekb.core.messages import Paths, check_choice
from genekb.core.progress import progress
from genekb.files.replace import Target
from genekb.files.tables import write_table

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)
AFTER: Final = ("annotate", "attribute", "conditions", "composition")  # steps after the clusters


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainConfig:
    """What is done with the clusters of a run."""

    skip: tuple[str, ...] = ()  # of ``AFTER``
    types: tuple[CellType, ...] = field(default_factory=usual_types)  # the names to choose from
    level: Level = "auto"  # of names, see :class:`cellmodel.annotate.name_cells.TypeNaming`
    panel: Panel | None = None  # marker genes by type, by whose overlap clusters are named where there is no store
    gmt: tuple[Path, ...] = ()  # files of gene sets
    tables: Path | None = None  # folder for the table of the cells and those of the evidence
    samples: SampleConfig | None = None  # samples and conditions to compare, if any

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
    model: Path | None = None  # folder of the fitted model
    report: Path | None = None
    prefers_memory: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check that there is a store where one is needed."""
        _ = self.clustering
        wanted = [name for name in ("annotate", "attribute") if name not in self.chain.skip]
        without = [name for name in wanted if name != "annotate" or self.chain.panel is None]
        if self.kb is None and without:
            raise InputUnusable(
                f'{" and ".join(without)} need a store; give `kb`, or leave them out: skip="{",".join(without)}"'
            )

    @cached_property
    def clustering(self) -> ClusterJob:
        """The first step."""
        return ClusterJob(self.kb, self.config, model=self.model)

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
        yield from self._sample_steps()

    def _sample_steps(self) -> Iterator[Step]:
        """Compare conditions in each cluster, and the shares of the clusters, where there are samples."""
        chain, key = self.chain, self.key_added
        if chain.samples is None:
            return
        config = replace(chain.samples, cluster_key=key)
        if "conditions" not in chain.skip and config.condition_key is not None:
            table = chain.tables and chain.tables / "conditions.tsv"
            yield Step(name="conditions", task=MarkersJob(config, table), key_added=f"{key}_conditions")
        if "composition" not in chain.skip:
            folder = chain.tables
            task = CompositionJob(
                config,
                table=folder / "composition.tsv" if folder and config.condition_key else None,
                shares=folder / "shares.tsv" if folder else None,
            )
            yield Step(name="composition", task=task, key_added=f"{key}_composition")

    @property
    def reads(self) -> Reads:
        """What the clusters read: what follows is not kept."""
        return self.clustering.reads

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Those of all steps."""
        return tuple(path for step in self.steps for path in step.task.inputs)

    @property
    def targets(self) -> tuple[Target, ...]:
        """Those of all steps, and the table of the cells."""
        table = () if self.chain.tables is None else (Target(self.chain.tables / "cells.tsv", makes_parents=True),)
        report = () if self.report is None else (Target(self.report),)
        return (*(target for step in self.steps for target in step.task.targets), *table, *report)

    def check(self, *, is_backed: bool) -> None:
        """Refuse what one of the steps refuses."""
        for step in self.steps:
            step.task.check(is_backed=is_backed)

    def select(self, cells: AnyCells, stages: AnyStages) -> AnyCells:
        """Select as the clusters do."""
        return self.clustering.select(cells, stages)

    def slots(self, key_added: str) -> list[Slot]:
        """Slots of all steps; ``key_added`` is that of the job."""
        return [slot for step in self.steps for slot in step.task.slots(step.key_added)]

    def compute(self, cells: AnyCells, stages: AnyStages) -> dict[str, Any]:
        """Do the steps, each of which writes its slots, which the next one reads."""
        results: dict[str, Any] = {}
        if self.chain.samples is not None:
            check_samples(cells, self.chain.samples)
        for step in self.steps:
            if results and results["cluster"].result.labels.max() == 0:
                log.warning("the cells are one cluster, which is neither named nor explained")
                break
            cells = cells_in_memory(cells) if results else cells
            task = step.task
            if isinstance(task, AttributeJob):
                task = replace(task, words=self._words(results["cluster"].result))
            progress(step.name, 0, 0)
            try:
                results[step.name] = run_on_cells(cells, task, key_added=step.key_added, overwrite=True, stages=stages)
            except InputUnusable as error:
                if step.name not in {"conditions", "composition"}:
                    raise
                log.warning("%s: %s", step.name, error)  # too few cells or samples; what was found before is kept
        return results

    def _words(self, found: RunResult) -> dict[str, tuple[Word, ...]] | None:
        """Words of the clusters by name; None where they are not those that `attribute` would find."""
        if self.config.knowledge != "real" or self.config.n_words < N_WORDS:
            return None
        return {found.names[one.cluster]: one.words for one in found.explanation.words}

    def values(self, cells: AnyCells, result: dict[str, Any], key_added: str) -> dict[Slot, Any]:
        """Nothing more than the steps have written."""
        return {}

    def write_slots(self, cells: AnyCells, result: dict[str, Any], key_added: str) -> None:
        """Leave what the steps have written."""

    def notes(self, result: dict[str, Any]) -> Iterable[str]:
        """Those of the clusters."""
        return self.clustering.notes(result["cluster"])

    def write_beside(self, cells: AnyCells, result: dict[str, Any], *, key_added: str, overwrite: bool) -> None:
        """Write what each step writes, and the table of the cells."""
        for step in self.steps:
            if step.name in result:
                step.task.write_beside(cells, result[step.name], key_added=step.key_added, overwrite=overwrite)
        if self.chain.tables is not None:
            self._write_table(cells, self.chain.tables / "cells.tsv", overwrite=overwrite)
        if self.report is not None:
            from cellmodel.pl.report.write import write_report_of

            sample_key = self.chain.samples.sample_key if self.chain.samples else None
            write_report_of(
                cells, self.report, cluster_key=key_added, sample_key=sample_key or None, overwrite=overwrite
            )

    def _write_table(self, cells: AnyCells, path: Path, *, overwrite: bool) -> None:
        """Write what was found of each cell, a row a cell and its columns of obs, for programs that read no AnnData."""
        obs = cells.adata.obs
        columns = [key for part, key in self.slots(self.key_added) if part == "obs" and key in obs]
        columns += [] if cells.quality is None else cells.quality.columns()
        rows = zip(obs.index, *(obs[column] for column in columns), strict=True)
        write_table(path, ["cell", *columns], rows, overwrite=overwrite)


@tool
@forwards_to(cluster, "within")
def run(
    adata: "AnnData | CellFiles",
    kb: Kb | None = None,
    *,
    candidates: str | Path | Sequence[str | CellType] | None = None,
    tissue: str | Sequence[str] | None = None,
    only_tissue: str | Sequence[str] | None = None,
    markers: str | Path | Mapping[str, Sequence[str]] | None = None,
    level: Level = "auto",
    gmt: Paths = (),
    sample_key: str | None = None,
    condition_key: str | None = None,
    reference: str | None = None,
    skip: str | Sequence[str] = (),
    tables: str | Path | None = None,
    **settings: Any,
) -> "AnnData | dict[str, Any] | None":
    """Cluster cells, name the clusters, and explain what sets them apart, all in one go.

    Adds the slots of :func:`cluster`, those of :func:`annotate` under ``<key>_name``, and those of :func:`attribute`
    under ``<key>_attribution``: what the three do one after the other. Of samples, those of :func:`composition` under
    ``<key>_composition``, and of conditions those of :func:`markers` under ``<key>_conditions``. Cells that are one
    cluster get the first alone.

    From the shell: ``cellmodel run``.

    Parameters
    ----------
    adata
        Counts or log-normalized expression; genes by any of their names; in memory, backed, or `CellFiles`.
    kb
        Store: its name, such as ``human``, its folder, or opened.
    candidates
        Cell types to choose names from, or a file of them; those of the package's table if None.
    tissue
        Cell types of these tissues of the table, such as ``gut``, and the cells that every tissue has.
    only_tissue
        Cell types of these tissues and no others.
    markers
        Marker genes by type, or a file of them, in place of the table; without a store, names come from them alone.
    level
        ``fine``: a type; ``broad``: its everyday group; ``auto``: a type, or the group of types that disagree.
    gmt
        Files of gene sets, tested beside those of the store.
    sample_key
        Column of obs with the sample, or the donor, of each cell, the replicates of tests; that by which several files
        are joined, if None.
    condition_key
        Column of obs with conditions: their markers in each cluster, and the shares of the clusters, are compared.
    reference
        Condition that the others are compared with; the first one if None.
    skip
        Steps to leave out, of ``annotate``, ``attribute``, ``conditions`` and ``composition``.
    tables
        Folder for the tables as .tsv.
    settings
        Arguments of :func:`cluster`, such as ``report``.

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
    model, report = (path_of(settings.pop(name, None)) for name in ("save_model", "report"))
    config, read, slots = split_settings(settings)
    store, steps, naming = open_kb(kb), names_of(skip), (candidates, tissue, only_tissue)
    if "annotate" in steps and any(given is not None for given in (*naming, markers)):
        raise ValueError('skip="annotate" gives no names; leave out the arguments that choose them, or it')
    chain = ChainConfig(
        skip=steps,
        types=choose_types(candidates, tissue=tissue, only_tissue=only_tissue, markers=markers),
        level=level,
        panel=None if store or markers is None else panel_alone(markers, level, *naming, settings.get("encoder")),
        gmt=paths_of(gmt),
        tables=path_of(tables),
        samples=_samples(adata, sample_key=sample_key, condition_key=condition_key, reference=reference),
    )
    task = ChainJob(store, config, chain=chain, key_added=slots["key_added"], model=model, report=report)
    if isinstance(adata, CellFiles) and sample_key is not None and len(adata.paths) > 1:
        adata = replace(adata, sample_key=sample_key)
    return run_task(adata, task, read, **slots)


def _samples(
    cells: "AnnData | CellFiles", *, sample_key: str | None, condition_key: str | None, reference: str | None
) -> SampleConfig | None:
    """Give what is compared between samples; None where there are none."""
    has_files = isinstance(cells, CellFiles) and (cells.sheet is not None or len(cells.paths) > 1)
    if sample_key is None and condition_key is None and reference is None and not has_files:
        return None
    return SampleConfig(sample_key=sample_key or "", condition_key=condition_key, reference=reference)
