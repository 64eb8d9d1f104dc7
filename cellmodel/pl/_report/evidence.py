"""What `cellmodel attribute` found, as a report shows it: themes, contributions of genes, enriched gene sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pandas as pd

MOST_CONTRIBUTIONS: Final = 15
MOST_SETS: Final = 10
_REST: Final = "rest"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportTheme:
    """Contributing genes that share a term."""

    term: str  # term, source: the term, and whether it is of the texts or of which gene sets
    source: str
    share: float  # contributions of its genes over the distance of the cluster; shares of themes overlap
    score: float  # score, p_adjusted: how far above chance, and how often chance gets as far
    p_adjusted: float
    genes: tuple[tuple[str, float, str], ...]  # (gene, contribution, sentence), strongest first


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportContribution:
    """What one gene contributes to the distance of a cluster from the rest, and its share of it."""

    gene: str
    contribution: float
    share: float
    p_value: float
    term: str
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportSet:
    """A gene set that shares more genes with the markers of a cluster than chance deals."""

    name: str
    source: str
    p_adjusted: float
    fold: float
    genes: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportEvidence:
    """Evidence for one cluster: its distance in meaning from the rest, how often chance is as far, and what made it."""

    distance: float
    distance_p: float
    themes: tuple[ReportTheme, ...] = ()
    contributions: tuple[ReportContribution, ...] = ()
    sets: tuple[ReportSet, ...] = ()


def read_evidence(
    records: Mapping[str, Any], *, cluster_key: str, clusters: list[str]
) -> tuple[ReportEvidence | None, ...]:
    """Find evidence for clusters against their rest among the records of a file.

    ``records``: what the file keeps, by key; the first in the order of the alphabet that is of these clusters counts.
    ``cluster_key``: column of obs with the clusters. ``clusters``: their names. Returns one a cluster, None where it
    was not looked at; empty if no record is of these clusters.
    """
    for _, record in sorted(records.items()):
        if not isinstance(record, Mapping) or not {"params", "groups", "themes", "contributions"} <= record.keys():
            continue
        params, groups = record["params"], _of_rest(record["groups"])
        if isinstance(params, Mapping) and params.get("cluster_key") == cluster_key and len(groups):
            return tuple(_evidence(record, groups, cluster) for cluster in clusters)
    return ()


def _of_rest(table: "pd.DataFrame") -> "pd.DataFrame":
    """Rows of whole clusters against all others; a table without a row has no columns in a file."""
    if not len(table):
        return table
    return table[(table["condition"].astype(str) == "") & (table["against"].astype(str) == _REST)]


def _of_cluster(table: "pd.DataFrame", cluster: str) -> "pd.DataFrame":
    rows = _of_rest(table)
    return rows[rows["cluster"].astype(str) == cluster] if len(rows) else rows


def _evidence(record: Mapping[str, Any], groups: "pd.DataFrame", cluster: str) -> ReportEvidence | None:
    mine = groups[groups["cluster"].astype(str) == cluster]
    if not len(mine):
        return None
    return ReportEvidence(
        distance=float(mine["distance"].iloc[0]),
        distance_p=float(mine["distance_p"].iloc[0]),
        themes=_themes(_of_cluster(record["themes"], cluster)),
        contributions=_contributions(_of_cluster(record["contributions"], cluster)),
        sets=_sets(_of_cluster(record["enrichment"], cluster)) if "enrichment" in record else (),
    )


def _themes(table: "pd.DataFrame") -> tuple[ReportTheme, ...]:
    themes = []
    for (term, source), rows in table.groupby(["theme", "source"], sort=False, observed=True) if len(table) else ():
        first = rows.iloc[0]
        genes = zip(
            rows["gene"].astype(str), map(float, rows["contribution"]), rows["sentence"].astype(str), strict=True
        )
        figures = {name: float(first[name]) for name in ("share", "score", "p_adjusted")}
        themes.append(ReportTheme(term=str(term), source=str(source), genes=tuple(genes), **figures))
    return tuple(themes)


def _contributions(table: "pd.DataFrame") -> tuple[ReportContribution, ...]:
    return tuple(
        ReportContribution(
            gene=str(row["gene"]),
            contribution=float(row["contribution"]),
            share=float(row["share"]),
            p_value=float(row["p_value"]),
            term=str(row["term"]),
            sentence=str(row["sentence"]),
        )
        for row in table.head(MOST_CONTRIBUTIONS).to_dict("records")
        if row["contribution"] > 0
    )


def _sets(table: "pd.DataFrame") -> tuple[ReportSet, ...]:
    return tuple(
        ReportSet(
            name=str(row["set"]),
            source=str(row["source"]),
            p_adjusted=float(row["p_adjusted"]),
            fold=float(row["fold"]),
            genes=str(row["genes"]),
        )
        for row in table.head(MOST_SETS).to_dict("records")
    )
