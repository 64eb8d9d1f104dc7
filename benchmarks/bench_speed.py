"""Seconds and peak memory of `cellmodel cluster` from the shell, beside scanpy's usual steps in a process of its own.

    python benchmarks/bench_speed.py --output results [--recipes fused,scllm-dsc]

Each command reads the file, opens the store (lsa-256, all protein-coding genes) and writes the annotated file. Writes
``speed.json`` and ``speed.md``; exits with 1 where a budget is missed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_clustering import build_stores
from protocol import data_folder

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("results"))
    parser.add_argument("--recipes", default="fused,scllm-dsc,scsiameseclu,scrcl,pca-leiden")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    store = build_stores(options.output / "home")[0]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for data in (SMALL, LARGE):
            path = str(data_folder() / "scrna" / data)
            for recipe in options.recipes.split(","):
                out = str(Path(folder) / f"{recipe}-{data}")
                args = ["cluster", path, "--kb", str(store), "--recipe", recipe, "-o", out]
                seconds, peak = measure([sys.executable, "-c", COMMAND, *args])
                rows.append({"data": data, "recipe": recipe, "seconds": seconds, "peak_mb": peak})
            seconds, peak = measure([sys.executable, "-c", SCANPY, path, str(Path(folder) / f"scanpy-{data}")])
            rows.append({"data": data, "recipe": "scanpy: PCA, Leiden, t-test", "seconds": seconds, "peak_mb": peak})
    (options.output / "speed.json").write_text(json.dumps(rows, indent=1))
    lines = ["| data | recipe | s | peak MB | budget |", "| --- | --- | --- | --- | --- |"]
    missed = 0
    for row in rows:
        limit = BUDGETS.get((row["data"], row["recipe"]))
        is_missed = limit is not None and (row["seconds"] > limit[0] or row["peak_mb"] > limit[1])
        missed += is_missed
        told = f"{limit[0]} s, {limit[1]:,} MB{', MISSED' if is_missed else ''}" if limit else ""
        lines.append(f"| {row['data']} | {row['recipe']} | {row['seconds']:.1f} | {row['peak_mb']:,.0f} | {told} |")
    (options.output / "speed.md").write_text("\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
