"""Whole jobs from file to file: check everything first, work, write last."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import genekb
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable, WorkUnwritten
from cellmodel.core.stages import Stages
from cellmodel.io.backed import AnyCells, check_out_of_core, count_entries, open_backed
from cellmodel.io.cells import ReadConfig, claim_slots, read_cells
from cellmodel.io.writers import WriteConfig, check_outputs, h5ad_safe, write_beside, write_cells
from cellmodel.pp.blocks import read_backed_cells
from cellmodel.recipes.registry import plugin_version
from cellmodel.text.sentence_cache import Progress
from cellmodel.tl._run import RunResult, check_settings, run
from cellmodel.tl._slots import result_slots, write_result
from cellmodel.tl.model.fitted import check_can_predict, fit_model, save_model
from genekb.core.plugins import installed_version
from genekb.files.replace import Target

log = logging.getLogger(__name__)
STREAMED_ABOVE: Final = 200_000_000  # stored values: in memory a run needs some 40 bytes for each
MODES: Final = ("auto", "yes", "no")


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamConfig:
    """Whether the cells are backed by their file; the result is the same but for rounding.

    Parameters
    ----------
    mode
        ``yes``, ``no``, or ``auto``: where the file holds more than :data:`STREAMED_ABOVE` values.
    work
        Folder for what is kept between stages, so that a run that was cut short goes on; beside the output if None.
        It is removed at the end.

    Raises
    ------
    ValueError
        If the mode is not known.
    """

    mode: str = "auto"
    work: Path | None = None

    def __post_init__(self) -> None:
        """Check the mode."""
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")

    def is_wanted(self, path: Path, read: ReadConfig) -> bool:
        """Whether a file is read out of core."""
        return self.mode == "yes" or (self.mode == "auto" and count_entries(path, read) > STREAMED_ABOVE)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRun:
    """What a job from file to file read and found."""

    cells: AnyCells
    result: RunResult


def run_file(
    path: Path,
    kb: genekb.Store | None,
    config: RunConfig,
    *,
    read: ReadConfig,
    write: WriteConfig,
    with_clusters: bool = True,
    progress: Progress | None = None,
    stream: StreamConfig | None = None,
) -> FileRun:
    """Read cells, embed and cluster them, write them annotated, and write a report if asked for.

    ``stream``: whether the cells are backed. ``progress``: called while sentences are encoded. Raises
    ``InputUnusable`` if the input cannot be used, or an output exists and may not be replaced; this is found before any
    work.
    """
    stream = stream or StreamConfig()
    work = Target(stream.work, kind="private", makes_parents=True) if stream.work else None
    check_outputs(write, work, inputs=(path,))
    is_backed = stream.is_wanted(path, read)
    check_settings(config, out_of_core=is_backed)
    if write.model is not None:
        check_can_predict(config)
    slots = result_slots(write.key_added, with_clusters=with_clusters)
    settings: dict[str, Any] = {"with_clusters": with_clusters, "progress": progress}
    if is_backed:
        return _run_backed(path, kb, config, read=read, write=write, stream=stream, slots=slots, settings=settings)
    cells = read_cells(path, read)
    log_notes(cells)
    claim_slots(cells.adata, slots, overwrite=write.overwrite)
    result = run(cells, kb, config, **settings)
    put_result(cells, result, write)
    with note_written(write):
        write_cells(cells.adata, write.output, source=path, overwrite=write.overwrite)
        _write_others(cells, result, write)
    return FileRun(cells=cells, result=result)


def _run_backed(
    path: Path,
    kb: genekb.Store | None,
    config: RunConfig,
    *,
    read: ReadConfig,
    write: WriteConfig,
    stream: StreamConfig,
    slots: list[tuple[str, str]],
    settings: Mapping[str, Any],
) -> FileRun:
    """Do the same with cells that are backed, in stages that a later run takes up."""
    check_out_of_core(path, write.output)
    backed = open_backed(path, read, with_coordinates=config.spatial is not None)
    backed.claim_slots(slots, overwrite=write.overwrite)
    size = path.stat()
    key = {
        "cells": [str(path.resolve()), size.st_size, size.st_mtime_ns],
        "read": asdict(read),
        "config": config.to_dict(),
        "store": kb.store_id if kb is not None else "",
        "version": installed_version(),
        "plug-in": plugin_version(config.recipe),
    }
    stages = Stages(stream.work or write.output.with_name(f".{write.output.name}.work"), key=key)
    with _kept_or_removed(stages):
        cells = read_backed_cells(backed, read, stages)
        log_notes(cells)
        result = run(cells, kb, config, stages=stages, **settings)
    put_result(cells, result, write)
    with note_written(write):
        write_beside(cells.adata, path, write.output, slots=slots, overwrite=write.overwrite)
        _write_others(cells, result, write)
    stages.remove()
    return FileRun(cells=cells, result=result)


def log_notes(cells: AnyCells) -> None:
    """Log what was noticed about the cells when they were read."""
    for note in cells.notes:
        log.info("%s", note)


def put_result(cells: AnyCells, result: RunResult, write: WriteConfig) -> None:
    """Put the result and the command into the AnnData of the cells."""
    write_result(cells, result, key_added=write.key_added, overwrite=write.overwrite)
    if write.command:
        cells.adata.uns[write.key_added]["command"] = h5ad_safe(write.command)


def _write_others(cells: AnyCells, result: RunResult, write: WriteConfig) -> None:
    """Write the model and the report, where these are asked for."""
    if write.model is not None:
        save_model(fit_model(cells, result), write.model, overwrite=write.overwrite)
    if write.report is not None:
        from cellmodel.pl._report.collect import write_report_of

        write_report_of(cells, write.report, cluster_key=write.key_added, overwrite=write.overwrite)


@contextmanager
def note_written(write: WriteConfig) -> Iterator[None]:
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
