"""Cluster cells, name the clusters, and explain what sets them apart, all in one go."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import genekb
from cellmodel.annotate.candidates import Panel
from cellmodel.annotate.cell_types import CellType, usual_types
from cellmodel.annotate.levels import Level
from cellmodel.annotate.name_cells import TypeChoice, TypeNaming
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable, UnknownName
from cellmodel.core.stages import AnyStages
from cellmodel.explain.evidence import AttributeConfig
from cellmodel.io.backed import AnyCells, cells_in_memory
from cellmodel.io.writers import WriteConfig
from cellmodel.tl._annotate import AnnotateJob, OverlapJob
from cellmodel.tl._attribute import AttributeJob
from cellmodel.tl._cluster import ClusterJob
from cellmodel.tl._run.task import Slot, Task, run_on_cells
from genekb.core.messages import check_choice
from genekb.core.progress import progress
from genekb.files.replace import Target
from genekb.files.tables import write_table

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
        rows = zip(obs.index, *(obs[column] for column in columns), strict=True)
        write_table(path, ["cell", *columns], rows, overwrite=overwrite)
