"""Few and shallow cells: what weighing genes by how informative they are gives, by the data, by texts, by controls.

    python benchmarks/bench_low_data.py --output results

Regimes: 120 cells, 300 UMI a cell, both; drawn from the nine study sets with fixed seeds. The adapter never saw the set
that it is used on. Scores: share of a cell's 15 (and 5) nearest cells by cosine on the components that are of its type,
and the mean of ACC, NMI and ARI of k-means and of Ward on micro-clusters with k given. Labels are read for these alone.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from bench_clustering import build_stores
from protocol import load_datasets
from train_adapter import Lesson, learn, read_lesson

import genekb
from cellmodel.cluster import kmeans, micro_ward
from cellmodel.features import LOW_DATA_COMPONENTS
from cellmodel.graph import GraphConfig
from cellmodel.informativeness import information_weights, own_informativeness
from cellmodel.io import read_cells, read_obs_columns
from cellmodel.metrics import score
from cellmodel.preprocess import detected_genes, highly_variable, normalise_log1p, principal_components
from cellmodel.text_evidence import neighbour_agreement

REGIMES = {"120 cells x 300 UMI": (120, 300), "120 cells": (120, None), "300 UMI": (None, 300)}
N_DRAWS = 3
MOST_CELLS = 1500
WAYS = ("none", "10 components", "own", "own + text", "own + shuffled", "own + random", "text", "shuffled", "random")


def thin(counts: sp.csr_matrix, n_umi: int, rng: np.random.Generator) -> sp.csr_matrix:
    """Draw so many molecules of each cell without replacement; a cell that has fewer keeps them all."""
    counts = counts.copy()
    for start, end in zip(counts.indptr[:-1], counts.indptr[1:], strict=True):
        values = np.round(counts.data[start:end]).astype(np.int64)
        if values.sum() > n_umi:
            counts.data[start:end] = rng.multivariate_hypergeometric(values, n_umi, method="marginals")
    counts.eliminate_zeros()
    return counts


def represent(expression: sp.csr_matrix, from_text: np.ndarray, draw: int) -> dict[str, np.ndarray]:
    """Components of the cells under every way to weigh genes."""
    pcs = principal_components(expression, seed=draw)
    own, nothing = own_informativeness(expression, pcs), np.zeros(expression.shape[1])
    rng = np.random.default_rng(1000 + draw)
    having = from_text != 0
    shuffled, random = from_text.copy(), np.where(having, rng.standard_normal(len(having)), 0.0)
    shuffled[having] = rng.permutation(from_text[having])
    scores = {
        "own": own,
        "own + text": own + from_text,
        "own + shuffled": own + shuffled,
        "own + random": own + random,
        "text": from_text,
        "shuffled": shuffled,
        "random": random,
        "10 components": nothing,
    }
    found = {"none": pcs}
    for way, each in scores.items():
        weighted = (expression @ sp.diags(information_weights(each, None))).tocsr()
        found[way] = principal_components(weighted, n_components=LOW_DATA_COMPONENTS, seed=draw)
    return found


def measure(pcs: np.ndarray, labels: np.ndarray, draw: int) -> dict[str, float]:
    n_types = len(np.unique(labels))
    found = {f"purity {k}": neighbour_agreement(pcs, labels, graph=GraphConfig(n_neighbors=k)) for k in (15, 5)}
    for name, cut in (("k-means", kmeans), ("micro-ward", micro_ward)):
        found[name] = score(labels.tolist(), cut(pcs, n_clusters=n_types, seed=draw).tolist()).mean
    return found


def run(data, kb: genekb.Store, others: list[Lesson]) -> list[dict]:
    adapter, rows = learn(others), []
    cells = read_cells(data.path)
    labels = np.unique(read_obs_columns(data.path, (data.label_key,))[data.label_key], return_inverse=True)[1]
    from_text = adapter(kb.texts(kb.resolve(cells.names).gene_ids))
    for regime, (n_cells, n_umi) in REGIMES.items():
        for draw in range(N_DRAWS if n_cells else 1):
            rng = np.random.default_rng(draw)
            wanted = min(n_cells or MOST_CELLS, len(labels))
            chosen = np.sort(rng.choice(len(labels), wanted, replace=False))
            counts = cells.matrix[chosen]
            counts = thin(counts, n_umi, rng) if n_umi else counts
            expression = normalise_log1p(counts)
            detected = np.flatnonzero(detected_genes(counts, min_cells=3))
            top = detected[highly_variable(expression[:, detected], n_top=2000)]
            for way, pcs in represent(expression[:, top], from_text[top], draw).items():
                scores = measure(pcs, labels[chosen], draw)
                rows.append({"data": data.name, "regime": regime, "draw": draw, "way": way, **scores})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("results"))
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    stores = {store.manifest.name: store for store in map(genekb.open, build_stores(output / "home"))}
    study = [data for data in load_datasets() if data.study]
    lessons = {data.name: read_lesson(data, stores[data.taxon]) for data in study}
    rows = []
    for data in study:
        rows += run(data, stores[data.taxon], [one for name, one in lessons.items() if name != data.name])
    measures = [name for name in rows[0] if name not in {"data", "regime", "draw", "way"}]
    lines = [
        "| regime | genes weighted by | " + " | ".join(measures) + " |",
        "| --- | --- |" + " --- |" * len(measures),
    ]
    for regime in REGIMES:
        for way in WAYS:
            own = [row for row in rows if row["regime"] == regime and row["way"] == way]
            by_set = {
                m: np.mean([np.mean([r[m] for r in own if r["data"] == d.name]) for d in study]) for m in measures
            }
            lines.append(f"| {regime} | {way} | " + " | ".join(f"{by_set[m]:.3f}" for m in measures) + " |")
    (output / "low_data.json").write_text(json.dumps(rows, indent=1))
    (output / "low_data.md").write_text("\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
