"""All recipes on the nine study sets and the other sets of counts: `cellmodel bench` with stores of both species; bars.

    python benchmarks/bench_clustering.py --output results [--jobs 2] [--parts study,controls,others]

A run that was cut short goes on where it was. Exits with 1 where a bar is missed.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from protocol import SEEDS, data_folder, load_datasets

from cellmodel.bench.jobs import BenchConfig, DataSet
from cellmodel.bench.runner import BenchResult, run_bench
from cellmodel.recipes.registry import find_recipe

MAIN = (
    "fused",
    "fused@none",
    "pca-kmeans",
    "pca-kmeans+micro-ward",
    "pca-leiden",
    "scllm-dsc",
    "scllm-dsc+micro-ward",
    "scsiameseclu",
    "scsiameseclu+micro-ward",
    "scrcl",
    "scrcl+micro-ward",
    "scrcl-text",
    "scrcl-text+micro-ward",
    "lowsample",
    "lowsample+micro-ward",
    "genept-w",
    "genept-s",
)
TEXT_DRIVEN = ("fused", "scllm-dsc", "scrcl-text", "lowsample", "genept-w", "genept-s")
CONTROLS = (
    *(f"{recipe}@{kind}" for recipe in TEXT_DRIVEN for kind in ("real", "shuffled", "random")),
    *(f"{recipe}@none" for recipe in TEXT_DRIVEN if not find_recipe(recipe).needs_text),
)
REPRODUCTIONS = ("scllm-dsc", "scsiameseclu", "scrcl")
BAR_GIVEN, BAR_ESTIMATED, BAR_TEXT, BAR_LEIDEN = 0.80, 0.77, -0.01, -0.02


def build_stores(home: Path) -> tuple[Path, ...]:
    """Build a store of each species with an encoder that needs no weights."""
    from genekb import BuildConfig, build, read_ncbi_folder

    folders = []
    for taxon in ("human", "mouse"):
        source = read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=[taxon])
        config = BuildConfig(name=taxon, models=("lsa-256",), genes="protein-coding")
        folders.append(build(source, config, home=home).folder)
    return tuple(folders)


def by_data(found: BenchResult, recipe: str, k: str) -> dict[str, float]:
    """Mean of ACC, NMI and ARI by data set, over the seeds."""
    values: dict[str, list[float]] = {}
    for row in found.rows:
        if row["recipe"] == recipe and row["k"] == k:
            values.setdefault(row["data"], []).append(row["mean"])
    return {name: float(np.mean(each)) for name, each in values.items()}


def bars(found: BenchResult) -> list[str]:
    """Compare with the bars; one line each."""

    def mean(recipe: str, k: str = "given") -> float:
        return float(np.mean(list(by_data(found, recipe, k).values())))

    given, leiden = (by_data(found, recipe, "given") for recipe in ("fused", "pca-leiden"))
    lines = [
        line("fused, k given", mean("fused"), BAR_GIVEN),
        line("fused, k estimated", mean("fused", "estimated"), BAR_ESTIMATED),
        line("fused with text minus without", mean("fused") - mean("fused@none"), BAR_TEXT),
    ]
    lines += [line(f"fused minus pca-leiden on {name}", given[name] - leiden[name], BAR_LEIDEN) for name in given]
    lines += [line(f"{name} minus pca-kmeans", mean(name) - mean("pca-kmeans"), 0.0) for name in REPRODUCTIONS]
    return lines


def line(what: str, value: float, bar: float) -> str:
    return f"- {'ok' if value >= bar else 'MISSED'}: {what} {value:+.3f}, at least {bar:+.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("results"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--parts", default="study,controls,others", help="Some of study, controls, others.")
    options = parser.parse_args()
    stores = build_stores(options.output / "home")
    failures, missed = [], False
    for part in options.parts.split(","):
        datasets = [
            DataSet(name=one.name, path=one.path, label_key=one.label_key, origin=one.labels)
            for one in load_datasets()
            if one.study is (part != "others")
        ]
        config = BenchConfig(
            variants=CONTROLS if part == "controls" else MAIN,
            output=options.output / part,
            seeds=SEEDS,
            stores=stores,
            n_clusters=("given",) if part == "controls" else ("given", "estimated"),
            with_oracle=part == "study",
            n_processes=options.jobs,
        )
        found = run_bench(datasets, config)
        sys.stdout.write((config.output / "results.md").read_text())
        failures += found.failures
        if part == "study":
            lines = bars(found)
            missed = any("MISSED" in one for one in lines)
            sys.stdout.write("\n".join(["## Bars", "", *lines, ""]))
            (config.output / "bars.md").write_text("\n".join(lines) + "\n")
    sys.exit(1 if failures or missed else 0)


if __name__ == "__main__":
    main()
