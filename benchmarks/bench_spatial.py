"""Spots with coordinates: `scrcl` and `fused` with and without them, beside the baselines; k given and estimated.

    python benchmarks/bench_spatial.py --output results [--store FOLDER] [--n-seeds 5]

Writes spatial.json and spatial.md. The labels are read for scoring alone, and for the number of clusters where it is
given.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from protocol import SEEDS, data_folder

import genekb
from cellmodel.bench.metrics import score
from cellmodel.cluster.algorithms import order_by_size, smooth_by_majority
from cellmodel.core.config import RunConfig, SpatialConfig
from cellmodel.io.cells import Cells, read_cells, read_obs_columns
from cellmodel.pp.spatial import nearest_by_coordinates
from cellmodel.recipes.registry import find_recipe
from cellmodel.tl._run import prepare

DATA_SETS = ("dlpfc_151673", "her2st_H1", "her2st_B1")
SPATIAL = SpatialConfig(smooth_labels=True)
METRICS = ("accuracy", "nmi", "ari", "macro_f1", "n_clusters", "seconds")
Row = dict[str, str | int | float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A recipe, whether it is given the coordinates, and whether labels are also smoothed at the end."""

    recipe: str
    is_spatial: bool = False
    with_smoothed: bool = False


VARIANTS = (
    Variant(recipe="scrcl"),
    Variant(recipe="scrcl", is_spatial=True, with_smoothed=True),
    Variant(recipe="scrcl-text", is_spatial=True),
    Variant(recipe="pca-kmeans"),
    Variant(recipe="pca-leiden"),
    Variant(recipe="fused"),
    Variant(recipe="fused", is_spatial=True, with_smoothed=True),
)


def build_store(home: Path) -> Path:
    """Build a store of human genes with an encoder that needs no weights."""
    source = genekb.read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=["human"])
    return genekb.build(
        source, genekb.BuildConfig(name="human", models=("lsa-256",), genes="protein-coding"), home=home
    ).folder


def score_variant(
    variant: Variant, cells: Cells, kb: genekb.Store, *, types: Sequence[str], seed: int
) -> Iterator[Row]:
    """Represent the cells once, cut them with k given and estimated, and score, as they are and smoothed."""
    config = RunConfig(recipe=variant.recipe, seed=seed, spatial=SPATIAL if variant.is_spatial else None)
    recipe = find_recipe(variant.recipe)
    started = time.perf_counter()
    prepared = prepare(cells, kb if recipe.uses_text else None, config if recipe.uses_text else without_text(config))
    representation = recipe.represent(prepared.views, seed)
    spent = time.perf_counter() - started
    for way, n_clusters in (("given", len(set(types))), ("estimated", None)):
        started = time.perf_counter()
        labels = order_by_size(recipe.head(representation, prepared.views, n_clusters, seed).labels)
        name = f"{variant.recipe}{' --spatial' if variant.is_spatial else ''}"
        seconds = spent + time.perf_counter() - started
        yield scored(labels, types, recipe=name, k=way, seed=seed, seconds=seconds)
        if variant.with_smoothed and prepared.features.coordinates is not None:
            n_voters = SPATIAL.limited_to(n_cells=len(labels)).n_voters
            labels = smooth_by_majority(
                labels, nearest_by_coordinates(prepared.features.coordinates, n_neighbors=n_voters)
            )
            yield scored(labels, types, recipe=f"{name} --smooth-labels", k=way, seed=seed, seconds=seconds)


def without_text(config: RunConfig) -> RunConfig:
    return RunConfig(recipe=config.recipe, seed=config.seed, spatial=config.spatial, knowledge="none")


def scored(labels: np.ndarray, types: Sequence[str], **about: str | int | float) -> Row:
    found = score(types, labels.tolist())
    values = {name: getattr(found, name) for name in METRICS if name != "seconds"}
    return {**about, **values}


def table(rows: Sequence[Row]) -> str:
    """Mean ± standard deviation over the seeds, a table for each data set and way to get k."""
    lines = ["# Spatial data", ""]
    for data, k in dict.fromkeys((row["data"], row["k"]) for row in rows):
        part = [row for row in rows if row["data"] == data and row["k"] == k]
        lines += [f"## {data}, k {k}", "", "| recipe | ACC | NMI | ARI | macro-F1 | clusters | seconds |"]
        lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
        for recipe in dict.fromkeys(row["recipe"] for row in part):
            cells = [spread([float(row[name]) for row in part if row["recipe"] == recipe], name) for name in METRICS]
            lines.append(f"| `{recipe}` | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def spread(values: Sequence[float], name: str) -> str:
    digits = 1 if name in {"n_clusters", "seconds"} else 3
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("results"))
    parser.add_argument("--store", type=Path, help="Folder of a store of human genes; built if left out.")
    parser.add_argument("--n-seeds", type=int, default=len(SEEDS))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    kb = genekb.open(options.store or build_store(options.output / "home"))
    rows: list[Row] = []
    for data in DATA_SETS:
        path = data_folder() / "spatial" / f"{data}.h5ad"
        cells, types = read_cells(path), read_obs_columns(path, ["cell_type"])["cell_type"]
        for seed in SEEDS[: options.n_seeds]:
            for variant in VARIANTS:
                rows += [{"data": data, **row} for row in score_variant(variant, cells, kb, types=types, seed=seed)]
                (options.output / "spatial.json").write_text(json.dumps(rows, indent=1) + "\n")
    (options.output / "spatial.md").write_text(table(rows))
    sys.stdout.write(table(rows))


if __name__ == "__main__":
    main()
