"""Clusters of every recipe, k given, beside `fused`: recipes of papers at their last epoch with the head of the paper.

    python -m benchmarks.quality.clusters.recipes --output results --home HOME [--seeds 1] [--most-cells 1000]

HOME has stores of human and mouse. Sets as in ``defaults.py``. `@shuffled` permutes the texts among the genes.
Seconds are processor time on one thread. Rows are kept in ``clustering_rows.json`` of the output: a run that was cut
goes on.
"""

import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

import genekb
from benchmarks.lib.protocol import (
    LISTINGS,
    TAXA,
    DataSet,
    KeptRows,
    build_stores,
    command_line,
    compared,
    finish,
    load_datasets,
    markdown,
    read,
)
from cellmodel.bench.metrics import score
from cellmodel.core.config import RunConfig
from cellmodel.io.cells import Cells
from cellmodel.recipes.registry import find_recipe
from cellmodel.tl._run import run

FUSED = "fused"
VARIANTS = (
    FUSED, "pca-kmeans", "scllm-dsc", "scllm-dsc@shuffled", "scsiameseclu", "scrcl", "lowsample", "genept-w",
    "genept-w@shuffled",
)  # fmt: skip
Row = dict[str, Any]


def measure(cells: Cells, truth: np.ndarray, variant: str, store: genekb.Store | None, seed: int) -> Row:
    """Score a recipe; nothing of one that needs texts where there is no store of the species."""
    recipe, _, knowledge = variant.partition("@")
    uses_text = recipe != FUSED and find_recipe(recipe).uses_text
    if uses_text and store is None:
        return {}
    config = RunConfig(
        recipe=recipe, knowledge=(knowledge or "real") if uses_text else "none", n_clusters=len(np.unique(truth)),
        n_words=0, seed=seed,
    )  # fmt: skip
    started = time.process_time()
    labels = run(cells, store if uses_text else None, config).labels
    seconds = time.process_time() - started
    found = score(truth.tolist(), labels.tolist())
    return {"mean": found.mean, "ari": found.ari, "macro_f1": found.macro_f1, "seconds": round(seconds, 2)}


def table(rows: Mapping[str, Row]) -> list[str]:
    """Lay out means, and differences from `fused` over the sets that a recipe ran on."""
    body = []
    for variant in VARIANTS:
        own = {key.replace(f"|{variant}|", "|"): row for key, row in rows.items() if f"|{variant}|" in key and row}
        ours = {key: rows[key.replace("|", f"|{FUSED}|", 1)] for key in own}
        means = [float(np.mean([row[name] for row in own.values()])) for name in ("mean", "ari", "macro_f1", "seconds")]
        pairs = ({key: row["mean"] for key, row in each.items()} for each in (own, ours))
        difference, n_higher, p = compared(*pairs) if variant != FUSED else (0.0, 0, float("nan"))
        body.append((variant, len(own), *means, difference, n_higher, p))
    names = ("recipe", "runs", "mean", "ARI", "macro-F1", "s", "minus fused", "higher on", "Wilcoxon p")
    return markdown(names, body)


def measured(data: DataSet, variant: str, stores: Mapping[str, genekb.Store], seed: int) -> Row:
    return measure(*read(data), variant, stores.get(data.taxon), seed)


def main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--most-cells", type=int, default=1_000, help="Larger sets are left out.")
    options = parser.parse_args()
    names = build_stores(options.output / "home") if options.home is None else TAXA
    stores = {taxon: genekb.open(str(name), home=options.home) for taxon, name in zip(TAXA, names, strict=True)}
    sets = [data for data in load_datasets(*LISTINGS) if read(data)[0].shape[0] <= options.most_cells]
    rows = KeptRows(options.output / "clustering_rows.json")
    for seed in range(options.seeds):
        for data in sets:
            for variant in VARIANTS:
                rows.add(f"{data.name}|{variant}|{seed}", partial(measured, data, variant, stores, seed))
    return finish(options.output, "clustering", rows, lines=["# Recipes", "", *table(rows)])


if __name__ == "__main__":
    sys.exit(main())
