"""How time and memory of `cellmodel cluster` grow with the cells, beside scanpy's usual steps.

    python -m benchmarks.speed.scale --output results [--sizes 1000,...,1000000] [--source pbmc_facs]
    python -m benchmarks.speed.scale --output results --recipes scllm-dsc,scsiameseclu,scrcl --k given --peer-up-to 0
    python -m benchmarks.speed.scale --output results --source pbmc_facs --batches 50 --k estimated --sizes 100000

Synthetic cells (see synthetic.py) of each size are written to a temporary folder; each command reads them, opens the
store (wcp, all protein-coding genes) and writes the annotated file, in a process of its own: once with the number
of clusters given (that of the source's cell types) and once estimated. Scanpy: PCA, neighbors, Leiden (igraph), t-test
and UMAP. With --batches both integrate as many by Harmony. With --repeats all take turns, and medians count. "growth"
is the time over that of 12,000 cells, divided by the ratio of cells: 1 is linear. The ARI is against the types of the
source cells. Bars are ratios of time and memory to scanpy's, budgets, and the growth.
"""

import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import h5py
from anndata.io import read_elem
from sklearn.metrics import adjusted_rand_score

from benchmarks.lib.protocol import build_stores
from benchmarks.speed.cluster import SCANPY, SCANPY_UMAP
from benchmarks.speed.frame import Figure, Taken, main, shell, time_command

BASE, LARGE = 12_000, 100_000
FUSED_BUDGETS = {LARGE: (None, 6000), 1_000_000: (180, 3500)}  # cells → seconds, MB
GRAPH_BUDGETS = {LARGE: (600, 4096)}  # of recipes that train on the graph of the cells
MAX_RATIOS = (0.8, 0.9)  # of scanpy's time and memory
MAX_GROWTH = 1.3  # of LARGE over BASE


def column(path: Path, name: str) -> list[str]:
    """One column of obs, without the rest of the file."""
    with h5py.File(path) as file:
        return [str(value) for value in read_elem(file[f"obs/{name}"])]


def write_cells(source: str, path: Path, *, n_cells: int, batches: int) -> list[str]:
    """Write synthetic cells in a process of its own, and give their types."""
    made = [sys.executable, "-m", "benchmarks.lib.synthetic", source, str(path), "--n-cells", str(n_cells)]
    subprocess.run([*made, "--batches", str(batches)], check=True)
    return column(path, "cell_type")


def measure(listed: dict[str, list[str]], output: Path, n_runs: int) -> tuple[dict[str, Taken], dict[str, list[str]]]:
    """Run every command in turns; the medians, and the clusters of each."""
    taken: dict[str, list[Taken]] = {what: [] for what in listed}
    clusters = {}
    for _ in range(n_runs):
        for what, args in listed.items():
            taken[what].append(time_command(args))
            clusters[what] = column(output, "leiden" if what == SCANPY_UMAP else "cellmodel")
            output.unlink()
    medians = {
        what: Taken(*map(statistics.median, zip(*map(astuple, runs), strict=True))) for what, runs in taken.items()
    }
    return medians, clusters


def figures(
    folder: Path, *, sizes: str = "3000,12000,50000,100000,300000", source: str = "kang_ctrl_stim_12261",
    recipes: str = "fused", k: str = "given,estimated", peer_up_to: int = 300_000, repeats: int = 1, batches: int = 0,
) -> Iterator[Figure]:  # fmt: skip
    """Give time and memory of every command, its ratios to scanpy, its growth and agreement, for each size."""
    store = build_stores(folder / "home")[0]
    cells, output = folder / "cells.h5ad", folder / "out.h5ad"
    asked = {int(size) for size in sizes.split(",")}
    base: dict[str, float] = {}
    for n_cells in sorted(asked | ({BASE} if LARGE in asked else set())):
        types = write_cells(source, cells, n_cells=n_cells, batches=batches)
        keyed = ("--batch-key", "batch") if batches else ()
        listed = {
            f"{recipe}, k {way}": shell(
                "cellmodel", "cluster", cells, "--kb", store, "--recipe", recipe, *keyed, "--overwrite", "-o", output,
                "--n-clusters", len(set(types)) if way == "given" else "auto",
            )
            for recipe in recipes.split(",")
            for way in k.split(",")
        }  # fmt: skip
        if n_cells <= peer_up_to:
            listed[SCANPY_UMAP] = [sys.executable, "-c", SCANPY, str(cells), str(output), "umap", *keyed]
        taken, clusters = measure(listed, output, repeats)
        if n_cells == BASE:
            base = {what: one.fewest_s for what, one in taken.items()}
        peer = taken.get(SCANPY_UMAP)
        for what, one in taken.items():
            about = f"{what}, {n_cells:,} cells"
            found = float(adjusted_rand_score(types, clusters[what]))
            yield Figure(what=f"{about}: ARI of {len(set(clusters[what]))} clusters", value=found, unit="")
            yield from _costs(about, one, n_cells, None if what == SCANPY_UMAP else peer, base.get(what))


def _costs(about: str, taken: Taken, n_cells: int, peer: Taken | None, base: float | None) -> Iterator[Figure]:
    """Give seconds and memory of a command, over those of the peer, and the growth of time."""
    is_fused = about.startswith("fused")
    budgets = {} if about.startswith(SCANPY_UMAP) else FUSED_BUDGETS if is_fused else GRAPH_BUDGETS
    seconds, mb = budgets.get(n_cells, (None, None))
    yield Figure(what=about, value=taken.seconds, processor=taken.cpu_s, unit="s", limit=seconds)
    yield Figure(what=f"{about}: peak", value=taken.peak_mb, unit="MB", limit=mb)
    if peer is not None:
        most = MAX_RATIOS if is_fused else (None, None)
        ratios = (taken.fewest_s / peer.fewest_s, taken.peak_mb / peer.peak_mb)
        for what, limit, ratio in zip(("time", "memory"), most, ratios, strict=True):
            yield Figure(what=f"{about}: {what} over scanpy's", value=ratio, unit="times", limit=limit)
    if base is not None:
        limit = MAX_GROWTH if n_cells == LARGE and not about.startswith(SCANPY_UMAP) else None
        growth = taken.fewest_s / base / (n_cells / BASE)
        yield Figure(what=f"{about}: growth of time over that of cells", value=growth, unit="times", limit=limit)


if __name__ == "__main__":
    sys.exit(main(__doc__, figures, name="scale"))
