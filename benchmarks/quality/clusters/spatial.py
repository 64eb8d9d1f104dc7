"""Spots with coordinates: `scrcl` and `fused` with and without them, beside the baselines; k given or not; bars.

``averaged twice`` is the plain baseline: components averaged twice over six neighbors, then Leiden.

    python -m benchmarks.quality.clusters.spatial --output results [--home HOME] [--seeds 5]

The labels are read for scoring alone, and for the number of clusters where it is given. ``scrcl-text`` takes part where
there is a home with a store ``human``. Exits with 1 where a bar is missed.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

import genekb
from benchmarks.lib.protocol import SEEDS, bar_line, command_line, data_folder, finish, markdown, sections
from cellmodel.bench.metrics import score
from cellmodel.cluster.algorithms import order_by_size, smooth_by_majority
from cellmodel.core.config import RunConfig, SpatialConfig
from cellmodel.io.cells import Cells, read_cells, read_obs_columns, spatial_coordinates
from cellmodel.pp.neighbors import smooth
from cellmodel.pp.spatial import nearest_by_coordinates, spatial_graph
from cellmodel.recipes.registry import find_recipe
from cellmodel.tl._run.pipeline import prepare

DATA_SETS = ("dlpfc_151673", "dlpfc_151675", "her2st_H1", "her2st_B1")
BAR_ARI = 0.40  # mean over the sections, k given
BAR_LOSS = 0.05  # of a section, against the run without coordinates
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
    Variant(recipe="averaged twice", is_spatial=True),
    Variant(recipe="fused"),
    Variant(recipe="fused", is_spatial=True, with_smoothed=True),
)


def score_variant(
    variant: Variant, cells: Cells, kb: genekb.Store | None, *, types: Sequence[str], seed: int
) -> Iterator[Row]:
    """Represent the cells once, cut them with k given and estimated, and score, as they are and smoothed."""
    is_plain = variant.recipe == "averaged twice"
    recipe = find_recipe("pca-leiden" if is_plain else variant.recipe)
    config = RunConfig(
        recipe=recipe.name,
        seed=seed,
        spatial=SPATIAL if variant.is_spatial and not is_plain else None,
        knowledge="real" if recipe.needs_text else "none",
    )
    started = time.perf_counter()
    prepared = prepare(cells, kb if recipe.needs_text else None, config)
    representation = recipe.represent(prepared.views, seed)
    if is_plain:
        near = spatial_graph(spatial_coordinates(cells.adata, source=cells.source), n_neighbors=6)
        averaged = smooth(prepared.views.pcs, near, n_steps=2)
        representation = replace(representation, features=averaged)
    spent = time.perf_counter() - started
    for way, n_clusters in (("given", len(set(types))), ("estimated", None)):
        started = time.perf_counter()
        labels = order_by_size(recipe.head(representation, replace(prepared.views, n_clusters=n_clusters), seed))
        name = f"{variant.recipe}{' --spatial' if variant.is_spatial and not is_plain else ''}"
        seconds = spent + time.perf_counter() - started
        yield scored(labels, types, recipe=name, k=way, seed=seed, seconds=seconds)
        if variant.with_smoothed and prepared.features.coordinates is not None:
            n_voters = SPATIAL.voters_of(n_cells=len(labels))
            labels = smooth_by_majority(
                labels, nearest_by_coordinates(prepared.features.coordinates, n_neighbors=n_voters)
            )
            yield scored(labels, types, recipe=f"{name} --smooth-labels", k=way, seed=seed, seconds=seconds)


def scored(labels: np.ndarray, types: Sequence[str], **about: str | int | float) -> Row:
    found = score(types, labels.tolist())
    values = {name: getattr(found, name) for name in METRICS if name != "seconds"}
    return {**about, **values}


def spread(rows: Sequence[Row], name: str) -> str:
    """Mean and standard deviation over the seeds."""
    values, digits = [float(row[name]) for row in rows], 1 if name in {"n_clusters", "seconds"} else 3
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def tables(rows: Sequence[Row]) -> list[str]:
    """Lay out a table for each section and way to get k."""
    parts = {}
    for data, k in dict.fromkeys((row["data"], row["k"]) for row in rows):
        part = [row for row in rows if (row["data"], row["k"]) == (data, k)]
        of = {recipe: [row for row in part if row["recipe"] == recipe] for recipe in {row["recipe"]: 0 for row in part}}
        body = [[f"`{recipe}`", *(spread(found, name) for name in METRICS)] for recipe, found in of.items()]
        parts[f"{data}, k {k}"] = markdown(("recipe", *METRICS), body)
    return ["# Spatial data", "", *sections(parts)]


def mean_ari(rows: Sequence[Row], recipe: str, data: Sequence[str]) -> float:
    """Mean over sections of the ARI with k given."""
    given = [row for row in rows if row["recipe"] == recipe and row["k"] == "given"]
    return float(np.mean([np.mean([float(row["ari"]) for row in given if row["data"] == name]) for name in data]))


def bars(rows: Sequence[Row]) -> list[str]:
    """Compare with the bars; one line each."""
    found = mean_ari(rows, "fused --spatial", DATA_SETS)
    lines = [bar_line("mean ARI of four sections", found, BAR_ARI)]
    for name in DATA_SETS:
        gain = mean_ari(rows, "fused --spatial", [name]) - mean_ari(rows, "fused", [name])
        lines.append(bar_line(f"{name}, ARI by coordinates", gain, -BAR_LOSS))
    fewest = min(float(row["n_clusters"]) for row in rows if row["recipe"] == "fused --spatial")
    return [*lines, bar_line("fewest clusters of a section", fewest, 2)]


def main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    options = parser.parse_args()
    kb = None if options.home is None else genekb.open("human", home=options.home)
    rows: list[Row] = []
    for data in DATA_SETS:
        path = data_folder() / "spatial" / f"{data}.h5ad"
        cells, types = read_cells(path), read_obs_columns(path, ["cell_type"])["cell_type"]
        for seed in SEEDS[: options.seeds]:
            for variant in VARIANTS:
                if kb is not None or "text" not in variant.recipe:
                    rows += [{"data": data, **row} for row in score_variant(variant, cells, kb, types=types, seed=seed)]
    return finish(options.output, "spatial", rows, lines=tables(rows), bars=bars(rows))


if __name__ == "__main__":
    sys.exit(main())
