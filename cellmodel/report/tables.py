"""Tables of a run's record → what a report shows of each cluster."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from cellmodel.report.data import ReportMarker, ReportName, ReportWord

if TYPE_CHECKING:
    import pandas as pd

MOST_MARKERS: Final = 15
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


def read_markers(table: "pd.DataFrame", cluster: str) -> tuple[ReportMarker, ...]:
    """Take the leading markers of a cluster."""
    if not len(table):
        return ()
    shown = ("name", "log2_fold_change", "p_adjusted", "fraction_in", "fraction_out")
    rows = table.loc[table["cluster"] == cluster, list(shown)].head(MOST_MARKERS)
    return tuple(ReportMarker(**{str(key): value for key, value in row.items()}) for row in rows.to_dict("records"))


def read_words(table: "pd.DataFrame", cluster: str) -> tuple[ReportWord, ...]:
    """Take the words of a cluster, each with its genes."""
    if not len(table):
        return ()
    words = []
    for term, rows in table[table["cluster"] == cluster].groupby("term", sort=False):
        first: Any = rows.iloc[0]
        genes = zip(rows["gene"].astype(str), map(float, rows["weight"]), rows["sentence"].astype(str), strict=True)
        scores = {name: float(first[name]) for name in ("score", "p_value", "p_adjusted")}
        words.append(ReportWord(term=str(term), genes=tuple(genes), **scores))
    return tuple(words)


def read_names(records: Mapping[str, Any], *, cluster_key: str, clusters: list[str]) -> tuple[ReportName, ...]:
    """Find what clusters were named among the records of a file.

    Parameters
    ----------
    records
        What the file keeps, by key; the first in the order of the alphabet that is of these clusters counts.
    cluster_key
        Column of obs with the clusters.
    clusters
        Their names.

    Returns
    -------
    One a cluster; empty if no record is of these clusters.
    """
    for _, record in sorted(records.items()):
        if isinstance(record, Mapping) and record.get("cluster_key") == cluster_key and "names" in record:
            rows = {str(row["cluster"]): row for row in record["names"].to_dict("records")}
            return tuple(_name(rows.get(cluster, {})) for cluster in clusters)
    return ()


def _name(row: Mapping[str, Any]) -> ReportName:
    """One row of the table of names; what it does not hold is left empty."""
    figures = {label: row[column] for column, label in _NAME_FIGURES.items() if row.get(column) is not None}
    return ReportName(
        name=str(row.get("name") or "no name"),
        best=str(row.get("best") or ""),
        runner_up=str(row.get("runner_up") or ""),
        reason=str(row.get("reason") or ""),
        figures={label: float(value) for label, value in figures.items()},
        genes=tuple(filter(None, str(row.get("genes") or "").split(", "))),
    )


def leading_markers(table: "pd.DataFrame", *, n_per_cluster: int) -> Iterator[str]:
    """Names of markers, each once: the first of every cluster, the second of every cluster, and so on."""
    if not len(table):
        return
    rows = table[table["log2_fold_change"] > 0]
    rank = rows.groupby("cluster", sort=False, observed=True).cumcount()
    in_turn = rank[rank < n_per_cluster].sort_values(kind="stable").index
    yield from dict.fromkeys(rows.loc[in_turn, "name"].astype(str))
