"""Cells found by words: by name, in plain plural words, by function; with controls; search.{json,md}.

    python -m benchmarks.quality.names.search --output results [--home HOME] [--encoders wcp]

Queries: the name in `type_names.toml` that stands first for a label, alone or with its definition; and, of
`search_queries.toml`, the plural of the everyday name and a description of what the cells do, written down before any
was scored. The cells of the label are to be ranked above all others. Sets are split in halves by a hash of their name:
the rule was chosen on half A, for which B is the report. Labels are read for scoring. Exits with 1 where a bar is
missed.
"""

import hashlib
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.metrics import average_precision_score

import genekb
from benchmarks.lib.protocol import bar_line, finish, load_datasets, markdown, sections
from benchmarks.quality.names.sets import (
    TruthOfSet,
    command_line_of_names,
    dealt,
    known_cells,
    more_sets,
    named_sets,
    open_stores,
    with_vectors,
)
from cellmodel.annotate.cell_types import (
    QueriedCells,
    cell_scores,
    cluster_profiles,
    gene_texts,
    read_cell_types,
    standard_profiles,
    text_weights,
)
from cellmodel.annotate.search.cells import heights_in_clusters
from cellmodel.annotate.search.queries import QueryReader
from cellmodel.core.config import RunConfig
from cellmodel.pp.features import make_features
from cellmodel.pp.neighbors import smooth
from genekb.query.knowledge import knowledge_vectors

N_DEALS, N_RANDOM, SIGNIFICANT = 3, 200, 0.05
QUERIES = Path(__file__).with_name("search_queries.toml")
TIMES = 3.0  # above permuted genes
BARS = {"name": 0.55, "name and definition": 0.55, "plural": 0.70, "function": 0.55}
CONTROLS = ("shuffled", "name", "random")
COLUMNS = ("text and types", "text", *(f"text, {one}" for one in CONTROLS), "text, symbol", "genes permuted")


@dataclass(frozen=True, kw_only=True, slots=True)
class Queries:
    """Queries of one kind, and which cells of a set each means."""

    kind: str
    texts: list[str]
    relevant: list[np.ndarray]


def queries_of(truth: TruthOfSet) -> list[Queries]:
    """All queries that have cells in a set."""
    types, plain = (
        {one.name: one for one in read_cell_types()},
        tomllib.loads(QUERIES.read_text()),
    )
    first = {label: types[right[0]] for label, right in truth.right.items() if right}
    of_label: Mapping[str, str] = plain["plain"][truth.data.name]
    plurals = list(dict.fromkeys(of_label.values()))
    named = [truth.labels == label for label in first]
    meant = [np.isin(truth.labels, [label for label, each in of_label.items() if each == one]) for one in plurals]
    return [
        Queries(kind="name", texts=[one.name for one in first.values()], relevant=named),
        Queries(kind="name and definition", texts=[one.text for one in first.values()], relevant=named),
        Queries(kind="plural", texts=plurals, relevant=meant),
        Queries(kind="function", texts=[plain["function"][one] for one in plurals], relevant=meant),
    ]


def half(name: str) -> str:
    """Half of the sets that a set is in."""
    return "AB"[int(hashlib.sha256(name.encode()).hexdigest(), 16) % 2]


def with_knowledge(known: QueriedCells, store: genekb.Store, encoder: str, knowledge: Any) -> QueriedCells:
    """Give the genes the vectors of a control."""
    found = knowledge_vectors(store, encoder, knowledge=knowledge, gene_ids=known.alignment.gene_ids)
    return with_vectors(known, found.gene_ids, found.vectors)


def by_symbol(known: QueriedCells, queries: Sequence[str]) -> sp.csr_matrix:
    """Weigh genes by the characters that their symbols and a query share."""
    hashed = HashingVectorizer(analyzer="char_wb", ngram_range=(1, 3), n_features=512, alternate_sign=False)
    symbols, texts, types = (
        np.asarray(hashed.transform(each).todense(), dtype=np.float64)
        for each in (known.gene_names, queries, [one.text for one in read_cell_types()])
    )
    everywhere = np.ones(len(symbols), dtype=bool)
    return text_weights(texts, gene_texts(symbols.astype(np.float32), has_vector=everywhere), center=types.mean(axis=0))


def search_set(truth: TruthOfSet, store: genekb.Store, encoder: str) -> list[dict[str, Any]]:
    """Score all columns by mean average precision on one set, for each kind of query; and how many stand out."""
    known = known_cells(truth, store, encoder)
    graph = make_features(truth.cells, RunConfig()).graph
    reader = QueryReader(known.alignment, store)
    controls = {
        one: QueryReader(with_knowledge(known, store, encoder, one).alignment, store, use_types=False)
        for one in CONTROLS
    }
    heights = heights_in_clusters(standard_profiles(cluster_profiles(known.expression, truth.clusters)))
    kinds, rows = queries_of(truth), []
    asked = {queries.kind: queries.texts for queries in kinds if queries.kind in {"plural", "function"}}
    asked["nonsense"] = tomllib.loads(QUERIES.read_text())["nonsense"]
    texts = [text for each in asked.values() for text in each]  # at once: random queries are drawn once for all
    p_values = dict(zip(texts, reader.p_values(texts, heights, n=N_RANDOM, seed=0).tolist(), strict=True))
    of_set = {"data": truth.data.name, "half": half(truth.data.name), "encoder": encoder}
    for queries in kinds:
        both = reader.weights(queries.texts)
        weights = {
            "text and types": [both],
            "text": [reader.text_weights(queries.texts)],
            **{f"text, {one}": [each.text_weights(queries.texts)] for one, each in controls.items()},
            "text, symbol": [by_symbol(known, queries.texts)],
            "genes permuted": [dealt(both, deal) for deal in range(N_DEALS)],
        }
        precision = _precisions(weights, queries.relevant, known.expression, graph)
        rows.append({**of_set, "query": queries.kind, "columns": precision})
    rows.append({**of_set, "query": "nonsense", "columns": {}})
    sys.stderr.write(f"{truth.data.name}, {encoder}\n")
    return [{**row, "p_values": {text: p_values[text] for text in asked.get(row["query"], ())}} for row in rows]


def _precisions(
    weights: Mapping[str, Sequence[sp.csr_matrix]],
    relevant: Sequence[np.ndarray],
    expression: sp.csr_matrix,
    graph: sp.csr_matrix,
) -> dict[str, float]:
    """Average the precision of each query, and these over the queries and the draws of a column."""
    every = [one for each in weights.values() for one in each]
    scores = smooth(cell_scores(expression, sp.csr_matrix(sp.vstack(every))), graph)
    of_draw = iter(
        np.mean(
            [average_precision_score(cells, scores[:, at * len(relevant) + row]) for row, cells in enumerate(relevant)]
        )
        for at in range(len(every))
    )
    return {what: float(np.mean([next(of_draw) for _ in each])) for what, each in weights.items()}


def report(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Lay out all tables; and the bars, one line each."""
    tables, bars = {}, []
    scored = [row for row in rows if row["columns"]]
    for encoder, kind in dict.fromkeys((row["encoder"], row["query"]) for row in scored):
        chosen = [row for row in scored if (row["encoder"], row["query"]) == (encoder, kind)]
        parts = {"mean of A": "A", "mean of B": "B", "mean": "AB"}
        means = {
            what: {c: float(np.mean([row["columns"][c] for row in chosen if row["half"] in halves])) for c in COLUMNS}
            for what, halves in parts.items()
            if any(row["half"] in halves for row in chosen)
        }
        of_sets = [(row["data"], row["half"], row["columns"]) for row in chosen]
        body = [
            (name, where, *(columns[what] for what in COLUMNS))
            for name, where, columns in [*of_sets, *((what, "", mean) for what, mean in means.items())]
        ]
        tables[f"{encoder}, query: {kind}"] = markdown(("data", "half", *COLUMNS), body)
        found, permuted = means["mean"]["text and types"], means["mean"]["genes permuted"]
        bars.append(bar_line(f"{encoder}, {kind}, mean average precision", found, BARS[kind]))
        bars.append(bar_line(f"{encoder}, {kind}, times that of permuted genes", found / permuted, TIMES))
    return sections({**tables, "Queries for which cells stand out": _standing_out(rows)}), bars


def _standing_out(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Fraction of the queries with a p value of at most .05 among random queries, by kind and half."""
    body = []
    for encoder, kind, where in dict.fromkeys((row["encoder"], row["query"], row["half"]) for row in rows):
        chosen = [row for row in rows if (row["encoder"], row["query"], row["half"]) == (encoder, kind, where)]
        found = np.array([p_value for row in chosen for p_value in row["p_values"].values()])
        if len(found):
            body.append((encoder, kind, where, len(found), float(np.mean(found <= SIGNIFICANT))))
    return markdown(("encoder", "query", "half", "queries", "stand out"), body)


def main() -> int:
    """Run everything and compare with the bars."""
    parser = command_line_of_names(__doc__)
    parser.add_argument("--encoders", default="wcp")
    options = parser.parse_args()
    encoders = options.encoders.split(",")
    stores = open_stores(options, encoders)
    asked = tomllib.loads(QUERIES.read_text())["plain"]
    sets = named_sets([one for one in [*load_datasets(), *more_sets()] if one.name in asked])
    rows = [row for truth in sets for one in encoders for row in search_set(truth, stores[truth.data.taxon], one)]
    lines, bars = report(rows)
    return finish(options.output, "search", rows, lines=lines, bars=bars)


if __name__ == "__main__":
    sys.exit(main())
