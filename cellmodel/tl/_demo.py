"""The demo: 700 blood cells that come with scanpy, from file to report."""

import importlib.util
from pathlib import Path
from typing import Final

import genekb
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import ReadConfig
from cellmodel.io.outputs import WriteConfig, check_outputs
from cellmodel.io.writers import check_targets
from cellmodel.tl._job import FileRun, run_file
from genekb.files.replace import Target

CELLS: Final = "datasets/10x_pbmc68k_reduced.h5ad"


def find_demo_cells() -> Path:
    """Find the demo cells in the installed scanpy, without importing it.

    Raises ``InputUnusable`` if scanpy is not installed.
    """
    spec = importlib.util.find_spec("scanpy")
    path = Path(spec.origin).parent / CELLS if spec and spec.origin else None
    if path is None or not path.is_file():
        raise InputUnusable(
            "the demo cells come with scanpy, which is not installed; pip install 'genekb-cellmodel[demo]'"
        )
    return path


def demo_outputs(output: Path, *, overwrite: bool = False) -> WriteConfig:
    """Name ``pbmc.h5ad`` and ``report.html`` in a folder, which is made, and check that they can be written.

    Raises ``InputUnusable`` if they cannot.
    """
    check_targets([Target(output, kind="shared", makes_parents=True)], overwrite=overwrite)
    output.mkdir(parents=True, exist_ok=True)
    write = WriteConfig(
        output=output / "pbmc.h5ad",
        report=output / "report.html",
        overwrite=overwrite,
        command=f"cellmodel demo --output {output}",
    )
    check_outputs(write, inputs=())
    return write


def run_demo(kb: genekb.Store, write: WriteConfig, *, seed: int = 0) -> FileRun:
    """Cluster the demo cells, and write what :func:`demo_outputs` names."""
    return run_file(find_demo_cells(), kb, RunConfig(seed=seed), read=ReadConfig(), write=write)
