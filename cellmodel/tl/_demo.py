"""The demo: 700 blood cells that come with scanpy, from file to named clusters and report."""

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import genekb
from cellmodel.core.errors import InputUnusable
from cellmodel.io.writers import cells_target, check_targets
from cellmodel.tl._chain import run
from cellmodel.tl._run.files import CellFiles
from genekb.core.python import for_python
from genekb.files.replace import Target

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)
CELLS: Final = "datasets/10x_pbmc68k_reduced.h5ad"
OUTPUT, REPORT = "pbmc.h5ad", "report.html"  # what is written


@for_python
def demo(
    output: str | Path = "cellmodel-demo",
    *,
    model: str = "auto",
    overwrite: bool = False,
    random_state: int = 0,
    home: str | Path | None = None,
) -> "AnnData":
    """Build the demo store, cluster and name 700 real blood cells with it, write the report, and give the cells.

    From the shell: ``cellmodel demo``.

    Parameters
    ----------
    output
        Folder for ``pbmc.h5ad`` and ``report.html``.
    model
        Encoder of the demo store.
    overwrite
        Whether files of these names may be replaced.
    random_state
        The run's one seed; ``seed`` is taken, too.
    home
        Artifact home; else GENEKB_HOME, else the user's data folder.

    Raises
    ------
    InputUnusable
        If scanpy, with which the cells come, is not installed.
    """
    found = run_demo(Path(output), model=model, overwrite=overwrite, random_state=random_state, home=home)[1]
    adata: AnnData = found["cluster"].cells.adata
    return adata


def run_demo(
    folder: Path, *, model: str, overwrite: bool, random_state: int, home: str | Path | None
) -> tuple[genekb.Store, dict[str, Any]]:
    """Do the same, and give the store and what was found at each step."""
    cells, output, report = find_demo_cells(), folder / OUTPUT, folder / REPORT
    check_targets([Target(folder, kind="shared", makes_parents=True)], overwrite=overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    check_targets([cells_target(output), Target(report)], overwrite=overwrite)
    log.info("building the demo store ...")
    kb = genekb.build(name="demo", model=model, home=home)
    log.info("clustering and naming 700 blood cells (pbmc68k_reduced) ...")
    files = CellFiles([cells], output=output, command=f"cellmodel.demo({str(folder)!r})")
    found = run(files, kb, report=report, overwrite=overwrite, random_state=random_state)
    assert isinstance(found, dict)
    return kb, found


def find_demo_cells() -> Path:
    """Find the demo cells in the installed scanpy, without importing it."""
    spec = importlib.util.find_spec("scanpy")
    path = Path(spec.origin).parent / CELLS if spec and spec.origin else None
    if path is None or not path.is_file():
        raise InputUnusable(
            "the demo cells come with scanpy, which is not installed; pip install 'genekb-cellmodel[demo]'"
        )
    return path
