"""The demo: 700 blood cells that come with scanpy, from file to named clusters and report."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import genekb
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import ReadConfig
from cellmodel.io.writers import WriteConfig, check_outputs, check_targets
from cellmodel.tl._chain import ChainConfig, ChainJob
from cellmodel.tl._run.task import run_on_file
from genekb.core.python import for_python
from genekb.files.replace import Target

if TYPE_CHECKING:
    from anndata import AnnData

CELLS: Final = "datasets/10x_pbmc68k_reduced.h5ad"


@for_python
def demo(
    output: str | Path = "cellmodel-demo",
    *,
    model: str = "auto",
    overwrite: bool = False,
    random_state: int = 0,
    home: str | Path | None = None,
) -> "AnnData":
    """Build the demo store, cluster and name 700 real blood cells with it, as `cellmodel demo` does, and give these.

    ``output``: folder for ``pbmc.h5ad`` and ``report.html``; ``model``: encoder of the demo store. Raises
    ``InputUnusable`` if scanpy, with which the cells come, is not installed.
    """
    write = demo_outputs(Path(output), overwrite=overwrite)
    found = run_demo(genekb.build(name="demo", model=model, home=home), write, seed=random_state)
    adata: AnnData = found["cluster"].cells.adata
    return adata


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
        command=f"cellmodel.demo({str(output)!r})",
    )
    check_outputs(write, inputs=())
    return write


def run_demo(kb: genekb.Store, write: WriteConfig, *, seed: int = 0) -> dict[str, Any]:
    """Do :func:`cellmodel.tl.run` with the demo cells, and write what `demo_outputs` names."""
    task = ChainJob(kb, RunConfig(seed=seed), chain=ChainConfig(), key_added=write.key_added)
    return run_on_file(find_demo_cells(), task, read=ReadConfig(), write=write)
