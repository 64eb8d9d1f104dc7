"""The demo: 700 blood cells that come with scanpy, from file to report."""

import importlib.util
from pathlib import Path
from typing import Final

import genekb
from cellmodel.config import RunConfig
from cellmodel.errors import InputUnusable
from cellmodel.files import FileRun, WriteConfig, run_file
from cellmodel.io import ReadConfig

CELLS: Final = "datasets/10x_pbmc68k_reduced.h5ad"


def find_demo_cells() -> Path:
    """Find the demo cells in the installed scanpy, without importing it.

    Raises
    ------
    InputUnusable
        If scanpy is not installed.
    """
    spec = importlib.util.find_spec("scanpy")
    path = Path(spec.origin).parent / CELLS if spec and spec.origin else None
    if path is None or not path.is_file():
        raise InputUnusable(
            "the demo cells come with scanpy, which is not installed; pip install 'genekb-cellmodel[demo]'"
        )
    return path


def run_demo(kb: genekb.Store, output: Path, *, seed: int = 0, overwrite: bool = False) -> FileRun:
    """Cluster the demo cells and write ``pbmc.h5ad`` and ``report.html`` into a folder."""
    return run_file(
        find_demo_cells(),
        kb,
        RunConfig(seed=seed),
        read=ReadConfig(),
        write=WriteConfig(
            output=output / "pbmc.h5ad",
            report=output / "report.html",
            overwrite=overwrite,
            command=f"cellmodel demo --output {output}",
        ),
    )
