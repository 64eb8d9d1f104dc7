"""Seconds and peak memory of `cellmodel cluster` from the shell, beside scanpy's usual steps in a process of its own.

    python -m benchmarks.speed.cluster --output results [--recipes fused,scllm-dsc]

Each command reads the file, opens the store (wcp, all protein-coding genes) and writes the annotated file. Writes
``speed.json`` and ``speed.md``; exits with 1 where a bar is missed: `fused` may take no more time and memory than
scanpy's steps with UMAP, both in the median of three runs in turns; the recipes that train on graphs have budgets.
Seconds are the smaller of wall and processor time: on a busy machine the first tells of others. The large file is read
by `fused` and the baseline. Scanpy's steps are run without UMAP, as `cellmodel cluster` draws none, and with it, as its
tutorials do.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.lib.protocol import build_stores, command_line, data_folder
from cellmodel.recipes.registry import BASELINES

RECIPES = "fused,scllm-dsc,scsiameseclu,scrcl,pca-leiden"
SMALL, LARGE = "pbmc_facs.h5ad", "kang_ctrl_stim_12261_hvg.h5ad"
BUDGETS = {  # (data, recipe) → seconds, MB
    (SMALL, "scllm-dsc"): (180, 2000),
    (SMALL, "scsiameseclu"): (180, 2000),
    (SMALL, "scrcl"): (180, 2000),
}
MAX_RATIO = 1.0  # of time and of memory of fused, over SCANPY_UMAP_NAME
N_REPEATS = 3  # of both
HEAD_BUDGET_S = 5  # fused without text, on the small file: what it does once the features are there
COMMAND = "from genekb_cellmodel_cli.cellmodel import main; main()"
LAUNCH = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
seconds, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
sys.exit(done.returncode)
"""
SCANPY_NAME = "scanpy: PCA, Leiden, t-test"
SCANPY_UMAP_NAME = f"{SCANPY_NAME}, UMAP"
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What a command took; no limits where it only stands beside the others."""

    data: str
    recipe: str
    seconds: float
    cpu_s: float
    peak_mb: float

    @property
    def limits(self) -> tuple[float, float] | None:
        """Seconds and MB that it may take."""
        return BUDGETS.get((self.data, self.recipe))

    @property
    def is_missed(self) -> bool:
        """Whether a budget is missed."""
        limits = self.limits
        return limits is not None and (min(self.seconds, self.cpu_s) > limits[0] or self.peak_mb > limits[1])


def measure(args: list[str]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak MB of a command.

    A small process starts it: the peak that the kernel tells of a process is never below that of the one that started
    it, and this one has built a store.
    """
    launched = subprocess.run([sys.executable, "-c", LAUNCH, *args], check=False, capture_output=True, text=True)
    if launched.returncode:
        raise SystemExit(f"{args[-1]}: {launched.stderr[-500:]}")
    seconds, cpu_s, peak_mb = json.loads(launched.stdout)
    return seconds, cpu_s, peak_mb


def measure_all(recipes: list[str], store: Path) -> Iterator[Run]:
    """Run every command, one after the other; `fused` and what it is compared with in turns."""
    with tempfile.TemporaryDirectory() as folder:
        listed = list(commands(recipes, store, Path(folder)))
        for data in (SMALL, LARGE):
            of_data = {recipe: args for one, recipe, args in listed if one == data}
            taken: dict[str, list[tuple[float, float, float]]] = {recipe: [] for recipe in of_data}
            for turn in range(N_REPEATS):
                for recipe, args in of_data.items():
                    if turn == 0 or recipe in ("fused", SCANPY_UMAP_NAME):
                        taken[recipe].append(measure(args))
            for recipe, found in taken.items():
                seconds, cpu_s, peak_mb = map(statistics.median, zip(*found, strict=True))
                yield Run(data=data, recipe=recipe, seconds=seconds, cpu_s=cpu_s, peak_mb=peak_mb)


def ratios(runs: list[Run], data: str) -> tuple[float, float] | None:
    """Time and memory of fused over scanpy's on the same file; None where it was not run."""
    own, peer = (
        [run for run in runs if (run.data, run.recipe) == (data, name)] for name in ("fused", SCANPY_UMAP_NAME)
    )
    if not own or not peer:
        return None
    seconds = (min(run.seconds, run.cpu_s) for run in (own[0], peer[0]))
    return next(seconds) / next(seconds), own[0].peak_mb / peer[0].peak_mb


def commands(recipes: list[str], store: Path, folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """List what is run: data, what it is, command line."""
    for data in (SMALL, LARGE):
        path = str(data_folder() / "scrna" / data)
        for recipe in recipes:
            if data == SMALL or recipe == "fused" or recipe in BASELINES:
                args = [
                    "cluster",
                    path,
                    "--kb",
                    str(store),
                    "--recipe",
                    recipe,
                    "--overwrite",
                    "-o",
                    str(folder / f"{recipe}-{data}"),
                ]
                yield data, recipe, [sys.executable, "-c", COMMAND, *args]
        scanpy = [sys.executable, "-c", SCANPY, path, str(folder / f"scanpy-{data}")]
        yield data, SCANPY_NAME, scanpy
        yield data, SCANPY_UMAP_NAME, [*scanpy, "umap"]


def expression_head_s() -> float:
    """Wall seconds of embedding and clustering by expression alone, k given, as the command tells them."""
    path = str(data_folder() / "scrna" / SMALL)
    with tempfile.TemporaryDirectory() as folder:
        args = ["cluster", path, "--knowledge", "none", "--n-clusters", "10", "--json"]
        args += ["-o", str(Path(folder) / "out.h5ad")]
        told = subprocess.run([sys.executable, "-c", COMMAND, *args], check=True, capture_output=True).stdout
    seconds = json.loads(told)["seconds"]
    return seconds["represent"] + seconds["cluster"]


def table(runs: list[Run]) -> str:
    """Markdown: one line a run."""
    lines = ["| data | recipe | s | processor s | peak MB | budget |", "| --- | --- | --- | --- | --- | --- |"]
    for run in runs:
        limits = run.limits
        told = f"{limits[0]} s, {limits[1]:,} MB{', MISSED' if run.is_missed else ''}" if limits else ""
        lines.append(
            f"| {run.data} | {run.recipe} | {run.seconds:.1f} | {run.cpu_s:.1f} | {run.peak_mb:,.0f} | {told} |"
        )
    for data in (SMALL, LARGE):
        if (found := ratios(runs, data)) is not None:
            told = "MISSED" if max(found) > MAX_RATIO else "met"
            lines.append(
                f"\n{data}: fused takes {found[0]:.2f} of scanpy's time, {found[1]:.2f} of its memory; {told}."
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = command_line(__doc__, with_home=False)
    parser.add_argument("--recipes", default=RECIPES)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    for run in measure_all(options.recipes.split(","), build_stores(options.output / "home")[0]):
        runs.append(run)
        (options.output / "speed.json").write_text(json.dumps([asdict(one) for one in runs], indent=1))
        (options.output / "speed.md").write_text(table(runs))
    head_s = expression_head_s()
    sys.stdout.write(f"{table(runs)}\nThe expression head alone: {head_s:.1f} s, at most {HEAD_BUDGET_S} s.\n")
    over = any(max(ratios(runs, data) or (0.0,)) > MAX_RATIO for data in (SMALL, LARGE))
    sys.exit(1 if over or any(run.is_missed for run in runs) or head_s > HEAD_BUDGET_S else 0)


if __name__ == "__main__":
    main()
