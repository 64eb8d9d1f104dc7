"""Whole jobs from file to file: check everything first, work, write last."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import genekb
from cellmodel.checkpoint import model_target, save_model
from cellmodel.config import RunConfig
from cellmodel.errors import InputUnusable, WorkUnwritten
from cellmodel.fitted import check_can_predict, fit_model
from cellmodel.io import Cells, ReadConfig, claim_slots, read_cells
from cellmodel.pipeline import RunResult, run
from cellmodel.recipes.registry import plugin_version
from cellmodel.sentence_cache import Progress
from cellmodel.slots import result_slots, write_result
from cellmodel.stages import Stages
from cellmodel.stored import check_can_stay, claim_stored_slots, count_entries
from cellmodel.stored_cells import StoredCells, read_stored_cells
from cellmodel.writers import (
    cells_target,
    check_key,
    check_kind_kept,
    check_targets,
    h5ad_safe,
    write_beside,
    write_cells,
)
from genekb.replacing import Target
from genekb.versions import installed_version

if TYPE_CHECKING:
    from cellmodel.metrics import Scores

log = logging.getLogger(__name__)
STREAMED_ABOVE: Final = 200_000_000  # stored values: in memory a run needs some 40 bytes for each
MODES: Final = ("auto", "yes", "no")


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteConfig:
    """Where results go.

    Parameters
    ----------
    output
        Annotated cells, ``.h5ad`` or ``.zarr``.
    report
        HTML report, or None.
    key_added
        Name of the slots.
    overwrite
        Whether files and slots may be replaced.
    command
        The command line, kept beside the settings.
    model
        Folder in which to keep the fitted model, or None.

    Raises
    ------
    KeyUnusable
        If slots of that name cannot be stored in a file; it is a ValueError too.
    """

    output: Path
    report: Path | None = None
    key_added: str = "cellmodel"
    overwrite: bool = False
    command: str = ""
    model: Path | None = None

    def __post_init__(self) -> None:
        """Check the name of the slots."""
        check_key(self.key_added)


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamConfig:
    """Whether the matrix of the cells stays in its file; the result is the same but for rounding.

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

    cells: Cells | StoredCells
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

    Parameters
    ----------
    stream
        Whether the matrix stays in its file.
    progress
        Told while sentences are encoded.

    Raises
    ------
    InputUnusable
        If the input cannot be used, or an output exists and may not be replaced; this is found before any work.
    """
    stream = stream or StreamConfig()
    work = Target(stream.work, kind="private", makes_parents=True) if stream.work else None
    check_outputs(write, work, inputs=(path,))
    if stream.is_wanted(path, read):
        return _run_stored(path, kb, config, read=read, write=write, stream=stream, with_clusters=with_clusters)
    if write.model is not None:
        check_can_predict(config)
    cells = read_cells(path, read)
    for note in cells.notes:
        log.info("%s", note)
    slots = result_slots(write.key_added, with_clusters=with_clusters)
    claim_slots(cells.adata, slots, overwrite=write.overwrite)
    result = run(cells, kb, config, with_clusters=with_clusters, progress=progress)
    write_result(cells, result, key_added=write.key_added, overwrite=write.overwrite)
    if write.command:
        cells.adata.uns[write.key_added]["command"] = h5ad_safe(write.command)
    with _told_what_is_written(write):
        write_cells(cells.adata, write.output, source=path, overwrite=write.overwrite)
        if write.model is not None:
            save_model(fit_model(cells, result), write.model, overwrite=write.overwrite)
        if write.report is not None:
            from cellmodel.reporting import write_report_of

            write_report_of(cells, write.report, cluster_key=write.key_added, overwrite=write.overwrite)
    return FileRun(cells=cells, result=result)


@contextmanager
def _told_what_is_written(write: WriteConfig) -> Iterator[None]:
    """Tell whoever interrupts which results are there already, since the same command would refuse to replace them."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        there = [path.name for path in (write.output, write.model, write.report) if path is not None and path.exists()]
        if there and not write.overwrite:
            interrupt.add_note(f"{' and '.join(there)} written whole; run the same command again with --overwrite")
        raise


def _run_stored(
    path: Path,
    kb: genekb.Store | None,
    config: RunConfig,
    *,
    read: ReadConfig,
    write: WriteConfig,
    stream: StreamConfig,
    with_clusters: bool,
) -> FileRun:
    """Do the same with cells that stay in their file."""
    from cellmodel.streamed_run import check_streamed, run_streamed

    check_streamed(config)
    for option, wanted in (("--save-model", write.model), ("--report", write.report)):
        if wanted is not None:
            raise InputUnusable(f"{option} reads all cells at once; leave it out, or give --out-of-core no")
    slots = result_slots(write.key_added, with_clusters=with_clusters)
    check_can_stay(path)
    check_kind_kept(path, write.output)
    claim_stored_slots(path, slots, overwrite=write.overwrite)
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
        cells = read_stored_cells(path, read, stages)
        for note in cells.notes:
            log.info("%s", note)
        result = run_streamed(cells, kb, config, stages, with_clusters=with_clusters)
    write_result(cells, result, key_added=write.key_added, overwrite=write.overwrite)
    if write.command:
        cells.adata.uns[write.key_added]["command"] = h5ad_safe(write.command)
    write_beside(cells.adata, path, write.output, slots=slots, overwrite=write.overwrite)
    stages.remove()
    return FileRun(cells=cells, result=result)


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


def check_outputs(write: WriteConfig, *others: Target | None, inputs: Sequence[Path]) -> None:
    """Check that outputs can be written, before any work is done.

    Parameters
    ----------
    others
        What else the job writes; None is left out.

    Raises
    ------
    InputUnusable
        See :func:`cellmodel.writers.check_targets`.
    """
    report = Target(write.report) if write.report else None
    model = model_target(write.model) if write.model else None
    targets = (cells_target(write.output), report, model, *others)
    check_targets(targets, inputs=inputs, overwrite=write.overwrite)


def evaluate_file(path: Path, *, truth: str, pred: str) -> "Scores":
    """Score clusters against an annotator's labels; the only job that reads any.

    Cells without a label are left out.

    Raises
    ------
    InputUnusable
        If the file or a column is missing.
    """
    from cellmodel.io import read_obs_columns
    from cellmodel.metrics import score

    columns = read_obs_columns(path, (truth, pred))
    labelled = [pair for pair in zip(columns[truth], columns[pred], strict=True) if pair[0] and pair[1]]
    if not labelled:
        raise InputUnusable(f"{path} has no cell with both {truth!r} and {pred!r}")
    return score([pair[0] for pair in labelled], [pair[1] for pair in labelled])
