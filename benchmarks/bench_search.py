"""Cells found by the names of their types: text alone, with the markers of the type meant, controls; search.{json,md}.

    python benchmarks/bench_search.py --output results [--home HOME] [--encoders lsa-256,minilm]

The query is the name in `type_names.toml` that stands first for a label, alone or with its definition; the cells of
that label are to be ranked above all others. Labels are read for scoring. Exits with 1 where a bar is missed.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from bench_annotate import TruthOfSet, dealt, known_cells, named_sets, open_stores, with_random_vectors
from sklearn.metrics import average_precision_score

import genekb
from cellmodel.annotate.cell_types import (
    cell_scores,
    marker_weights,
    read_cell_types,
    text_weights,
    type_nearness,
    widened_weights,
)
from cellmodel.core.config import RunConfig
from cellmodel.pp.features import make_features
from cellmodel.pp.neighbors import smooth

N_DEALS = 20
BAR, TIMES = 0.55, 3.0
COLUMNS = ("text", "text and types", "text and types, genes permuted", "text, random vectors")


def search_set(truth: TruthOfSet, store: genekb.Store, encoder: str) -> list[dict[str, Any]]:
    """Score all columns by mean average precision on one set, for names and for names with definitions."""
    types = {one.name: one for one in read_cell_types()}
    known = known_cells(truth, store, encoder)
    queried = {label: types[right[0]] for label, right in truth.right.items() if right}
    opened = store.encoder(encoder)
    names, texts = (
        np.asarray(opened.encode(each).vectors, dtype=np.float64)
        for each in ([one.name for one in types.values()], [one.text for one in types.values()])
    )
    graph = make_features(truth.cells, RunConfig()).graph
    markers = marker_weights(list(types.values()), known.alignment.gene_ids, store)[0]
    rows = []
    for kind, vectors in (("name", names), ("name and definition", texts)):
        queries = vectors[[list(types).index(one.name) for one in queried.values()]]

        def weigh(alignment: Any, queries: np.ndarray = queries) -> sp.csr_matrix:
            return text_weights(queries, alignment.vectors, has_vector=alignment.has_vector, centre=texts.mean(axis=0))

        text = weigh(known.alignment)
        both = widened_weights(text, markers, type_nearness(queries, names, texts))
        weights = {
            "text": [text],
            "text and types": [both],
            "text and types, genes permuted": [dealt(both, deal) for deal in range(N_DEALS)],
            "text, random vectors": [weigh(with_random_vectors(known).alignment)],
        }
        precision = {
            what: float(np.mean([_precision(one, truth, known.expression, graph, list(queried)) for one in each]))
            for what, each in weights.items()
        }
        rows.append({"data": truth.data.name, "encoder": encoder, "query": kind, "columns": precision})
    return rows


def _precision(
    weights: sp.csr_matrix, truth: TruthOfSet, expression: sp.csr_matrix, graph: sp.csr_matrix, labels: Sequence[str]
) -> float:
    """Average the precision of each query, and these over the queries."""
    scores = smooth(cell_scores(expression, weights), graph)
    return float(
        np.mean([average_precision_score(truth.labels == label, scores[:, row]) for row, label in enumerate(labels)])
    )


def report(rows: Sequence[dict[str, Any]], seconds: float) -> tuple[str, list[str]]:
    """Write everything as one page; and the bars, one line each."""
    lines, bars = [], []
    for encoder, kind in dict.fromkeys((row["encoder"], row["query"]) for row in rows):
        chosen = [row for row in rows if (row["encoder"], row["query"]) == (encoder, kind)]
        lines += [f"## {encoder}, query: {kind}", "", "| data | " + " | ".join(COLUMNS) + " |"]
        lines.append("|" + " --- |" * (1 + len(COLUMNS)))
        mean = {what: float(np.mean([row["columns"][what] for row in chosen])) for what in COLUMNS}
        for name, columns in [*((row["data"], row["columns"]) for row in chosen), ("mean", mean)]:
            lines.append(f"| {name} | " + " | ".join(f"{columns[what]:.3f}" for what in COLUMNS) + " |")
        found, permuted = mean["text and types"], mean["text and types, genes permuted"]
        said = "ok" if found >= BAR else "MISSED"
        bars.append(f"- {said}: {encoder}, {kind}, mean average precision {found:.3f}, bar {BAR:.2f}")
        said = "ok" if found >= TIMES * permuted else "MISSED"
        bars.append(f"- {said}: {encoder}, {kind}, {found / permuted:.2f} times permuted, bar {TIMES:.1f}")
        lines.append("")
    lines += ["## Bars", "", *bars, "", f"{seconds:.0f} s"]
    return "\n".join(lines) + "\n", bars


def main() -> int:
    """Run everything and compare with the bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("results"))
    parser.add_argument("--home", type=Path)
    parser.add_argument("--encoders", default="lsa-256,minilm")
    options = parser.parse_args()
    started, encoders = time.perf_counter(), options.encoders.split(",")
    stores = open_stores(options.home or options.output / "home", encoders)
    rows = [
        row for truth in named_sets() for one in encoders for row in search_set(truth, stores[truth.data.taxon], one)
    ]
    page, bars = report(rows, time.perf_counter() - started)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "search.json").write_text(json.dumps(rows, indent=1) + "\n")
    (options.output / "search.md").write_text(page)
    sys.stdout.write(page)
    return int(any("MISSED" in line for line in bars))


if __name__ == "__main__":
    sys.exit(main())
