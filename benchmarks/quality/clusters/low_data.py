"""Few and shallow cells: what weighing genes by how informative they are gives, by the data, by texts, by controls.

    python -m benchmarks.quality.clusters.low_data --output results

Regimes: 120 cells, 300 UMI a cell, both; drawn from the nine study sets with fixed seeds. The adapter never saw the set
that it is used on, and in the rows "genes unseen" none of its genes either. Scores: share of a cell's 15 (or 5) nearest
cells by cosine on the components that are of its type, and the mean of ACC, NMI and ARI of k-means and of Ward on
micro-clusters with k given. Labels are read for these alone. The row "perfect" is what components would reach that rank
all cells of a type first. Below the table: how far draws of one set differ, and paired tests over the sets. Exits with
1 where a bar is missed.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.stats import wilcoxon

import genekb
from benchmarks.lib.protocol import build_stores, load_datasets
from benchmarks.lib.train_adapter import Lesson, by_symbol, learn, read_lesson
from cellmodel.bench.metrics import score
from cellmodel.cluster.algorithms import kmeans
from cellmodel.core.config import GraphConfig
from cellmodel.explain.attribution import neighbour_agreement
from cellmodel.io.cells import read_cells, read_obs_columns
from cellmodel.pp.features import LOW_DATA_COMPONENTS
from cellmodel.pp.gene_weights import information_weights, own_informativeness
from cellmodel.pp.normalize import detected_genes, highly_variable, normalise_log1p, principal_components

FEW_AND_SHALLOW = "120 cells x 300 UMI"
REGIMES = {FEW_AND_SHALLOW: (120, 300), "120 cells": (120, None), "300 UMI": (None, 300)}
N_DRAWS = 5
MOST_CELLS = 1500
NEIGHBORS = (15, 5)
SHIPPED, FULL = "own + text", "30 components"
RIVALS = (
    "none",
    "10 components",
    "own",
    "own + shuffled",
    "own + random",
    "own + text, genes unseen",
    "own + by symbol",
)
BAR_PURITY = 0.71


def thin(counts: sp.csr_matrix, n_umi: int, rng: np.random.Generator) -> sp.csr_matrix:
    """Draw so many molecules of each cell without replacement; a cell that has fewer keeps them all."""
    counts = counts.copy()
    for start, end in zip(counts.indptr[:-1], counts.indptr[1:], strict=True):
        values = np.round(counts.data[start:end]).astype(np.int64)
        if values.sum() > n_umi:
            counts.data[start:end] = rng.multivariate_hypergeometric(values, n_umi, method="marginals")
    counts.eliminate_zeros()
    return counts


def scores_of_genes(own: np.ndarray, expected: dict[str, np.ndarray], draw: int) -> dict[str, np.ndarray]:
    """Give every way to say how informative each gene is; ``expected`` holds what other data sets lead to expect."""
    rng = np.random.default_rng(1000 + draw)
    text = expected["text"]
    having = text != 0
    shuffled = text.copy()
    shuffled[having] = rng.permutation(text[having])
    told = {**expected, "shuffled": shuffled, "random": np.where(having, rng.standard_normal(len(having)), 0.0)}
    return {"own": own, **{f"own + {name}": own + each for name, each in told.items()}, **told}


def represent(expression: sp.csr_matrix, expected: dict[str, np.ndarray], draw: int) -> dict[str, np.ndarray]:
    """Components of the cells under every way to weigh genes."""
    pcs = principal_components(expression, seed=draw)
    own = own_informativeness(expression, pcs)
    found = {"none": pcs, "10 components": pcs[:, :LOW_DATA_COMPONENTS]}
    for way, each in scores_of_genes(own, expected, draw).items():
        weighted = (expression @ sp.diags(information_weights(each, None))).tocsr()
        components = principal_components(weighted, seed=draw)
        found[way] = components[:, :LOW_DATA_COMPONENTS]
        if way in {"own", SHIPPED}:
            found[f"{way}, {FULL}"] = components
    return found


def measure(pcs: np.ndarray, labels: np.ndarray, draw: int) -> dict[str, float]:
    n_types = len(np.unique(labels))
    found = {f"purity {k}": neighbour_agreement(pcs, labels, graph=GraphConfig(n_neighbors=k)) for k in NEIGHBORS}
    found["k-means"] = score(labels.tolist(), kmeans(pcs, n_clusters=n_types, seed=draw).tolist()).mean
    return found


def ceilings(labels: np.ndarray) -> dict[str, float]:
    """Purity of components that rank all cells of a cell's own type before the others."""
    others = np.bincount(labels)[labels] - 1
    return {f"purity {k}": float(np.minimum(others / min(k, len(labels) - 1), 1).mean()) for k in NEIGHBORS}


def expectations(names: tuple[str, ...], kb: genekb.Store, others: list[Lesson]) -> dict[str, np.ndarray]:
    """How informative each gene should be after what the other data sets taught: by its text, or by its symbol."""
    texts, symbols = kb.texts(kb.resolve(names).gene_ids), [name.upper() for name in names]
    return {
        "text": learn(others)(texts),
        "text, genes unseen": learn(others, without=frozenset(symbols))(texts),
        "by symbol": by_symbol(others, symbols),
    }


def run(data, kb: genekb.Store, others: list[Lesson]) -> list[dict]:
    rows = []
    cells = read_cells(data.path)
    labels = np.unique(read_obs_columns(data.path, (data.label_key,))[data.label_key], return_inverse=True)[1]
    expected = expectations(cells.names, kb, others)
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
            where = {"data": data.name, "regime": regime, "draw": draw}
            rows.append({**where, "way": "perfect", **ceilings(labels[chosen])})
            of_top = {name: each[top] for name, each in expected.items()}
            for way, pcs in represent(expression[:, top], of_top, draw).items():
                rows.append({**where, "way": way, **measure(pcs, labels[chosen], draw)})
    return rows


def by_set(rows: list[dict], regime: str, way: str, measured: str) -> np.ndarray:
    """Mean over draws, one value a data set."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["regime"] == regime and row["way"] == way and measured in row:
            found.setdefault(row["data"], []).append(row[measured])
    return np.array([np.mean(each) for each in found.values()])


def table(rows: list[dict], measures: list[str]) -> list[str]:
    ways = [way for way in dict.fromkeys(row["way"] for row in rows) if way != "perfect"] + ["perfect"]
    lines = [
        "| regime | genes weighted by | " + " | ".join(measures) + " |",
        "| --- | --- |" + " --- |" * len(measures),
    ]
    for regime in REGIMES:
        for way in ways:
            means = [by_set(rows, regime, way, each) for each in measures]
            lines.append(
                f"| {regime} | {way} | " + " | ".join(f"{m.mean():.3f}" if len(m) else "" for m in means) + " |"
            )
    return lines


def paired(rows: list[dict], measures: list[str]) -> list[str]:
    """Differences of what is shipped from each rival over the data sets, with Wilcoxon's signed-rank test."""
    lines = [
        "| own + text minus | regime | measure | difference | sets above | p |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for rival in RIVALS:
        for regime in REGIMES:
            for each in measures:
                gaps = by_set(rows, regime, SHIPPED, each) - by_set(rows, regime, rival, each)
                p = wilcoxon(gaps).pvalue if gaps.any() else 1.0
                above = f"{int((gaps > 0).sum())} of {len(gaps)}"
                lines.append(f"| {rival} | {regime} | {each} | {gaps.mean():+.3f} | {above} | {p:.3f} |")
    return lines


def spread(rows: list[dict]) -> str:
    """How far the draws of one data set differ, where cells are few and shallow."""
    draws: dict[str, list[float]] = {}
    for row in rows:
        if row["regime"] == FEW_AND_SHALLOW and row["way"] == SHIPPED:
            draws.setdefault(row["data"], []).append(row["purity 15"])
    deviations = [float(np.std(each)) for each in draws.values()]
    return f"Draws of one set differ in purity 15 by {min(deviations):.3f} to {max(deviations):.3f} (sd)."


def bars(rows: list[dict]) -> list[str]:
    lines = []
    for each in ("purity 15", "purity 5"):
        value = by_set(rows, FEW_AND_SHALLOW, SHIPPED, each).mean()
        lines.append(f"- {'ok' if value >= BAR_PURITY else 'MISSED'}: {each} {value:.3f}, at least {BAR_PURITY:.2f}")
    for rival in ("none", "10 components", "own + shuffled", "own + random"):
        gap = (
            by_set(rows, FEW_AND_SHALLOW, SHIPPED, "purity 15") - by_set(rows, FEW_AND_SHALLOW, rival, "purity 15")
        ).mean()
        lines.append(f"- {'ok' if gap > 0 else 'MISSED'}: purity 15 above {rival} by {gap:+.3f}")
    return lines


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
    measures = [*(f"purity {k}" for k in NEIGHBORS), "k-means"]
    verdicts = bars(rows)
    parts = (table(rows, measures), [spread(rows)], paired(rows, measures), verdicts)
    written = "\n\n".join("\n".join(part) for part in parts) + "\n"
    (output / "low_data.json").write_text(json.dumps(rows, indent=1))
    (output / "low_data.md").write_text(written)
    sys.stdout.write(written)
    sys.exit(1 if any("MISSED" in line for line in verdicts) else 0)


if __name__ == "__main__":
    main()
