"""Seconds of `cellmodel run` and of the single commands on clustered cells, each from the shell to its file.

    python -m benchmarks.speed.chain --output results

`run` clusters, names, explains and reports; the others read what it wrote of pbmc3k. The store is human, wcp, all
protein-coding genes. Each command is run twice and the second counts: the first writes the bytecode of the libraries,
as installers do, to a folder of its own.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.lib.protocol import build_stores, data_folder
from benchmarks.speed.frame import Figure, main, shell, time_command

SMALL, LARGE = "pbmc3k.h5ad", "kang_ctrl_stim_12261_hvg.h5ad"
N_CELLS = {SMALL: "2,700 cells x 32,738 genes", LARGE: "12,261 cells x 1,287 genes"}
RUN_S = {SMALL: 10.0, LARGE: 18.0}
SINGLE = {  # command on clustered cells → its words before the output, its ending, seconds
    "annotate": ("{cells} --kb {store} --key-added again", ".h5ad", 3.0),
    "attribute": ("{cells} --kb {store} --key-added again", ".h5ad", 3.0),
    "search": ("{cells} cytotoxic --kb {store}", ".h5ad", 3.0),
    "report": ("{cells}", ".html", 3.0),
    "plot": ("{cells} --kind dotplot", ".svg", 3.0),
}


def commands(store: Path, folder: Path) -> Iterator[tuple[str, list[object], float]]:
    """List what is run, in its order: what it is, words, budget."""
    for data, limit in RUN_S.items():
        words = ["run", data_folder() / "scrna" / data, "--kb", store, "-o", folder / f"run-{data}"]
        yield f"run, {N_CELLS[data]}", [*words, "--report", folder / f"{data}.html"], limit
    for command, (words, ending, limit) in SINGLE.items():
        given = words.format(cells=folder / f"run-{SMALL}", store=store).split()
        yield f"{command}, {N_CELLS[SMALL]}", [command, *given, "-o", folder / f"{command}{ending}"], limit


def figures(folder: Path) -> Iterator[Figure]:
    """Run every command, one after the other."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    for what, words, limit in commands(build_stores(folder / "home")[0], folder):
        command = shell("cellmodel", *words, "--overwrite")
        time_command(command)
        taken = time_command(command)
        yield Figure(what=what, value=taken.seconds, processor=taken.cpu_s, unit="s", limit=limit)
        yield Figure(what=f"{what}, peak", value=taken.peak_mb, unit="MB")


if __name__ == "__main__":
    sys.exit(main(__doc__, figures, name="chain"))
