"""Seconds and peak memory of `cellmodel cluster` from the shell, beside scanpy's usual steps in a process of its own.

    python -m benchmarks.speed.cluster --output results [--recipes fused,scllm-dsc]

Each command reads the file, opens the store (wcp, all protein-coding genes) and writes the annotated file. `fused` may
take no more time and memory than scanpy's steps with UMAP, both in the median of three runs in turns; the recipes that
train on graphs have budgets. The large file is read by `fused` and the baseline. Scanpy's steps are run without UMAP,
as `cellmodel cluster` draws none, and with it, as its tutorials do.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

from benchmarks.lib.protocol import build_stores, data_folder
from benchmarks.speed.frame import Figure, Taken, main, shell, time_command
from cellmodel.recipes.registry import BASELINES

RECIPES = "fused,scllm-dsc,scsiameseclu,scrcl,pca-leiden"
SMALL, LARGE = "pbmc_facs.h5ad", "kang_ctrl_stim_12261_hvg.h5ad"
N_CELLS = {SMALL: "3,874 cells x 16,791 genes", LARGE: "12,261 cells x 1,287 genes"}
BUDGETS = {(SMALL, recipe): (180, 2000) for recipe in ("scllm-dsc", "scsiameseclu", "scrcl")}  # seconds, MB
MAX_RATIO = 1.0  # of time and of memory of fused, over SCANPY_UMAP
N_REPEATS = 3  # of both
HEAD_BUDGET_S = 5  # fused without text, on the small file: what it does once the features are there
SCANPY_NAME = "scanpy: PCA, Leiden, t-test"
SCANPY_UMAP = f"{SCANPY_NAME}, UMAP"
SCANPY = """
import sys, warnings, scanpy as sc
warnings.simplefilter("ignore")
cells = sc.read_h5ad(sys.argv[1])
batches = {"batch_key": "batch"} if "--batch-key" in sys.argv else {}
sc.pp.filter_genes(cells, min_cells=3); sc.pp.normalize_total(cells, target_sum=1e4); sc.pp.log1p(cells)
sc.pp.highly_variable_genes(cells, n_top_genes=min(2000, cells.n_vars), **batches); sc.pp.pca(cells, n_comps=30)
if batches:
    from harmonypy import run_harmony
    cells.obsm["X_pca"] = run_harmony(cells.obsm["X_pca"], cells.obs, "batch", verbose=False).Z_corr
knn = {"transformer": "sklearn"} if cells.n_obs > 8192 else {}  # its own choice, pynndescent 0.7, fails in scanpy 1.11
sc.pp.neighbors(cells, **knn); sc.tl.leiden(cells, flavor="igraph", n_iterations=2, directed=False)
sc.tl.rank_genes_groups(cells, "leiden", method="t-test")
if "umap" in sys.argv: sc.tl.umap(cells)
cells.write_h5ad(sys.argv[2])
"""


def commands(data: str, recipes: list[str], store: Path, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """List what is run on a file: what it is, command line."""
    path = data_folder() / "scrna" / data
    for recipe in recipes:
        if data == SMALL or recipe == "fused" or recipe in BASELINES:
            words = ("cluster", path, "--kb", store, "--recipe", recipe, "--overwrite", "-o", folder / f"out-{data}")
            yield recipe, shell("cellmodel", *words)
    scanpy = [sys.executable, "-c", SCANPY, str(path), str(folder / f"scanpy-{data}")]
    yield SCANPY_NAME, scanpy
    yield SCANPY_UMAP, [*scanpy, "umap"]


def measure(data: str, recipes: list[str], store: Path, folder: Path) -> dict[str, Taken]:
    """Run every command on a file, one after the other; `fused` and what it is compared with in turns."""
    listed = dict(commands(data, recipes, store, folder))
    taken: dict[str, list[Taken]] = {what: [] for what in listed}
    for turn in range(N_REPEATS):
        for what, args in listed.items():
            if turn == 0 or what in {"fused", SCANPY_UMAP}:
                taken[what].append(time_command(args))
    return {what: Taken(*map(statistics.median, zip(*map(astuple, runs), strict=True))) for what, runs in taken.items()}


def expression_head_s(folder: Path) -> float:
    """Wall seconds of embedding and clustering by expression alone, k given, as the command tells them."""
    path = data_folder() / "scrna" / SMALL
    words = ("cluster", path, "--knowledge", "none", "--n-clusters", "10", "--json", "-o", folder / "head.h5ad")
    told = subprocess.run(shell("cellmodel", *words), check=True, capture_output=True).stdout
    seconds = json.loads(told)["seconds"]
    return seconds["represent"] + seconds["cluster"]


def figures(folder: Path, *, recipes: str = RECIPES) -> Iterator[Figure]:
    """Give time and memory of every command beside scanpy's, then the ratios, and the time of the head."""
    store = build_stores(folder / "home")[0]
    for data, n_cells in N_CELLS.items():
        found = measure(data, recipes.split(","), store, folder)
        scanpy = {what: found.pop(what) for what in (SCANPY_NAME, SCANPY_UMAP)}
        for recipe, taken in found.items():
            seconds, mb = BUDGETS.get((data, recipe), (None, None))
            what = f"{recipe}, {n_cells}"
            peers = {name: one.seconds for name, one in scanpy.items()}
            yield Figure(
                what=what, unit="s", limit=seconds, value=taken.seconds, processor=taken.cpu_s, peers=peers
            )  # fmt: skip
            peers = {name: one.peak_mb for name, one in scanpy.items()}
            yield Figure(what=f"{what}, peak", unit="MB", limit=mb, value=taken.peak_mb, peers=peers)
        if "fused" in found:
            own, peer = found["fused"], scanpy[SCANPY_UMAP]
            for kind, ratio in (("time", own.fewest_s / peer.fewest_s), ("memory", own.peak_mb / peer.peak_mb)):
                what = f"fused, {n_cells}: {kind} over scanpy's with UMAP"
                yield Figure(what=what, unit="times", limit=MAX_RATIO, value=ratio)
    what = f"the expression head alone, {N_CELLS[SMALL]}"
    yield Figure(what=what, unit="s", limit=HEAD_BUDGET_S, value=expression_head_s(folder))


if __name__ == "__main__":
    sys.exit(main(__doc__, figures, name="speed"))
