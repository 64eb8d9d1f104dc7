"""The demo: 700 blood cells that come with scanpy, from file to named clusters and report."""

import importlib.util
from pathlib import Path
from typing import Final

import genekb
from cellmodel.annotate.candidates import of_tissues
from cellmodel.annotate.cell_types import read_cell_types
from cellmodel.annotate.name_cells import TypeChoice
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import read_cells
from cellmodel.io.writers import WriteConfig, check_outputs, check_targets
from cellmodel.tl._slots import CellRun, cluster_task
from cellmodel.tl._task import annotate_task, run_on_cells, write_all
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


def run_demo(kb: genekb.Store, write: WriteConfig, *, seed: int = 0) -> tuple[CellRun, list[str]]:
    """Cluster the demo cells, name the clusters by types of blood, and write what :func:`demo_outputs` names."""
    path, config = find_demo_cells(), RunConfig(seed=seed)
    cells = read_cells(path)
    task = cluster_task(kb, config)
    found = run_on_cells(cells, task, key_added=write.key_added, command=write.command)
    choice = TypeChoice(types=of_tissues(read_cell_types(), ["blood"], in_every=()))
    named = run_on_cells(cells, annotate_task(kb, config, choice=choice), key_added="cellmodel_name")
    write_all(cells, found, task, source=path, write=write)
    return found, [one.name for one in named.names]
