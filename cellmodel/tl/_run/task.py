"""Tasks on cells, and their runs: on an AnnData in memory, or from file to file, out of core if need be."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

from cellmodel.core.errors import InputUnusable, WorkUnwritten
from cellmodel.core.stages import AnyStages, MemoryStages, Stages
from cellmodel.io.backed import (
    BACKED_ABOVE,
    AnyCells,
    BackedCells,
    KeptMatrix,
    check_out_of_core,
    count_entries,
    open_backed,
)
from cellmodel.io.cells import Cells, ReadConfig, cells_from_anndata, claim_slots, read_cells
from cellmodel.io.records import h5ad_safe
from cellmodel.io.writers import (
    FileState,
    WriteConfig,
    can_be_copied,
    check_outputs,
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


class Task(ABC, Generic[Result]):
    """What is computed from cells, and which slots of their AnnData hold the result."""

    prefers_memory: ClassVar[bool] = False  # whether cells are backed only where they would not fit into memory

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files that are read beside the cells."""
        return ()

    @property
    def targets(self) -> tuple[Target, ...]:
        """What is written beside the cells."""
        return ()

    @property
    def obsm(self) -> tuple[str, ...]:
        """Keys of obsm that are read of backed cells."""
        return ()

    @property
    def batch_key(self) -> str | None:
        """Column of obs with the batches within which genes of backed cells are compared."""
        return None

    @property
    def stage_key(self) -> Mapping[str, Any] | None:
        """What decides the result, so that stages of it are taken up; None where all cells have to be in memory."""
        return None

    def check(self, write: WriteConfig, *, is_backed: bool) -> None:
        """Refuse settings before any work."""

    def select(self, cells: Any, stages: AnyStages) -> Any:
        """Give the cells that are worked on and written: all of them, or those without some, see `with_quality`."""
        return cells

    @abstractmethod
    def slots(self, key_added: str) -> list[Slot]:
        """Slots under a name."""

    @abstractmethod
    def compute(self, cells: Any, stages: AnyStages) -> Result:
        """Do the work; ``cells``: `Cells`, or `BackedCells` if there is a ``stage_key``."""

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

    def write_beside(self, cells: Any, result: Result, write: WriteConfig) -> None:
        """Write the targets, and report and model where these are asked for."""


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
    source: str = "AnnData in memory",
) -> "tuple[AnnData | None, Result]":
    """Do a task on an AnnData, or on a copy, which is given then, and give what was found.

    Of an AnnData that is backed by a large file the values stay there, where the task can do with it; slots are added
    to the AnnData in memory.
    """
    if copy:
        adata = adata.to_memory() if adata.isbacked else adata.copy()
    with _cells_of(adata, task, read, source) as (cells, stages):
        claim_slots(adata, task.slots(key_added), overwrite=overwrite)
        selected = task.select(cells, stages or MemoryStages())
        found = run_on_cells(selected, task, key_added=key_added, overwrite=overwrite, stages=stages)
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
        return task.compute(read_cells(path, read), MemoryStages())
    stream = stream or StreamConfig()
    if not check_job((path,), task, read=read, write=write, stream=stream):
        read_at = file_state(path)
        return run_in_memory(read_cells(path, read), task, sources=(path,), write=write, read_at=read_at)
    check_out_of_core(path, write.output)
    backed = open_backed(path, read, obsm=task.obsm)
    backed.claim_slots(task.slots(write.key_added), overwrite=write.overwrite)
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
            task.check(write, is_backed=True)
        except InputUnusable:
            return False
        return len(paths) == 1 and not task.prefers_memory

    is_backed = task.stage_key is not None and stream.is_wanted(paths, read, is_possible=is_possible)
    task.check(write, is_backed=is_backed)
    return is_backed


def run_in_memory(
    cells: Cells, task: Task[Result], *, sources: Sequence[Path], write: WriteConfig, read_at: FileState | None = None
) -> Result:
    """Do a task with cells in memory, and write them; see :func:`write_all`."""
    claim_slots(cells.adata, task.slots(write.key_added), overwrite=write.overwrite)
    selected = task.select(cells, MemoryStages())
    found = run_on_cells(selected, task, key_added=write.key_added, overwrite=write.overwrite, command=write.command)
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
        cells = task.select(read_all(), stages)
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
        if isinstance(cells, BackedCells) and (cells.files or isinstance(cells.matrix, KeptMatrix)):
            write_blocks(cells.adata, cells.matrix.blocks(), write.output, source=source, overwrite=write.replaces)
        elif isinstance(cells, BackedCells) or can_be_copied(source, write.output, read_at=read_at):
            slots = task.slots(write.key_added)
            write_beside(cells.adata, source, write.output, slots=slots, overwrite=write.replaces)
        else:
            write_cells(cells.adata, write.output, source=source, overwrite=write.replaces)
        task.write_beside(cells, found, write)


@contextmanager
def _note_written(write: WriteConfig) -> Iterator[None]:
    """Note at an interrupt which results are written, since the same command would refuse to replace them."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        there = [path.name for path in (write.output, write.model, write.report) if path is not None and path.exists()]
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
