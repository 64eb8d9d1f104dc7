"""Samples in a report: whose cells are which, how far batches are mixed, and what differs between conditions."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import ObsCategories, obs_categories, obs_columns
from cellmodel.io.records import recorded_sample_key, stored_table
from cellmodel.pl.report.collect.data import Row, Samples
from cellmodel.pl.report.collect.tables import rows_of, terms_of

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)
MOST_GENES: Final = 15  # of a comparison in either direction
MAP_GENES: Final = 60  # of all comparisons, that can color the map
ALPHA: Final = 0.05  # adjusted p value up to which a gene differs
_FIRST: Final = 5  # genes of a comparison and direction that can color the map
_COMPARED: Final = (
    *("cluster", "condition", "against", "comparison", "n_samples", "n_against", "n_cells", "n_cells_against"),
    *("is_paired", "method", "reason", "limits", "n_genes", "n_up", "n_down"),
)
_GENE: Final = ("gene", "log2_fold_change", "p_value", "p_adjusted")
_TESTED: Final = (
    *("cluster", "comparison", "mean_share", "mean_share_against", "ratio", "statistic", "p_value", "p_adjusted"),
    *("n_samples", "n_against", "is_paired"),
)
_MIXED: Final = ("cluster", "n_cells", "batch", "share", "before", "after", "if_mixed")
_THEME: Final = ("cluster", "condition", "against", "theme", "source", "share", "score", "p_adjusted", "gene")


def find_samples(
    adata: "AnnData", record: Mapping[str, Any], *, cluster_key: str, sample_key: str | None, source: str
) -> Samples | None:
    """Find the samples: of ``sample_key``, else the files or the batches of a run, else those that were compared.

    Cells without a value are of no sample. Raises ``InputUnusable`` if ``sample_key`` is no column of obs, or holds no
    categories; a column that a record names and that is there no more is logged.
    """
    found = list(_records(adata.uns, cluster_key))
    batches = record.get("batches")
    recorded: list[object] = [recorded_sample_key(adata.uns, cluster_key)]
    recorded += [batches.get("key")] if isinstance(batches, Mapping) else []
    recorded += [params.get("sample_key") for _, params, _ in found]
    samples: ObsCategories | None
    if sample_key is not None:
        if sample_key == cluster_key:
            raise InputUnusable(f"{sample_key!r} is the column of the clusters; name that of the samples")
        samples = _categories(adata, sample_key, source=source, what="sample")
    else:
        usable = (_recorded(adata, key, source=source, what="sample") for key in recorded if key)
        samples = next((one for one in usable if one is not None), None)
    if samples is None:
        return None
    compared = next((params for _, params, _ in found if params.get("condition_key")), None)
    if compared is None:
        return _crossed(samples, None)
    conditions = _recorded(adata, compared["condition_key"], source=source, what="condition")
    return _crossed(samples, conditions, reference=str(compared.get("reference") or ""))


def _records(uns: Mapping[str, Any], cluster_key: str) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Name, settings and content of what was compared between samples in these clusters."""
    for name, record in sorted(uns.items()):
        params = record.get("params") if isinstance(record, Mapping) else None
        if isinstance(params, Mapping) and params.get("sample_key") and params.get("cluster_key") == cluster_key:
            yield str(name), params, record


def _recorded(adata: "AnnData", key: object, *, source: str, what: str) -> ObsCategories | None:
    """Categories of a column that a record names; None where it is there no more, which is logged."""
    try:
        return _categories(adata, str(key), source=source, what=what)
    except InputUnusable as error:
        log.warning("the report shows no %s: %s", what, error)
        return None


def _categories(adata: "AnnData", key: str, *, source: str, what: str) -> ObsCategories:
    """Category of each cell; -1 for one without a value."""
    from anndata import AnnData

    texts = np.array(obs_columns(adata, [key], source=source, hint=f"name the {what} of each cell")[key], dtype=object)
    is_known = np.array([bool(text.strip()) for text in texts.tolist()])
    if not is_known.any():
        raise InputUnusable(f"no cell of {source} has a {what} in {key!r}; name another column")
    known = obs_categories(AnnData(obs=adata.obs.loc[is_known, [key]]), key, source=source, what=what)
    codes = np.full(len(texts), -1, dtype=np.int64)
    codes[is_known] = known.codes
    return ObsCategories(key=key, names=known.names, codes=codes)


def _crossed(samples: ObsCategories, conditions: ObsCategories | None, *, reference: str = "") -> Samples:
    """Cross samples with their conditions, by condition, the reference first, and then in the order of the samples."""
    if conditions is None:
        names = tuple((name, "") for name in samples.names)
        return Samples(key=samples.key, condition_key="", names=names, codes=samples.codes)
    every = (*conditions.names, "")  # a cell without a condition has the last one
    order = sorted(range(len(every)), key=lambda code: (every[code] == "", every[code] != reference))
    rank = np.argsort(order)
    known = samples.codes >= 0
    pairs, found = np.unique(
        np.column_stack([rank[conditions.codes[known]], samples.codes[known]]), axis=0, return_inverse=True
    )
    codes = np.full(len(known), -1, dtype=np.int64)
    codes[known] = found.ravel()
    names = tuple((samples.names[sample], every[order[place]]) for place, sample in pairs.tolist())
    return Samples(key=samples.key, condition_key=conditions.key, names=names, codes=codes)


def read_mixing(record: Mapping[str, Any]) -> Row | None:
    """Read a run's same-batch neighbors: ``key``, ``integration`` and ``rows``, the first one of all cells."""
    table = stored_table(record, "batches", "neighbors", columns=_MIXED)
    if table is None or not len(table):
        return None
    batches = record["batches"]
    numbers = {name: pd.to_numeric(table[name], errors="coerce") for name in ("share", "before", "after", "if_mixed")}
    rows = rows_of(table.assign(**numbers, cluster=table["cluster"].astype(str)), _MIXED)
    return {name: str(batches.get(name, "")) for name in ("key", "integration", "note")} | {"rows": rows}


def read_composition(uns: Mapping[str, Any], *, cluster_key: str) -> Row | None:
    """Read tests of the shares of clusters between conditions, by the alphabetically first record that holds any."""
    for _, params, record in _records(uns, cluster_key):
        table = stored_table(record, "clusters", columns=_TESTED)
        if table is not None and len(table) and stored_table(record, "shares") is not None:
            return _about(params, record) | {"rows": _texts(rows_of(table, _TESTED))}
    return None


def read_effects(uns: Mapping[str, Any], *, cluster_key: str) -> tuple[Row, ...]:
    """Read what differs between conditions inside the clusters, of each record: settings, notes and ``comparisons``.

    A comparison has its figures, ``up`` and ``down``: genes, of the significant ones where there are p values; and
    ``themes_up`` and ``themes_down``: what `cellmodel attribute` found of the same conditions, with ``themes_of``
    (samples or cells) as replicates.
    """
    found = []
    for _, params, record in _records(uns, cluster_key):
        compared = stored_table(record, "comparisons", columns=_COMPARED)
        genes = stored_table(record, "markers", columns=("cluster", "comparison", *_GENE))
        if params.get("condition_key") and compared is not None and len(compared) and genes is not None:
            themes, replicates = _themes(uns, params)
            rows = tuple(_comparison(row, genes, themes) for row in _texts(rows_of(compared, _COMPARED)))
            found.append(_about(params, record) | {"comparisons": rows, "themes_of": replicates})
    return tuple(found)


def _about(params: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    notes = record.get("notes")
    keys = {part: str(params.get(part) or "") for part in ("sample_key", "condition_key", "reference", "batch_key")}
    return {**keys, "notes": tuple(map(str, () if notes is None else notes))}


def _texts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [{**row, **{name: str(row[name]) for name in ("cluster", "comparison")}} for row in rows]


def _comparison(row: dict[str, Any], genes: pd.DataFrame, themes: pd.DataFrame) -> dict[str, Any]:
    """Figures of a comparison with its genes and themes."""
    row |= {name: str(row[name] or "") for name in ("condition", "against", "method", "reason", "limits")}
    own = genes
    if len(genes):
        own = genes[(genes["cluster"].astype(str) == row["cluster"]) & (genes["comparison"] == row["comparison"])]
    own = own if row["reason"] or not len(own) else own[own["p_adjusted"] <= ALPHA]
    sides = {"up": own, "down": own}
    if len(own):
        up = own["log2_fold_change"] > 0
        sides = {"up": own[up].head(MOST_GENES), "down": own[~up].iloc[::-1].head(MOST_GENES)}
    found = {side: rows_of(table, _GENE) for side, table in sides.items()}
    pair = (row["condition"], row["against"])
    return row | found | {"themes_up": _of(themes, row, *pair), "themes_down": _of(themes, row, *pair[::-1])}


def _themes(uns: Mapping[str, Any], params: Mapping[str, Any]) -> tuple[pd.DataFrame, str]:
    """Themes of the same conditions in the same clusters, and whether samples or cells were their replicates.

    Those of samples come first, then those of the alphabetically first record.
    """
    found: dict[str, pd.DataFrame] = {}
    for _, record in sorted(uns.items()):
        table = stored_table(record, "themes", columns=(*_THEME, "contribution", "sentence"))
        made = record.get("params") if table is not None else None
        keys = ("cluster_key", "condition_key")
        if isinstance(made, Mapping) and table is not None and all(made.get(key) == params.get(key) for key in keys):
            found.setdefault("samples" if isinstance(made.get("samples"), Mapping) else "cells", table)
    replicates = next((name for name in ("samples", "cells") if name in found), "")
    return found.get(replicates, pd.DataFrame()), replicates


def _of(themes: pd.DataFrame, row: Row, condition: str, against: str) -> tuple[Row, ...]:
    """Significant themes of what is higher in a condition."""
    if not len(themes):
        return ()
    is_own = (themes["cluster"].astype(str) == row["cluster"]) & (themes["condition"].astype(str) == condition)
    own = themes[is_own & (themes["against"].astype(str) == against) & (themes["p_adjusted"] <= ALPHA)]
    figures = ("share", "score", "p_adjusted")
    return terms_of(own, named_by=("theme", "source"), figures=figures, weight="contribution")


def genes_of(effects: Sequence[Row]) -> list[str]:
    """Genes to color the map by: the first ones of every comparison in either direction."""
    sides = [one[side][:_FIRST] for found in effects for one in found["comparisons"] for side in ("up", "down")]
    in_turn = (str(side[rank]["gene"]) for rank in range(_FIRST) for side in sides if rank < len(side))
    return list(dict.fromkeys(in_turn))[:MAP_GENES]


def outdated(uns: Mapping[str, Any], sizes: Mapping[str, int], *, cluster_key: str) -> list[str]:
    """Name the records whose clusters had other sizes when samples were compared."""
    names = []
    for name, _, record in _records(uns, cluster_key):
        shares = stored_table(record, "shares", columns=("cluster", "n_cells"))
        compared = stored_table(record, "comparisons", columns=("cluster", "n_cells", "n_cells_against"))
        if shares is not None and len(shares):
            then = shares.groupby(shares["cluster"].astype(str))["n_cells"].sum()
            is_other = any(then.get(cluster, 0) != size for cluster, size in sizes.items())
        elif compared is not None and len(compared):
            used = compared["n_cells"] + compared["n_cells_against"]
            is_other = any(used.to_numpy() > compared["cluster"].astype(str).map(sizes).fillna(0).to_numpy())
        else:
            continue
        names += [name] if is_other else []
    return names
