"""Seconds and peak memory of `cellmodel cluster` from the shell, beside scanpy's usual steps in a process of its own.

    python benchmarks/bench_speed.py --output results [--recipes fused,scllm-dsc]

Each command reads the file, opens the store (lsa-256, all protein-coding genes) and writes the annotated file. Writes
``speed.json`` and ``speed.md``; exits with 1 where a budget is missed. The large file is read by the recipes with a
budget for it, and by the baseline.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench_clustering import build_stores
from protocol import data_folder

from cellmodel.recipes.registry import BASELINES

SMALL, LARGE = "pbmc_facs.h5ad", "kang_ctrl_stim_12261_hvg.h5ad"
BUDGETS = {  # (data, recipe) → seconds, MB
    (SMALL, "fused"): (30, 1500),
    (SMALL, "scllm-dsc"): (180, 2000),
    (SMALL, "scsiameseclu"): (180, 2000),
    (SMALL, "scrcl"): (180, 2000),
    (LARGE, "fused"): (60, 2500),
}
COMMAND = "from genekb_cellmodel_cli.cellmodel import main; main()"
SCANPY = """
import sys, warnings, scanpy as sc
warnings.simplefilter("ignore")
cells = sc.read_h5ad(sys.argv[1])
sc.pp.filter_genes(cells, min_cells=3); sc.pp.normalize_total(cells, target_sum=1e4); sc.pp.log1p(cells)
sc.pp.highly_variable_genes(cells, n_top_genes=min(2000, cells.n_vars)); sc.pp.pca(cells, n_comps=30)
sc.pp.neighbors(cells); sc.tl.leiden(cells, flavor="igraph", n_iterations=2, directed=False)
sc.tl.rank_genes_groups(cells, "leiden", method="t-test"); cells.write_h5ad(sys.argv[2])
"""


def measure(args: list[str]) -> tuple[float, float]:
    """Wall seconds and peak MB of a command."""
    started = time.perf_counter()
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{args[-1]}: {error.decode()[-500:]}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def commands(recipes: list[str], store: Path, folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """List what is run: data, what it is, command line."""
    for data in (SMALL, LARGE):
        path = str(data_folder() / "scrna" / data)
        for recipe in recipes:
            if data == SMALL or (data, recipe) in BUDGETS or recipe in BASELINES:
                args = ["cluster", path, "--kb", str(store), "--recipe", recipe, "-o", str(folder / f"{recipe}-{data}")]
                yield data, recipe, [sys.executable, "-c", COMMAND, *args]
        yield data, "scanpy: PCA, Leiden, t-test", [sys.executable, "-c", SCANPY, path, str(folder / f"scanpy-{data}")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("results"))
    parser.add_argument("--recipes", default="fused,scllm-dsc,scsiameseclu,scrcl,pca-leiden")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    store = build_stores(options.output / "home")[0]
    rows, lines = [], ["| data | recipe | s | peak MB | budget |", "| --- | --- | --- | --- | --- |"]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for data, recipe, args in commands(options.recipes.split(","), store, Path(folder)):
            seconds, peak = measure(args)
            limit = BUDGETS.get((data, recipe))
            is_missed = limit is not None and (seconds > limit[0] or peak > limit[1])
            missed += is_missed
            told = f"{limit[0]} s, {limit[1]:,} MB{', MISSED' if is_missed else ''}" if limit else ""
            rows.append({"data": data, "recipe": recipe, "seconds": seconds, "peak_mb": peak})
            lines.append(f"| {data} | {recipe} | {seconds:.1f} | {peak:,.0f} | {told} |")
            (options.output / "speed.json").write_text(json.dumps(rows, indent=1))
            (options.output / "speed.md").write_text("\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
