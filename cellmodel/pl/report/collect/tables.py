"""Read the tables of a report from uns: files, markers, words, names, evidence, searches, the tree of the clusters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

import pandas as pd

from cellmodel.annotate.marker_overlap import display_name
from cellmodel.explain.groups import stored_tree
from cellmodel.io.cells import FileRecord
from cellmodel.io.records import stored_table
from cellmodel.pl.report.collect.data import Row, TreeData

MOST_MARKERS: Final = 15
MOST_CONTRIBUTIONS: Final = 15
MOST_SETS: Final = 10
_REST: Final = "rest"
NO_NAME: Final = "no name"
_NAME_FIGURES: Final = {
    "score": "score",
    "margin": "margin",
    "p_value": "p",
    "p_adjusted": "adjusted p",
    "text_score": "by text alone",
    "marker_score": "by markers alone",
    "runner_up_score": "runner-up's score",
    "runner_up_p_adjusted": "runner-up's adjusted p",
}


def read_files(record: Row) -> tuple[FileRecord, ...]:
    """Read what each of several files gave; empty where the cells are of one."""
    columns = [each.name for each in fields(FileRecord)]
    table = stored_table(record, "files", columns=columns)
    return () if table is None else tuple(FileRecord(**row) for row in rows_of(table, columns))


def read_markers(table: pd.DataFrame, cluster: str) -> tuple[Row, ...]:
    """First markers of a cluster."""
    shown = ("name", "log2_fold_change", "p_adjusted", "fraction_in", "fraction_out")
    return rows_of(_of_cluster(table, cluster).head(MOST_MARKERS), shown)


def read_words(table: pd.DataFrame, cluster: str) -> tuple[Row, ...]:
    """Words of a cluster, each with its ``genes``: (gene, weight, sentence)."""
    figures = ("score", "p_value", "p_adjusted")
    return terms_of(_of_cluster(table, cluster), named_by=("term",), figures=figures, weight="weight")


def read_names(records: Mapping[str, Any], *, cluster_key: str, clusters: Sequence[str]) -> tuple[Row, ...]:
    """Names of the clusters of ``obs[cluster_key]``, by the alphabetically first record that holds any; else empty."""
    for _, record in sorted(records.items()):
        if isinstance(record, Mapping) and record.get("cluster_key") == cluster_key and "names" in record:
            rows = {str(row["cluster"]): row for row in record["names"].to_dict("records")}
            return tuple(_name(rows.get(cluster, {})) for cluster in clusters)
    return ()


def _name(row: Row) -> Row:
    """Name of one cluster with its figures by label and the genes that support ``best``; missing parts are empty."""
    named = {
        part: str(row.get(part) or "")
        for part in ("name", "confidence", "best", "runner_up", "parent", "reason", "ontology_id", "mix")
    }
    named["name"] = named["name"] or NO_NAME
    figures = {label: float(row[part]) for part, label in _NAME_FIGURES.items() if row.get(part) is not None}
    mix = named["mix"] if row.get("is_mixed") else ""
    return named | {
        "title": display_name(named["name"], best=named["best"], reason=named["reason"], mix=mix),
        "is_mixed": bool(mix),
        "figures": figures,
        "genes": tuple(filter(None, str(row.get("genes") or "").split(", "))),
    }


def read_evidence(records: Mapping[str, Any], *, cluster_key: str, clusters: Sequence[str]) -> tuple[Row | None, ...]:
    """Evidence that sets each cluster apart from the rest, by the alphabetically first record that holds any.

    Returns one a cluster, None where it was not compared: ``distance`` and ``distance_p``, and rows of ``themes``,
    ``contributions`` and ``sets``. Empty if no record is of these clusters.
    """
    for _, record in sorted(records.items()):
        if not isinstance(record, Mapping) or not {"params", "groups", "themes", "contributions"} <= record.keys():
            continue
        params, groups = record["params"], _of_rest(record["groups"])
        if isinstance(params, Mapping) and params.get("cluster_key") == cluster_key and len(groups):
            return tuple(_evidence(record, groups, cluster) for cluster in clusters)
    return ()


def _evidence(record: Mapping[str, Any], groups: pd.DataFrame, cluster: str) -> Row | None:
    distances = rows_of(_of_cluster(groups, cluster), ("distance", "distance_p"))
    if not distances:
        return None
    tables = {
        name: _of_cluster(_of_rest(record[name]), cluster)
        for name in ("themes", "contributions", "enrichment")
        if name in record
    }
    of_gene = ("gene", "contribution", "share", "p_value", "term", "sentence")
    contributions = rows_of(tables["contributions"].head(MOST_CONTRIBUTIONS), of_gene)
    of_theme = ("share", "score", "p_adjusted")
    of_set = ("set", "source", "p_adjusted", "fold", "genes")
    return {
        **distances[0],
        "themes": terms_of(tables["themes"], named_by=("theme", "source"), figures=of_theme, weight="contribution"),
        "contributions": tuple(row for row in contributions if row["contribution"] > 0),
        "sets": rows_of(tables["enrichment"].head(MOST_SETS), of_set) if "enrichment" in tables else (),
    }


def read_searches(records: Mapping[str, Any], *, cluster_key: str) -> tuple[Row, ...]:
    """Read the searches in a file: whether cells stand out, types meant, ranked clusters and genes.

    Clusters other than those of the report are left out; the genes of the best cells stand in their place. Genes are
    (gene, part of the score, sentence).
    """
    searches = []
    for key, record in sorted(records.items()):
        params = record.get("params", {}) if isinstance(record, Mapping) else {}
        if not isinstance(params, Mapping) or "query" not in params or "p_value" not in record:
            continue
        clusters = _items(record.get("clusters")) if (params.get("cluster_key") or "cellmodel") == cluster_key else []
        rows = [{**row, "cluster": str(row["cluster"]), "genes": _supporting(row["genes"])} for row in clusters]
        searches.append(
            {
                "key": str(key),
                "query": str(params["query"]),
                "p_value": float(record["p_value"]),
                "stands_out": bool(record["stands_out"]),
                "unknown": tuple(map(str, record.get("unknown_words", ()))),
                "types": tuple((str(row["name"]), float(row["nearness"])) for row in _items(record.get("types"))),
                "clusters": tuple(rows),
                "genes": _supporting(record["genes"]),
            }
        )
    return tuple(searches)


def _items(stored: Any) -> list[Row]:
    """Rows of a list, which a file holds by position."""
    if isinstance(stored, Mapping):
        return [stored[place] for place in sorted(stored, key=int)]
    return [row for row in stored if isinstance(row, Mapping)] if isinstance(stored, list | tuple) else []


def _supporting(stored: Any) -> tuple[tuple[str, float, str], ...]:
    return tuple((str(row["name"]), float(row["contribution"]), str(row["sentence"])) for row in _items(stored))


def _of_rest(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of whole clusters against all others; a table without a row has no columns in a file."""
    return table[(table["condition"].astype(str) == "") & (table["against"] == _REST)] if len(table) else table


def _of_cluster(table: pd.DataFrame, cluster: str) -> pd.DataFrame:
    return table[table["cluster"].astype(str) == cluster] if len(table) else table


def rows_of(table: pd.DataFrame, columns: Sequence[str]) -> tuple[Row, ...]:
    """Give the rows of a table as mappings of some columns; a table without a row has no columns in a file."""
    rows: Any = table[list(columns)].to_dict("records") if len(table) else []  # pandas types the keys as any value
    return tuple(rows)


def terms_of(table: pd.DataFrame, *, named_by: Sequence[str], figures: Sequence[str], weight: str) -> tuple[Row, ...]:
    """Give one row a term, from a table with one row a term and gene; its ``genes`` are (gene, weight, sentence)."""
    terms: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows_of(table, (*named_by, *figures, "gene", weight, "sentence")):
        names = tuple(str(row[part]) for part in named_by)
        term = terms.setdefault(names, {part: row[part] for part in (*named_by, *figures)} | {"genes": ()})
        term["genes"] += ((row["gene"], row[weight], row["sentence"]),)
    return tuple(terms.values())


def markers_in_turn(table: pd.DataFrame, *, n_per_cluster: int) -> Iterator[str]:
    """Names of markers, each once: the first of every cluster, the second of every cluster, and so on."""
    if not len(table):
        return
    rows = table[table["log2_fold_change"] > 0]
    rank = rows.groupby("cluster", sort=False, observed=True).cumcount()
    in_turn = rank[rank < n_per_cluster].sort_values(kind="stable").index
    yield from dict.fromkeys(rows.loc[in_turn, "name"].astype(str))


def read_tree(uns: Mapping[str, Any], *, cluster_key: str, clusters: Sequence[str]) -> TreeData | None:
    """Read the tree of the clusters of a run; None where there is none of just these clusters."""
    stored = stored_tree(uns, cluster_key, clusters)
    splits = stored_table(uns.get(cluster_key), "tree", "splits")
    if stored is None or splits is None:
        return None
    rows: Any = splits.to_dict("records")
    return TreeData(tree=stored[0], levels=stored[1], splits=tuple(rows))
