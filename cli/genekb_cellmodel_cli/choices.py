"""Options that are text on the command line and something else behind it."""

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cellmodel.device import Compute, Engine
    from cellmodel.io import ReadConfig


def parse_n_clusters(text: str) -> int | None:
    """Read a number of clusters: a number >= 1, or None for auto."""
    if text == "auto":
        return None
    if text.isdigit() and int(text) >= 1:
        return int(text)
    raise typer.BadParameter(f"--n-clusters is a number >= 1 or auto, not {text!r}")


def read_config(**choices: Any) -> "ReadConfig":
    """Say where in a file the values and the gene names are; choices that exclude one another are wrong usage."""
    from cellmodel.io import ReadConfig

    try:
        return ReadConfig(**choices)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def training_place(device: str, engine: "Engine", workers: int | None) -> "Compute":
    """Device, engine and number of workers; two workers where an engine of several has no number."""
    from cellmodel.device import Compute

    try:
        return Compute(device=device, engine=engine, n_workers=workers or (1 if engine == "local" else 2))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
