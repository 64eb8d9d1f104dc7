"""How time and memory of `cellmodel cluster` grow with the cells, beside scanpy's usual steps.

    python -m benchmarks.speed.scale --output results [--sizes 1000,...,1000000] [--source pbmc_facs]
    python -m benchmarks.speed.scale --output results --recipes scllm-dsc,scsiameseclu,scrcl --k given --peer-up-to 0
    python -m benchmarks.speed.scale --output results --source pbmc_facs --batches 50 --k estimated --sizes 100000

Synthetic cells (see synthetic.py) of each size are written to a temporary folder; each command reads them, opens the
store (wcp, all protein-coding genes) and writes the annotated file, in a process of its own: once with the number
of clusters given (that of the source's cell types) and once estimated. Scanpy: PCA, neighbors, Leiden (igraph), t-test
and UMAP. With --batches both integrate as many by Harmony. With --repeats all take turns, and medians count. "growth"
is the time over that of 12,000 cells, divided by the ratio of cells: 1 is linear. The ARI is against the types of the
source cells. Writes ``scale.json`` and ``scale.md`` after each size; exits with 1 where a bar is missed, a ratio of
time or memory to scanpy's or a budget; seconds are the smaller of wall and processor time, as in speed/cluster.py.
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
from anndata.io import read_elem
from sklearn.metrics import adjusted_rand_score

from benchmarks.lib.protocol import build_stores, command_line
from benchmarks.speed.cluster import COMMAND, SCANPY, measure

SIZES = "3000,12000,50000,100000,300000"
BASE, LARGE = 12_000, 100_000
FUSED_BUDGETS = {LARGE: (math.inf, 6000), 1_000_000: (210, 4000)}  # cells → seconds, MB
MANY = 50_000  # cells from which on fused may take MAX_RATIO_MANY of scanpy's time
MAX_RATIO, MAX_RATIO_MANY = 1.0, 0.7  # of its memory, and of its time below that; of its time
GRAPH_BUDGETS = {LARGE: (600, 4096)}  # of recipes that train on the graph of the cells
MAX_GROWTH = 1.3  # of LARGE over BASE
SCANPY_STEPS = "scanpy: PCA, Leiden, t-test, UMAP"
BATCH_KEY = ("--batch-key", "batch")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What a command took on how many cells, in the median, and how well its clusters agree with the source's types."""

    n_cells: int
    what: str
    seconds: float
    cpu_s: float
    peak_mb: float
    n_clusters: int
    ari: float

    @property
    def fewest_seconds(self) -> float:
        """Wall or processor time, whichever is less."""
        return min(self.seconds, self.cpu_s)


def commands(
    cells: Path, *, store: Path, output: Path, recipes: Sequence[str], numbers: dict[str, str], with_peer: bool,
    n_batches: int,
) -> Iterator[tuple[str, str, list[str]]]:  # fmt: skip
    """List what is run on a file: what it is, the column with its clusters, command line."""
    keyed = BATCH_KEY if n_batches else ()
    for recipe in recipes:
        cluster = [sys.executable, "-c", COMMAND, "cluster", str(cells), "--kb", str(store), "--recipe", recipe]
        cluster += [*keyed, "--overwrite", "-o", str(output)]
        for what, number in numbers.items():
            yield f"{recipe}, k {what}", "cellmodel", [*cluster, "--n-clusters", number]
    if with_peer:
        yield SCANPY_STEPS, "leiden", [sys.executable, "-c", SCANPY, str(cells), str(output), "umap", *keyed]


def column(path: Path, name: str) -> list[str]:
    """One column of obs, without the rest of the file."""
    with h5py.File(path) as file:
        return [str(value) for value in read_elem(file[f"obs/{name}"])]


def measure_size(
    source: str,
    n_cells: int,
    *,
    store: Path,
    with_peer: bool,
    recipes: Sequence[str] = ("fused",),
    k: tuple[str, ...] = ("given", "estimated"),
    n_batches: int = 0,
    n_repeats: int = 1,
) -> Iterator[Run]:
    """Write synthetic cells and run every command on them, one after the other, as often as asked for."""
    with tempfile.TemporaryDirectory() as folder:
        cells, output = Path(folder) / "cells.h5ad", Path(folder) / "out.h5ad"
        # In a process of its own: what this one holds would count as the peak of those that it starts.
        made = [sys.executable, "-m", "benchmarks.lib.synthetic", source, str(cells), "--n-cells", str(n_cells)]
        made += ["--batches", str(n_batches)]
        subprocess.run(made, check=True)
        types = column(cells, "cell_type")
        numbers = {"given": str(len(set(types))), "estimated": "auto"}
        numbers = {what: numbers[what] for what in k}
        listed = list(
            commands(
                cells, store=store, output=output, recipes=recipes, numbers=numbers, with_peer=with_peer,
                n_batches=n_batches,
            )
        )  # fmt: skip
        taken, clusters = defaultdict(list), {}
        for _ in range(n_repeats):
            for what, key, args in listed:
                taken[what].append(measure(args))
                clusters[what] = column(output, key)
                output.unlink()
        for what, found in clusters.items():
            seconds, cpu_s, peak_mb = map(statistics.median, zip(*taken[what], strict=True))
            yield Run(
                n_cells=n_cells,
                what=what,
                seconds=seconds,
                cpu_s=cpu_s,
                peak_mb=peak_mb,
                n_clusters=len(set(found)),
                ari=float(adjusted_rand_score(types, found)),
            )


def growth(run: Run, runs: list[Run]) -> float | None:
    """Time over that of the base size, divided by the ratio of cells; None without a run of the base size."""
    base = [one for one in runs if one.what == run.what and one.n_cells == BASE]
    return run.fewest_seconds / base[0].fewest_seconds / (run.n_cells / BASE) if base else None


def ratios(run: Run, runs: list[Run]) -> tuple[float, float] | None:
    """Time and memory over scanpy's on the same cells; None for scanpy, and where it was not run."""
    peer = [one for one in runs if one.what == SCANPY_STEPS and one.n_cells == run.n_cells]
    if run.what == SCANPY_STEPS or not peer:
        return None
    return run.fewest_seconds / peer[0].fewest_seconds, run.peak_mb / peer[0].peak_mb


def missed(run: Run, runs: list[Run]) -> list[str]:
    """Bars that a run misses."""
    is_fused = run.what.startswith("fused")
    budgets = FUSED_BUDGETS if is_fused else GRAPH_BUDGETS
    max_seconds, max_mb = budgets.get(run.n_cells, (math.inf, math.inf))
    if run.what == SCANPY_STEPS:
        return []
    grown, found = growth(run, runs), ratios(run, runs) if is_fused else None
    time_ratio, memory_ratio = found or (0.0, 0.0)
    max_ratio = MAX_RATIO_MANY if run.n_cells >= MANY else MAX_RATIO
    checks = {
        f"{max_seconds} s": run.fewest_seconds > max_seconds,
        f"{max_mb:,} MB": run.peak_mb > max_mb,
        f"growth {MAX_GROWTH}": run.n_cells == LARGE and grown is not None and grown > MAX_GROWTH,
        f"{max_ratio} of the time": time_ratio > max_ratio,
        f"{MAX_RATIO} of the memory": memory_ratio > MAX_RATIO,
    }
    return [name for name, is_missed in checks.items() if is_missed]


def table(runs: list[Run]) -> str:
    """Markdown: one line a run."""
    head = [
        "cells",
        "what",
        "s",
        "processor s",
        "ms per cell",
        "growth",
        "peak MB",
        "time, memory over scanpy's",
        "k",
        "ARI",
    ]
    head += ["missed"]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for run in runs:
        grown, found = growth(run, runs), ratios(run, runs)
        lines.append(
            f"| {run.n_cells:,} | {run.what} | {run.seconds:.1f} | {run.cpu_s:.1f} "
            f"| {1000 * run.fewest_seconds / run.n_cells:.2f} | {'' if grown is None else f'{grown:.2f}'} "
            f"| {run.peak_mb:,.0f} | {'' if found is None else f'{found[0]:.2f}, {found[1]:.2f}'} "
            f"| {run.n_clusters} | {run.ari:.3f} | {', '.join(missed(run, runs))} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = command_line(__doc__, with_home=False)
    parser.add_argument("--sizes", default=SIZES, help=f"Numbers of cells; {LARGE} brings {BASE} with it.")
    parser.add_argument("--source", default="kang_ctrl_stim_12261", help="Data set that the cells are made of.")
    parser.add_argument("--recipes", default="fused", help="Recipes that are run.")
    parser.add_argument("--k", default="given,estimated", help="Whether the number of clusters is given or estimated.")
    parser.add_argument("--peer-up-to", type=int, default=300_000, help="Cells up to which scanpy is run as well.")
    parser.add_argument("--repeats", type=int, default=1, help="How often each command is run.")
    parser.add_argument("--batches", type=int, default=0, help="Batches of the cells; none if 0.")
    options = parser.parse_args()
    sizes = {int(size) for size in options.sizes.split(",")}
    options.output.mkdir(parents=True, exist_ok=True)
    store = build_stores(options.output / "home")[0]
    runs: list[Run] = []
    for n_cells in sorted(sizes | ({BASE} if LARGE in sizes else set())):
        how = {"with_peer": n_cells <= options.peer_up_to, "k": tuple(options.k.split(","))}
        how |= {"n_batches": options.batches, "n_repeats": options.repeats}
        for run in measure_size(options.source, n_cells, store=store, recipes=options.recipes.split(","), **how):
            runs.append(run)
            (options.output / "scale.json").write_text(json.dumps([asdict(one) for one in runs], indent=1))
            (options.output / "scale.md").write_text(table(runs))
    sys.stdout.write(table(runs))
    return 1 if any(missed(run, runs) for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
