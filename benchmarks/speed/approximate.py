"""What the short cuts for many cells cost: recall of the nearest cells, and agreement of sampled with whole clusters.

    python -m benchmarks.speed.approximate --output results [--sizes 30000,100000] [--whole-up-to 50000]

On synthetic cells (see synthetic.py): recall and seconds of the kNN search by inverted lists; then, up to a size at
which the whole can be waited for, the ARI between clusters made with the short cut, Leiden on micro-clusters, and
without it. The ARI of two seeds without it stands beside: that much would differ anyway.
The last columns are against the types of the source cells. Writes ``approximate.json`` and ``approximate.md``.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score

from benchmarks.lib.protocol import load_datasets
from benchmarks.lib.synthetic import synthetic_cells
from cellmodel.cluster.algorithms import CoarseConfig, coarse_leiden
from cellmodel.core.arrays import CellGraph, Embedding
from cellmodel.core.config import RESOLUTION, GraphConfig
from cellmodel.pp.neighbors import knn_graph, knn_recall, snn_weights
from cellmodel.pp.normalize import normalise_log1p, principal_components

N_COMPONENTS = 50
SHORT, WHOLE = {"whole_up_to": 1}, {"whole_up_to": 10**9}


def components(source: str, n_cells: int) -> tuple[Embedding, np.ndarray]:
    """Principal components of synthetic cells, and the types of their source cells."""
    chosen = {one.name: one for one in load_datasets()}[source]
    adata = ad.read_h5ad(chosen.path)
    blocks = list(synthetic_cells(sp.csr_matrix(adata.X, dtype=np.float32), n_cells=n_cells, seed=0))
    counts = sp.vstack([cells for cells, *_ in blocks], format="csr")
    types = adata.obs[chosen.label_key].astype(str).to_numpy()[np.concatenate([rows for _, rows, _ in blocks])]
    return principal_components(normalise_log1p(counts), n_components=N_COMPONENTS, seed=0), types


def search_row(pcs: Embedding) -> tuple[dict[str, object], CellGraph]:
    """Recall and time of the approximate search."""
    started = time.process_time()
    knn = knn_graph(pcs, config=GraphConfig(exact_up_to=1))
    seconds = time.process_time() - started
    recall = knn_recall(pcs, knn, metric="cosine")
    return {"cells": len(pcs), "what": "kNN", "processor_s": round(seconds, 1), "recall": round(recall, 4)}, knn


def agreement_rows(pcs: Embedding, types: np.ndarray, graph: CellGraph) -> Iterator[dict[str, object]]:
    """Agreement of the short cut with the whole, and of the whole with itself."""
    found, seconds = {}, {}
    for name, seed, limit in (("short", 0, SHORT), ("whole", 0, WHOLE), ("again", 1, WHOLE)):
        started, config = time.process_time(), CoarseConfig(**limit)
        found[name] = coarse_leiden(graph, pcs, resolution=RESOLUTION, seed=seed, config=config)
        seconds[name] = time.process_time() - started
    yield {
        "cells": len(pcs),
        "what": "leiden",
        "processor_s": round(seconds["short"], 1),
        "whole_processor_s": round(seconds["whole"], 1),
        "ari_short_whole": round(adjusted_rand_score(found["short"], found["whole"]), 3),
        "ari_whole_other_seed": round(adjusted_rand_score(found["whole"], found["again"]), 3),
        **{f"ari_types_{name}": round(adjusted_rand_score(types, each), 3) for name, each in found.items()},
    }


def table(rows: list[dict[str, object]]) -> str:
    """Markdown: the columns of any row, one line a row."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "| --- " * len(names) + "|"]
    return (
        "\n".join(lines + ["| " + " | ".join(str(row.get(name, "")) for name in names) + " |" for row in rows]) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results"))
    parser.add_argument("--sizes", default="30000,100000,300000")
    parser.add_argument("--source", default="kang_ctrl_stim_12261", help="Data set that the cells are made of.")
    parser.add_argument("--whole-up-to", type=int, default=100_000, help="Cells up to which the whole is run as well.")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for n_cells in map(int, options.sizes.split(",")):
        pcs, types = components(options.source, n_cells)
        row, knn = search_row(pcs)
        rows.append(row)
        if n_cells <= options.whole_up_to:
            rows += agreement_rows(pcs, types, snn_weights(knn))
        (options.output / "approximate.json").write_text(json.dumps(rows, indent=1))
        (options.output / "approximate.md").write_text(table(rows))
    sys.stdout.write(table(rows))


if __name__ == "__main__":
    main()
