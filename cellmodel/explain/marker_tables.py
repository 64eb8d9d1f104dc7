"""Tables of marker genes: those of Seurat's FindAllMarkers, of scanpy's rank_genes_groups_df, and plain ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cellmodel.core.errors import InputUnusable
from genekb.files.tables import read_table
from genekb.query.gene_sets import FORMS, read_gene_sets

# columns by what they hold; of several that a table has, the first counts. Those of Seurat's FindAllMarkers and of
# scanpy's rank_genes_groups_df are among them, and those of `cellmodel markers`
_COLUMNS: Final = {
    "cluster": ("cluster", "group", "cell_type"),
    "gene": ("gene", "names"),
    "rank": ("rank",),
    "score": ("score", "scores", "statistic"),
    "fold change": ("avg_log2FC", "avg_logFC", "logfoldchanges", "log2_fold_change"),
    "p": ("p_val_adj", "pvals_adj", "p_adjusted"),
}
_MAX_P = 0.05  # adjusted p value up to which a gene of a table is a marker
_MISSING = ("", "nan", "none", "na")


@dataclass(frozen=True, kw_only=True, slots=True)
class MarkerLists:
    """Marker genes of clusters, best first."""

    genes: Mapping[str, tuple[str, ...]]  # by cluster, each once
    n_repeated: int = 0  # rows whose gene the cluster has already
    n_lower: int = 0  # rows left out: lower in the cluster than elsewhere, or above the adjusted p value of a marker


def read_marker_lists(path: Path) -> MarkerLists:
    """Read marker lists: a table with columns as :func:`lists_of_columns` takes them, .gmt, or a list a line."""
    table = read_table(path, "lists of marker genes", error=InputUnusable)
    if not any(table.first_of(_COLUMNS[what]) for what in ("cluster", "gene")):
        return MarkerLists(genes=read_gene_sets(path))
    columns = {name: [row[name] for row in table.rows] for name in table.columns if name}
    return lists_of_columns(columns, source=str(path))


def lists_of_columns(columns: Mapping[str, Sequence[Any]], *, source: str) -> MarkerLists:
    """Take marker lists from columns of a table: ``cluster``, ``gene`` and, if there are, ``rank`` and ``score``.

    Seurat's and scanpy's names of columns are known too. A cluster's genes are in the order of rank, else of score
    (highest first), else of the rows. Genes lower in the cluster, or with an adjusted p value above .05, are left out.
    """
    column = {what: next((name for name in names if name in columns), None) for what, names in _COLUMNS.items()}
    lacking = [what for what in ("cluster", "gene") if column[what] is None]
    if lacking:
        have = ", ".join(columns) or "none"
        known = " or ".join(_COLUMNS[lacking[0]])
        raise InputUnusable(f"{source} has the columns {have}, and none for the {lacking[0]}; name it {known}; {FORMS}")
    rows = list(zip(*(map(_text, columns[column[what] or ""]) for what in ("cluster", "gene")), strict=True))
    for number, (cluster, gene) in enumerate(rows, start=1):
        if not cluster or not gene:
            raise InputUnusable(
                f"row {number} of {source} has no {'gene' if cluster else 'cluster'}; add it, or leave it out"
            )
    figures = {
        what: _figures(columns[name], name, source=source)
        for what, name in column.items()
        if name is not None and what not in {"cluster", "gene"}
    }
    return _sorted_lists(rows, figures, source=source)


def _text(value: Any) -> str:
    text = str(value).strip()
    return "" if text.lower() in _MISSING else text


def _figures(values: Sequence[Any], name: str, *, source: str) -> list[float]:
    """Numbers of a column; NaN where there is none."""
    found = []
    for number, value in enumerate(values, start=1):
        try:
            found.append(float(_text(value) or "nan"))
        except ValueError as error:
            raise InputUnusable(
                f"row {number} of {source}: {name} is {str(value)[:20]!r}, which is no number"
            ) from error
    return found


def _sorted_lists(rows: Sequence[tuple[str, str]], figures: Mapping[str, list[float]], *, source: str) -> MarkerLists:
    is_lower = [
        any(figures[what][row] < 0 for what in ("score", "fold change") if what in figures)
        or ("p" in figures and figures["p"][row] > _MAX_P)
        for row in range(len(rows))
    ]
    keys = figures.get("rank") or [-value for value in figures.get("score", ())] or [0.0] * len(rows)
    order = sorted(range(len(rows)), key=lambda row: math.inf if math.isnan(keys[row]) else keys[row])
    lists: dict[str, dict[str, None]] = {cluster: {} for cluster, _ in rows}
    n_repeated = 0
    for row in order:
        cluster, gene = rows[row]
        n_repeated += gene in lists[cluster] and not is_lower[row]
        if not is_lower[row]:
            lists[cluster][gene] = None
    if not any(lists.values()):
        raise InputUnusable(f"{source} names no marker gene; give a gene a row under the columns cluster and gene")
    genes = {cluster: tuple(found) for cluster, found in lists.items()}
    return MarkerLists(genes=genes, n_repeated=n_repeated, n_lower=sum(is_lower))


def read_universe(path: Path) -> tuple[str, ...]:
    """Read the genes that a list could hold: one a line, or the column ``gene`` of a .tsv or .csv."""
    table = read_table(path, "a list of genes", error=InputUnusable)
    column = table.first_of(["gene", *table.columns])
    genes = dict.fromkeys(gene for gene in (column, *(row[column] for row in table.rows)) if gene not in {"", "gene"})
    if not genes:
        raise InputUnusable(f"{path} names no gene; give one a line")
    return tuple(genes)
