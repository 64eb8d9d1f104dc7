"""Whole jobs from file to file: check everything first, work, write last."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import genekb
from cellmodel.checkpoint import check_model_folder, save_model
from cellmodel.config import RunConfig
from cellmodel.errors import InputUnusable
from cellmodel.fitted import check_can_predict, fit_model
from cellmodel.io import Cells, ReadConfig, claim_slots, read_cells
from cellmodel.pipeline import RunResult, run
from cellmodel.slots import result_slots, write_result
from cellmodel.writers import h5ad_safe, write_cells

if TYPE_CHECKING:
    from cellmodel.metrics import Scores

log = logging.getLogger(__name__)


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
    """

    output: Path
    report: Path | None = None
    key_added: str = "cellmodel"
    overwrite: bool = False
    command: str = ""
    model: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRun:
    """What a job from file to file read and found."""

    cells: Cells
    result: RunResult


def run_file(
    path: Path,
    kb: genekb.Store | None,
    config: RunConfig,
    *,
    read: ReadConfig,
    write: WriteConfig,
    with_clusters: bool = True,
) -> FileRun:
    """Read cells, embed and cluster them, write them annotated, and write a report if asked for.

    Raises
    ------
    InputUnusable
        If the input cannot be used, or an output exists and may not be replaced; this is found before any work.
    """
    check_outputs(write, inputs=(path,))
    if write.model is not None:
        check_model_folder(write.model, overwrite=write.overwrite)
        check_can_predict(config)
    cells = read_cells(path, read)
    for note in cells.notes:
        log.info("%s", note)
    slots = result_slots(write.key_added, with_clusters=with_clusters)
    claim_slots(cells.adata, slots, overwrite=write.overwrite)
    result = run(cells, kb, config, with_clusters=with_clusters)
    write_result(cells, result, key_added=write.key_added, overwrite=write.overwrite)
    if write.command:
        cells.adata.uns[write.key_added]["command"] = h5ad_safe(write.command)
    write_cells(cells.adata, write.output, overwrite=write.overwrite)
    if write.model is not None:
        save_model(fit_model(cells, result), write.model, overwrite=write.overwrite)
    if write.report is not None:
        from cellmodel.reporting import write_report_of

        write_report_of(
            cells,
            write.report,
            key_added=write.key_added,
            overwrite=write.overwrite,
        )
    return FileRun(cells=cells, result=result)


def check_outputs(write: WriteConfig, *, inputs: Sequence[Path]) -> None:
    """Check that outputs can be written, before any work is done.

    Raises
    ------
    InputUnusable
        If one is the input, exists and may not be replaced, or its folder is missing.
    """
    check_targets((write.output, write.report), inputs=inputs, overwrite=write.overwrite)


def check_targets(targets: Sequence[Path | None], *, inputs: Sequence[Path], overwrite: bool) -> None:
    """Check that files can be written, before any work is done; see :func:`check_outputs`."""
    given = [target for target in targets if target is not None]
    for target in given:
        if target.exists() and not overwrite:
            raise InputUnusable(f"{target} exists; give another name, or --overwrite")
        if not target.resolve().parent.is_dir():
            raise InputUnusable(f"{target.parent} is not a folder; make it first, or write elsewhere")
    for target in given:
        if any(target.resolve() == path.resolve() for path in inputs):
            raise InputUnusable(
                f"{target} is an input; write to another file, results are never written over the input"
            )


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
