"""Tasks on cells: what is found in them is written into slots of their AnnData, in memory or from file to file."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import numpy as np

import genekb
from cellmodel.annotate.label_transfer import Transfer
from cellmodel.annotate.name_cells import NamedCells
from cellmodel.annotate.search.cells import Found, SearchConfig, search_cells
from cellmodel.core.arrays import Labels
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable, WorkUnwritten
from cellmodel.core.stages import AnyStages, MemoryStages, Stages
from cellmodel.explain.evidence import (
    AttributeConfig,
    Evidence,
    attribute_clusters,
    evidence_frames,
    table_targets,
    write_tables,
)
from cellmodel.explain.groups import clustered
from cellmodel.explain.samples.contrasts import sample_contrasts
from cellmodel.explain.samples.markers import markers_of, sampled_cells
from cellmodel.io.backed import BACKED_ABOVE, AnyCells, BackedCells, check_out_of_core, count_entries, open_backed
from cellmodel.io.cells import Cells, ReadConfig, cells_from_anndata, claim_slots, read_cells
from cellmodel.io.records import check_lineage, lineage_record
from cellmodel.io.writers import (
    FileState,
    WriteConfig,
    can_be_copied,
    check_outputs,
    file_state,
    h5ad_safe,
    write_beside,
    write_blocks,
    write_cells,
)
from cellmodel.pp.blocks import read_backed_cells
from genekb.core.messages import check_choice
from genekb.core.plugins import installed_version
from genekb.files.replace import Target

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

Result = TypeVar("Result")
log = logging.getLogger(__name__)
STREAMED_ABOVE: Final = 200_000_000  # stored values: in memory a run needs some 30 bytes for each
MODES: Final = ("auto", "yes", "no")


@dataclass(frozen=True, kw_only=True, slots=True)
class Task(Generic[Result]):
    """What is looked for in cells, and which slots hold what is found."""

    slots: tuple[tuple[str, str], ...]  # part of an AnnData, and key in it; {} is the name under which all is stored
    find: Callable[[Any, AnyStages], Result]  # cells, backed or in memory, and where stages are kept
    values: Callable[[Any, Result], Sequence[Any]]  # of the slots, in their order; None leaves a slot empty
    check: Callable[[WriteConfig, bool], object] | None = None  # refuses settings; whether the cells are backed
    inputs: tuple[Path, ...] = ()  # files that are read beside the cells
    targets: tuple[Target, ...] = ()  # what is written beside the cells
    write_beside: Callable[[Any, Result, WriteConfig], None] | None = None  # writes them
    stage_key: Mapping[str, Any] | None = None  # what decides the result; None where all cells have to be in memory
    obsm: tuple[str, ...] = ()  # parts of it that are read of backed cells
    batch_key: str | None = None  # column of obs with the batches within which genes of backed cells are compared
    steps: tuple["Step", ...] = ()  # tasks that it does in their turn, each with slots of its own

    def slots_for(self, key_added: str) -> list[tuple[str, str]]:
        """Slots under a name, those of its steps too."""
        of_steps = (slot for step in self.steps for slot in step.task.slots_for(step.key.format(key_added)))
        return [*self.own_slots(key_added), *of_steps]

    def own_slots(self, key_added: str) -> list[tuple[str, str]]:
        """Slots under a name that ``values`` fills."""
        return [(part, key.format(key_added)) for part, key in self.slots]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A task within another: the command that does it alone, and the name of its slots, {} in it that of the whole."""

    name: str
    task: Task[Any]
    key: str = "{}"


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamConfig:
    """Whether the cells are backed by their file; the result is the same but for rounding."""

    # yes, no, or auto: where the file holds more than STREAMED_ABOVE values, or BACKED_ABOVE and the job can do with it
    mode: str = "auto"
    # folder for what is kept between stages, so that a run that was cut short goes on, removed at the end; beside the
    # output if None
    work: Path | None = None

    def __post_init__(self) -> None:
        """Check the mode."""
        check_choice("mode", self.mode, MODES)

    def is_wanted(
        self, paths: Sequence[Path], read: ReadConfig, *, is_possible: Callable[[], bool] | None = None
    ) -> bool:
        """Whether files are read out of core: all of them, or none; ``is_possible`` is asked where they may be."""
        if self.mode != "auto":
            return self.mode == "yes"
        counts = [count_entries(path, read) for path in paths]
        if not all(counts) or sum(counts) <= BACKED_ABOVE:
            return False
        return sum(counts) > STREAMED_ABOVE or (is_possible is not None and is_possible())


def run_on_cells(
    cells: AnyCells,
    task: Task[Result],
    *,
    key_added: str,
    overwrite: bool = False,
    command: str = "",
    stages: AnyStages | None = None,
) -> Result:
    """Do a task on cells, and write its slots; nothing else of their AnnData is touched.

    ``command``: what was typed, kept in the record. ``stages``: where arrays are kept; in memory if None. Raises
    ``SlotTaken`` if a slot exists and ``overwrite`` is not set; this is found before any work.
    """
    adata = cells.adata
    claim_slots(adata, task.slots_for(key_added), overwrite=overwrite)
    found = task.find(cells, stages or MemoryStages())
    for (part, key), value in zip(task.own_slots(key_added), task.values(cells, found), strict=True):
        if value is not None:
            getattr(adata, part)[key] = h5ad_safe(value) if part == "uns" else value
        elif key in getattr(adata, part):
            del getattr(adata, part)[key]
    if command:
        adata.uns[key_added]["command"] = h5ad_safe(command)
    return found


def run_on_anndata(
    adata: "AnnData",
    task: Task[Result],
    read: ReadConfig,
    *,
    key_added: str,
    overwrite: bool = False,
    copy: bool = False,
    source: str = "AnnData in memory",
) -> "tuple[AnnData | None, Result]":
    """Do a task on an AnnData, or on a copy, which is given then, and give what was found.

    Of an AnnData that is backed by a large file the values stay there, where the task can do with it; slots are added
    to the AnnData in memory.
    """
    if copy:
        adata = adata.to_memory() if adata.isbacked else adata.copy()
    with _cells_of(adata, task, read, source) as (cells, stages):
        found = run_on_cells(cells, task, key_added=key_added, overwrite=overwrite, stages=stages)
    return adata if copy else None, found


@contextmanager
def _cells_of(
    adata: "AnnData", task: Task[Any], read: ReadConfig, source: str
) -> Iterator[tuple[AnyCells, AnyStages | None]]:
    path = Path(adata.filename) if adata.isbacked and not adata.is_view else None
    if path is None or task.stage_key is None or count_entries(path, read) <= BACKED_ABOVE:
        yield cells_from_anndata(adata, read, source=source), None
        return
    backed = replace(open_backed(path, read), adata=adata)
    with TemporaryDirectory(prefix="cellmodel-") as folder:
        stages = Stages(Path(folder) / "work", key={"cells": str(path)})
        yield read_backed_cells(backed, read, stages, batch_key=task.batch_key), stages


def run_on_file(
    path: Path, task: Task[Result], *, read: ReadConfig, write: WriteConfig | None, stream: StreamConfig | None = None
) -> Result:
    """Do a task on the cells of a file, and write them with its slots if ``write`` says where.

    ``stream``: whether the cells are backed, for tasks that work out of core. Raises ``InputUnusable`` if the input
    cannot be used, or an output exists and may not be replaced; the latter is found before any work.
    """
    if write is None:
        return task.find(read_cells(path, read), MemoryStages())
    stream = stream or StreamConfig()
    if not check_job((path,), task, read=read, write=write, stream=stream):
        read_at = file_state(path)
        return run_in_memory(read_cells(path, read), task, sources=(path,), write=write, read_at=read_at)
    check_out_of_core(path, write.output)
    backed = open_backed(path, read, obsm=task.obsm)
    backed.claim_slots(task.slots_for(write.key_added), overwrite=write.overwrite)
    stages = stages_of((path,), task, read=read, write=write, stream=stream)
    return run_in_stages(
        lambda: read_backed_cells(backed, read, stages, batch_key=task.batch_key),
        task,
        sources=(path,),
        write=write,
        stages=stages,
    )


def check_job(
    paths: Sequence[Path], task: Task[Result], *, read: ReadConfig, write: WriteConfig, stream: StreamConfig
) -> bool:
    """Check outputs and settings of a job before any work, and say whether its cells are backed."""
    work = Target(stream.work, kind="private", makes_parents=True) if stream.work else None
    check_outputs(write, work, *task.targets, inputs=(*paths, *task.inputs))

    def is_possible() -> bool:
        try:
            check_out_of_core(paths[0], write.output)
            if task.check is not None:
                task.check(write, True)  # noqa: FBT003 - as tasks are checked
        except InputUnusable:
            return False
        return len(paths) == 1 and not task.steps

    is_backed = task.stage_key is not None and stream.is_wanted(paths, read, is_possible=is_possible)
    if task.check is not None:
        task.check(write, is_backed)
    return is_backed


def run_in_memory(
    cells: Cells, task: Task[Result], *, sources: Sequence[Path], write: WriteConfig, read_at: FileState | None = None
) -> Result:
    """Do a task with cells in memory, and write them; see :func:`write_all`."""
    found = run_on_cells(cells, task, key_added=write.key_added, overwrite=write.overwrite, command=write.command)
    write_all(cells, found, task, source=sources[0], write=write, read_at=read_at)
    return found


def stages_of(
    paths: Sequence[Path],
    task: Task[Result],
    *,
    read: ReadConfig,
    write: WriteConfig,
    stream: StreamConfig,
    **more: Any,
) -> Stages:
    """Open the folder in which a run keeps its stages, those of the same files and settings."""
    files = [(path, path.stat()) for path in paths]
    key = {
        "cells": [[str(path.resolve()), size.st_size, size.st_mtime_ns] for path, size in files],
        "read": asdict(read),
        "version": installed_version(),
        **(task.stage_key or {}),
        **more,
    }
    return Stages(stream.work or write.output.with_name(f".{write.output.name}.work"), key=key)


def run_in_stages(
    read_all: Callable[[], BackedCells],
    task: Task[Result],
    *,
    sources: Sequence[Path],
    write: WriteConfig,
    stages: Stages,
) -> Result:
    """Do the same with cells that are backed, in stages that a later run takes up."""
    with _kept_or_removed(stages):
        cells = read_all()
        found = run_on_cells(
            cells,
            task,
            key_added=write.key_added,
            overwrite=write.overwrite,
            command=write.command,
            stages=stages,
        )
    stages.forget()
    write_all(cells, found, task, source=sources[0], write=write)
    stages.remove()
    return found


def write_all(
    cells: AnyCells,
    found: Result,
    task: Task[Result],
    *,
    source: Path,
    write: WriteConfig,
    read_at: FileState | None = None,
) -> None:
    """Write the cells, whose matrices are copied with their file where that can be, and what is written beside them.

    ``read_at``: state of that file when cells in memory were read from it; all of these is written if None.
    """
    with _note_written(write):
        if isinstance(cells, BackedCells) and cells.files:
            write_blocks(cells.adata, cells.matrix.blocks(), write.output, source=source, overwrite=write.replaces)
        elif isinstance(cells, BackedCells) or can_be_copied(source, write.output, read_at=read_at):
            slots = task.slots_for(write.key_added)
            write_beside(cells.adata, source, write.output, slots=slots, overwrite=write.replaces)
        else:
            write_cells(cells.adata, write.output, source=source, overwrite=write.replaces)
        if task.write_beside is not None:
            task.write_beside(cells, found, write)


@contextmanager
def _note_written(write: WriteConfig) -> Iterator[None]:
    """Note at an interrupt which results are written, since the same command would refuse to replace them."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        there = [path.name for path in (write.output, write.model, write.report) if path is not None and path.exists()]
        if there and not write.overwrite:
            interrupt.add_note(f"{' and '.join(there)} written whole; run the same command again with --overwrite")
        raise


@contextmanager
def _kept_or_removed(stages: Stages) -> Iterator[None]:
    """Say where the stages of a run that is cut short are; remove those of cells that cannot be used."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(f"what is done is kept in {stages.folder}, the same command goes on from there")
        stages.release()
        raise
    except WorkUnwritten:
        log.warning("what is done is kept in %s; the same command goes on from there", stages.folder)
        stages.release()
        raise
    except InputUnusable:
        stages.remove()
        raise


def lineage_of(found: Evidence | NamedCells | Transfer) -> dict[str, Any]:
    """Identity of store and encoder, and of those that the clusters were made with, where these are others."""
    return asdict(found.lineage) | lineage_record(found.made_with)


def search_task(kb: genekb.Store, config: RunConfig, *, search: SearchConfig) -> Task[Found]:
    """Score cells and rank clusters by free text, see :func:`cellmodel.annotate.search.cells.search_cells`."""
    return Task(
        slots=(("obs", "{}"), ("uns", "{}")),
        find=lambda cells, _: search_cells(cells, kb, config, search=search),
        values=lambda _, found: (
            found.scores.astype(np.float32),
            {"params": asdict(search), "seed": config.seed} | found.to_dict(),
        ),
    )


def attribute_task(
    kb: genekb.Store, config: RunConfig, *, choice: AttributeConfig, tables: Path | None = None
) -> Task[Evidence]:
    """Explain what sets clusters apart, see :func:`cellmodel.explain.evidence.attribute_clusters`.

    ``tables``: folder for ``markers.tsv``, ``contributions.tsv``, ``themes.tsv``, ``names.tsv`` and ``enrichment.tsv``;
    made if missing.
    """

    def find(cells: Cells, _: AnyStages) -> Evidence:
        made_with = check_lineage(cells, kb, config, key=choice.cluster_key, other_store=choice.other_store)
        found = clustered(cells, kb, config, cluster_key=choice.cluster_key)
        samples = None
        if choice.samples is not None:
            sampled = sampled_cells(cells, choice.samples)
            tested = markers_of(sampled, choice.samples)
            samples = sample_contrasts(
                found, sampled, tested.tests, cluster=choice.cluster, n_top=choice.n_markers, notes=tested.notes
            )
        evidence = attribute_clusters(found, kb, config=config, choice=choice, samples=samples)
        return replace(evidence, made_with=made_with)

    def values(_: Cells, evidence: Evidence) -> Sequence[Any]:
        record: dict[str, Any] = {
            "params": asdict(choice) | {"gmt": [path.name for path in choice.gmt]},
            "seed": config.seed,
            "versions": {name: installed_version(name) for name in ("genekb-cellmodel", "numpy", "scipy")},
            **lineage_of(evidence),
            "gene_sets": evidence.sources,
            "notes": list(evidence.notes),
        }
        return (record | evidence_frames(evidence),)

    def write_evidence(_: Cells, evidence: Evidence, write: WriteConfig) -> None:
        if tables is not None:
            write_tables(evidence, tables, overwrite=write.overwrite)

    return Task(
        slots=(("uns", "{}"),),
        find=find,
        values=values,
        inputs=choice.gmt,
        targets=tuple(table_targets(tables)) if tables else (),
        write_beside=write_evidence,
    )


def attribution_slot(condition_key: str | None) -> str:
    """Name the slot of an attribution, where the user names none; that of conditions stands beside that of clusters."""
    return "cellmodel_attribution" if condition_key is None else "cellmodel_attribution_conditions"


def named_categories(labels: Labels, names: Sequence[str]) -> "pd.Categorical[Any]":
    """Clusters as a column of obs, by their names."""
    import pandas as pd

    return pd.Categorical(np.array(names, dtype=object)[labels], categories=list(names))
