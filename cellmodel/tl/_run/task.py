"""Tasks on cells, and their runs: on an AnnData in memory, or from file to file, out of core if need be."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

import numpy as np
import scipy.sparse as sp

import genekb
from cellmodel.core.errors import InputUnusable, WorkUnwritten
from cellmodel.core.stages import AnyStages, MemoryStages, Stages
from cellmodel.io.backed import (
    BACKED_ABOVE,
    AnyCells,
    BackedCells,
    KeptMatrix,
    check_in_blocks,
    check_out_of_core,
    open_backed,
)
from cellmodel.io.cells import Cells, ReadConfig, cells_from_anndata, count_entries, read_cells
from cellmodel.io.formats.anndata import WRITTEN_AS, read_anndata
from cellmodel.io.matrix import ValueKind
from cellmodel.io.records import h5ad_safe
from cellmodel.io.writers import (
    FileState,
    WriteConfig,
    can_be_copied,
    check_outputs,
    check_targets,
    claim_slots,
    file_state,
    write_beside,
    write_blocks,
    write_cells,
)
from cellmodel.pp.blocks import read_backed_cells
from genekb.core.messages import check_choice
from genekb.core.plugins import installed_version
from genekb.files.replace import Target

if TYPE_CHECKING:
    from anndata import AnnData

Result = TypeVar("Result")
Slot = tuple[str, str]  # part of an AnnData, and key in it
log = logging.getLogger(__name__)
STREAMED_ABOVE: Final = 200_000_000  # stored values: in memory a run needs some 30 bytes for each
MODES: Final = ("auto", "yes", "no")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reads:
    """What a task reads of cells that are backed, or in several files."""

    # what decides the result, so that stages of it are taken up; None where all cells have to be in memory
    stage_key: Mapping[str, Any] | None = None
    obsm: tuple[str, ...] = ()  # keys of obsm
    batch_key: str | None = None  # column of obs with the batches within which genes are compared
    kb: genekb.Store | None = None  # by which genes of several files are matched
    use_orthologs: bool = False  # whether symbols of another species map to a gene


class Task(ABC, Generic[Result]):
    """What is computed from cells, and which slots of their AnnData hold the result."""

    prefers_memory: ClassVar[bool] = False  # whether cells are backed only where they would not fit into memory
    reads_values: ClassVar[bool] = True  # whether it looks at more of the cells than their tables
    # whether slots with a record of its own, as a run leaves them, are written again into a copy of the file
    renews: ClassVar[bool] = False

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files that are read beside the cells."""
        return ()

    @property
    def targets(self) -> tuple[Target, ...]:
        """What is written beside the cells."""
        return ()

    @property
    def reads(self) -> Reads:
        """What is read of backed cells, and of several files."""
        return Reads()

    def check(self, *, is_backed: bool) -> None:
        """Refuse settings before any work."""

    def select(self, cells: Any, stages: AnyStages) -> Any:
        """Give the cells that are worked on and written: all of them, or those without some, see `with_quality`."""
        return cells

    @abstractmethod
    def slots(self, key_added: str) -> list[Slot]:
        """Slots under a name."""

    @abstractmethod
    def compute(self, cells: Any, stages: AnyStages) -> Result:
        """Do the work; ``cells``: `Cells`, or `BackedCells` if there is a ``stage_key`` in what it reads."""

    @abstractmethod
    def values(self, cells: Any, result: Result, key_added: str) -> dict[Slot, Any]:
        """Values of the slots; a slot without one, or with None, is left empty."""

    def write_slots(self, cells: AnyCells, result: Result, key_added: str) -> None:
        """Write the values into the slots; a slot without one is removed."""
        values = self.values(cells, result, key_added)
        for slot in self.slots(key_added):
            value, (part, key) = values.pop(slot, None), slot
            held = getattr(cells.adata, part)
            if value is not None:
                held[key] = h5ad_safe(value) if part == "uns" else value
            elif key in held:
                del held[key]
        assert not values, f"no slots: {list(values)}"

    def notes(self, result: Result) -> Iterable[str]:
        """Give notes on a result, for whoever is not shown the result itself."""
        return ()

    def write_beside(self, cells: Any, result: Result, *, key_added: str, overwrite: bool) -> None:
        """Write the targets."""


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
    claim_slots(adata, task.slots(key_added), overwrite=overwrite)
    result = task.compute(cells, stages or MemoryStages())
    task.write_slots(cells, result, key_added)
    if command:
        adata.uns[key_added]["command"] = h5ad_safe(command)
    return result


def run_on_anndata(
    adata: "AnnData",
    task: Task[Result],
    read: ReadConfig,
    *,
    key_added: str,
    overwrite: bool = False,
    copy: bool = False,
) -> "AnnData | None":
    """Do a task on an AnnData, or on a copy, which is given then.

    Of an AnnData that is backed by a large file the values stay there, where the task can do with it; slots are added
    to the AnnData in memory.
    """
    check_targets(task.targets, overwrite=overwrite)
    if copy:
        adata = adata.to_memory() if adata.isbacked else adata.copy()
    with _cells_of(adata, task, read) as (cells, stages):
        task.check(is_backed=isinstance(cells, BackedCells))
        claim_slots(adata, task.slots(key_added), overwrite=overwrite)
        selected = task.select(cells, stages or MemoryStages())
        found = run_on_cells(selected, task, key_added=key_added, overwrite=overwrite, stages=stages)
        task.write_beside(selected, found, key_added=key_added, overwrite=overwrite)
    for note in task.notes(found):
        log.info("%s", note)
    return adata if copy else None


@contextmanager
def _cells_of(adata: "AnnData", task: Task[Any], read: ReadConfig) -> Iterator[tuple[AnyCells, AnyStages | None]]:
    if not task.reads_values:
        yield _tables_alone(adata, source="AnnData in memory"), None
        return
    path = Path(adata.filename) if adata.isbacked and not adata.is_view else None
    if path is None or task.reads.stage_key is None or count_entries(path, read) <= BACKED_ABOVE:
        yield cells_from_anndata(adata, read), None
        return
    backed = replace(open_backed(path, read), adata=adata)
    with TemporaryDirectory(prefix="cellmodel-") as folder:
        stages = Stages(Path(folder) / "work", key={"cells": str(path)})
        yield read_backed_cells(backed, read, stages, batch_key=task.reads.batch_key), stages


def _tables_alone(adata: "AnnData", *, source: str, sample_key: str = "") -> Cells:
    """Take cells without their values."""
    none = sp.csr_matrix((adata.n_obs, 0), dtype=np.float32)
    return Cells(
        adata=adata, matrix=none, names=(), var_rows=None, kind=ValueKind.COUNTS, notes=(), source=source,
        sample_key=sample_key,
    )  # fmt: skip


def _read(path: Path, read: ReadConfig, task: Task[Any], *, writes: bool) -> Cells:
    """Read the cells of a file into memory; of a task that needs no values, the tables alone."""
    if task.reads_values:
        return read_cells(path, read)
    if writes or path.suffix not in WRITTEN_AS:
        return _tables_alone(read_anndata(path), source=str(path))
    backed = open_backed(path, read)
    return _tables_alone(backed.adata, source=str(path), sample_key=backed.sample_key)


def run_on_file(
    path: Path,
    task: Task[Result],
    *,
    read: ReadConfig,
    write: WriteConfig | None,
    stream: StreamConfig | None = None,
    overwrite: bool = False,
) -> Result:
    """Do a task on the cells of a file, and write them with its slots if ``write`` says where.

    ``stream``: whether the cells are backed, for tasks that work out of core. ``overwrite``: of what is written beside,
    where no cells are written. Raises ``InputUnusable`` if the input cannot be used, or an output exists and may not be
    replaced; the latter is found before any work.
    """
    stream = stream or StreamConfig()
    if write is None:
        return _run_unwritten(path, task, read=read, stream=stream, overwrite=overwrite)
    if not check_job((path,), task, read=read, write=write, stream=stream):
        read_at = file_state(path)
        cells = _read(path, read, task, writes=True)
        return run_in_memory(cells, task, sources=(path,), write=write, read_at=read_at)
    check_out_of_core(path, write.output)
    backed = open_backed(path, read, obsm=task.reads.obsm)
    backed.claim_slots(
        task.slots(write.key_added), overwrite=may_replace_slots(task, write, backed.keys.get("uns", ()))
    )
    stages = stages_of((path,), task, read=read, write=write, stream=stream)
    return run_in_stages(
        lambda: read_backed_cells(backed, read, stages, batch_key=task.reads.batch_key),
        task,
        sources=(path,),
        write=write,
        stages=stages,
    )


def _run_unwritten(
    path: Path, task: Task[Result], *, read: ReadConfig, stream: StreamConfig, overwrite: bool
) -> Result:
    """Do a task on the cells of a file, none of which are written."""
    check_targets(task.targets, inputs=(path, *task.inputs), overwrite=overwrite)
    task.check(is_backed=False)
    if task.reads.stage_key is not None and not task.prefers_memory and stream.is_wanted((path,), read):
        check_in_blocks(path)
        with TemporaryDirectory(prefix="cellmodel-") as folder:
            stages = Stages(stream.work or Path(folder) / "work", key={"cells": str(path)})
            opened = open_backed(path, read, obsm=task.reads.obsm)
            cells: AnyCells = read_backed_cells(opened, read, stages, batch_key=task.reads.batch_key)
            found = task.compute(cells, stages)
            stages.remove()
    else:
        cells = _read(path, read, task, writes=False)
        found = task.compute(cells, MemoryStages())
    task.write_beside(cells, found, key_added="", overwrite=overwrite)
    return found


def check_job(
    paths: Sequence[Path], task: Task[Result], *, read: ReadConfig, write: WriteConfig, stream: StreamConfig
) -> bool:
    """Check outputs and settings of a job before any work, and say whether its cells are backed."""
    work = Target(stream.work, kind="private", makes_parents=True) if stream.work else None
    check_outputs(write, work, *task.targets, inputs=(*paths, *task.inputs))

    def is_possible() -> bool:
        try:
            check_out_of_core(paths[0], write.output)
            task.check(is_backed=True)
        except InputUnusable:
            return False
        return len(paths) == 1 and not task.prefers_memory

    is_backed = task.reads.stage_key is not None and stream.is_wanted(paths, read, is_possible=is_possible)
    task.check(is_backed=is_backed)
    return is_backed


def may_replace_slots(task: Task[Any], write: WriteConfig, uns: Collection[str]) -> bool:
    """Whether slots may be replaced: those of a record of the same task in another file are left there as they are."""
    return write.overwrite or (task.renews and not write.in_place and write.key_added in uns)


def run_in_memory(
    cells: Cells, task: Task[Result], *, sources: Sequence[Path], write: WriteConfig, read_at: FileState | None = None
) -> Result:
    """Do a task with cells in memory, and write them; see :func:`write_all`."""
    may_replace = may_replace_slots(task, write, cells.adata.uns)
    claim_slots(cells.adata, task.slots(write.key_added), overwrite=may_replace)
    selected = task.select(cells, MemoryStages())
    found = run_on_cells(selected, task, key_added=write.key_added, overwrite=may_replace, command=write.command)
    is_whole = selected.shape == cells.shape
    write_all(selected, found, task, source=sources[0], write=write, read_at=read_at if is_whole else None)
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
        **(task.reads.stage_key or {}),
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
        cells = task.select(read_all(), stages)
        found = run_on_cells(
            cells,
            task,
            key_added=write.key_added,
            overwrite=may_replace_slots(task, write, cells.adata.uns),
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
    with _note_written(task, write):
        if isinstance(cells, BackedCells) and (cells.files or isinstance(cells.matrix, KeptMatrix)):
            write_blocks(cells.adata, cells.matrix.blocks(), write.output, source=source, overwrite=write.replaces)
        elif isinstance(cells, BackedCells) or can_be_copied(source, write.output, read_at=read_at):
            slots = task.slots(write.key_added)
            write_beside(cells.adata, source, write.output, slots=slots, overwrite=write.replaces)
        else:
            write_cells(cells.adata, write.output, source=source, overwrite=write.replaces)
        task.write_beside(cells, found, key_added=write.key_added, overwrite=write.overwrite)


@contextmanager
def _note_written(task: Task[Any], write: WriteConfig) -> Iterator[None]:
    """Note at an interrupt which results are written, since the same command would refuse to replace them."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        written = (write.output, *(target.path for target in task.targets))
        there = [path.name for path in written if path.exists()]
        if there and not write.overwrite:
            interrupt.add_note(f"{' and '.join(there)} written whole; run the same command again with overwrite=True")
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
