"""Clusters of `fused` beside PCA + k-means and PCA + Leiden, k given and estimated, five seeds, labels only to score.

    python benchmarks/bench_clustering.py --output results

Each (data set, recipe) runs in a process of its own, so that its peak memory is its own. Writes ``clustering.json`` and
``clustering.md``; exits with 1 where a bar is missed.
"""

import argparse
import json
import multiprocessing
import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from protocol import SEEDS, DataSet, data_folder, load_datasets

RECIPES = ("fused", "fused without text", "pca-kmeans", "pca-leiden")
BARS = {"accuracy": 0.78, "nmi": 0.79, "ari": 0.74}
BAR_ESTIMATED = 0.74
BAR_TEXT = -0.01


def build_stores(home: Path) -> dict[str, str]:
    """Build a store of each species with an encoder that needs no weights."""
    from genekb import BuildConfig, build, read_ncbi_folder

    stores = {}
    for taxon in ("human", "mouse"):
        source = read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=[taxon])
        config = BuildConfig(name=taxon, models=("lsa-256",), genes="protein-coding")
        stores[taxon] = str(build(source, config, home=home).folder)
    return stores


def peak_mb() -> float:
    """Peak memory of this process alone; Linux's ru_maxrss would count the parent's as well."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def run_one(job: tuple[DataSet, str, str]) -> list[dict]:
    """Run one recipe on one data set over all seeds, k given and estimated."""
    data, recipe, store = job
    import anndata

    from cellmodel.config import RunConfig
    from cellmodel.io import read_cells
    from cellmodel.metrics import score
    from cellmodel.pipeline import run
    from genekb import open as open_store

    truth = anndata.read_h5ad(data.path, backed="r").obs[data.label_key].astype(str).to_numpy()
    knowledge = "real" if recipe == "fused" else "none"
    rows = []
    for n_clusters in (len(set(truth)), None):
        for seed in SEEDS:
            config = RunConfig(
                recipe=recipe.split()[0], n_clusters=n_clusters, knowledge=knowledge, seed=seed, n_words=0
            )
            started = time.perf_counter()
            kb = open_store(store) if knowledge == "real" else None
            result = run(read_cells(data.path), kb, config)
            seconds = time.perf_counter() - started
            scores = score(truth, result.labels)
            rows.append(
                {
                    "data": data.name,
                    "recipe": recipe,
                    "k": "given" if n_clusters else "estimated",
                    "seed": seed,
                    "seconds": seconds,
                    "peak_mb": peak_mb(),
                    **{name: getattr(scores, name) for name in ("accuracy", "nmi", "ari", "macro_f1", "n_clusters")},
                    "n_types": len(set(truth)),
                }
            )
    return rows


def table(rows: list[dict], k: str, datasets: list[DataSet]) -> list[str]:
    """Markdown: one line a data set and recipe, then the means."""
    lines = [
        f"## k {k}",
        "",
        "| data | labels from | recipe | k found / types | ACC | NMI | ARI | macro-F1 | s | peak MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for data in datasets:
        for recipe in RECIPES:
            own = [row for row in rows if (row["data"], row["recipe"], row["k"]) == (data.name, recipe, k)]
            lines.append(
                f"| {data.name} | {data.labels} | {recipe} | {np.mean([row['n_clusters'] for row in own]):.1f} / "
                f"{own[0]['n_types']} | "
                + " | ".join(spread(own, name) for name in ("accuracy", "nmi", "ari", "macro_f1"))
                + f" | {np.mean([row['seconds'] for row in own]):.1f} | {max(row['peak_mb'] for row in own):.0f} |"
            )
    for recipe in RECIPES:
        mean = means(rows, recipe, k)
        lines.append(
            f"| **mean** | | {recipe} | | "
            + " | ".join(f"{mean[name]:.3f}" for name in ("accuracy", "nmi", "ari", "macro_f1"))
            + " | | |"
        )
    return [*lines, ""]


def spread(rows: list[dict], name: str) -> str:
    values = [row[name] for row in rows]
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


def means(rows: list[dict], recipe: str, k: str) -> dict[str, float]:
    """Mean over seeds, then over data sets."""
    own = [row for row in rows if row["recipe"] == recipe and row["k"] == k]
    names = sorted({row["data"] for row in own})
    return {
        metric: float(np.mean([np.mean([row[metric] for row in own if row["data"] == name]) for name in names]))
        for metric in ("accuracy", "nmi", "ari", "macro_f1")
    }


def missed_bars(rows: list[dict]) -> list[str]:
    """Compare the means with the bars; a bar that is missed is a line."""
    given, estimated = means(rows, "fused", "given"), means(rows, "fused", "estimated")
    bare = means(rows, "fused without text", "given")
    missed = [f"{name} {given[name]:.3f} < {bar}" for name, bar in BARS.items() if given[name] < bar]
    overall = np.mean([estimated[name] for name in BARS])
    if overall < BAR_ESTIMATED:
        missed.append(f"k estimated: mean of the three {overall:.3f} < {BAR_ESTIMATED}")
    difference = np.mean([given[name] - bare[name] for name in BARS])
    if difference < BAR_TEXT:
        missed.append(f"with text minus without: {difference:.3f} < {BAR_TEXT}")
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("results"))
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    datasets = [data for data in load_datasets() if data.study]
    with tempfile.TemporaryDirectory() as home:
        stores = build_stores(Path(home))
        jobs = [(data, recipe, stores[data.taxon]) for data in datasets for recipe in RECIPES]
        with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
            rows = [row for part in pool.imap(run_one, jobs) for row in part]
    (output / "clustering.json").write_text(json.dumps(rows, indent=1))
    lines = ["# Clustering", "", *table(rows, "given", datasets), *table(rows, "estimated", datasets)]
    missed = missed_bars(rows)
    lines += ["Bars missed: " + ("; ".join(missed) or "none")]
    (output / "clustering.md").write_text("\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
