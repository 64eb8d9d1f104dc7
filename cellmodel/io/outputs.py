"""Whole jobs from file to file: check everything first, work, write last."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cellmodel.io.writers import cells_target, check_key, check_targets
from genekb.files.replace import Target


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


def check_outputs(write: WriteConfig, *others: Target | None, inputs: Sequence[Path]) -> None:
    """Check that outputs can be written, before any work is done.

    ``others``: what else the job writes; None is left out. Raises ``InputUnusable``: see
    :func:`cellmodel.io.writers.check_targets`.
    """
    report = Target(write.report) if write.report else None
    model = model_target(write.model) if write.model else None
    targets = (cells_target(write.output), report, model, *others)
    check_targets(targets, inputs=inputs, overwrite=write.overwrite)


DESCRIPTION: Final = "model.json"


def model_target(folder: Path) -> Target:
    """Give the target of a saved model, which only ever replaces a model."""
    return Target(folder, kind="whole", marks=(DESCRIPTION,), makes_parents=True)
