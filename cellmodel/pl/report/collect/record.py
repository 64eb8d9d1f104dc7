"""The record behind a report: of the run that made the clusters, else made from the clusters and the values."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cellmodel.core.errors import InputUnusable
from cellmodel.explain.groups import MOST_CLUSTERS, GroupedCells, cluster_columns
from cellmodel.explain.markers import marker_frame, rank_markers
from cellmodel.io.backed import AnyCells
from cellmodel.io.records import input_record, run_record, stored_table
from cellmodel.pl.report.collect.genes import by_cluster, columns_by_name
from cellmodel.pl.report.collect.samples import outdated
from cellmodel.pp.moments import detected_genes
from cellmodel.pp.normalize import expression_of
from genekb.core.addresses import without_secrets

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)
_SAME_FRACTION: Final = 1e-6  # rounding of a fraction of cells


def record_of(cells: AnyCells, grouped: GroupedCells, key: str) -> Mapping[str, Any]:
    """Record of the run that made the clusters; where there is none, what follows from the clusters and the values."""
    run = run_record(cells.adata.uns, key)
    if run is not None and _is_about(run, cells, grouped):
        return run
    _check_groups(cells, grouped, key)
    note = (
        f'clusters are taken from obs["{key}"] as they are: uns["{key}"] holds no record of a cellmodel run, so '
        "markers are computed here, and how the clusters were found is not known"
        if run is None
        else f'obs["{key}"] was changed since its run: markers are computed from it as it is now, and what the run '
        "recorded of its own clusters is left out"
    )
    log.info("%s", note)
    expression = expression_of(cells)[grouped.rows]
    columns = np.flatnonzero(detected_genes(expression, min_cells=1))
    tables = rank_markers(
        expression[:, columns], grouped.labels, gene_names=[cells.names[column] for column in columns]
    )
    made = cells.adata.uns.get(key)
    params = made.get("params") if run is None and isinstance(made, Mapping) else None
    record = input_record(cells)
    return {
        "clusters": f'obs["{key}"]',
        "versions": record["versions"],
        "input": record["input"] | {"notes": [note, *cells.notes]},
        "markers": marker_frame(tables, names=grouped.names),
        "params": {key: params} if isinstance(params, Mapping) else {},
    }


def _is_about(run: Mapping[str, Any], cells: AnyCells, grouped: GroupedCells) -> bool:
    """Whether the clusters are those of a run: named as it names them, and with the markers that it found.

    Of fewer cells, or of other values than were clustered, the names alone can be compared.
    """
    choice = run["n_clusters"]
    if not set(grouped.names) <= {*map(str, choice.get("names", range(int(choice["n_clusters"]))))}:
        return False
    markers, column_of = run["markers"], columns_by_name(cells)
    if int(run["input"]["n_cells"]) != cells.shape[0] or other_values(cells, run) or not len(markers):
        return True
    known = markers[markers["cluster"].isin(grouped.names) & markers["name"].isin(column_of)]
    first = known.groupby("cluster", observed=True).head(1)
    values = expression_of(cells, [column_of[name] for name in first["name"]])[grouped.rows]
    fractions, _ = by_cluster(values, grouped.labels, n_clusters=len(grouped.names))
    now = fractions[[grouped.names.index(name) for name in first["cluster"]], np.arange(len(first))]
    return bool(np.allclose(now, first["fraction_in"], atol=_SAME_FRACTION))


def _check_groups(cells: AnyCells, grouped: GroupedCells, key: str) -> None:
    """Refuse a column that holds measured values or names of cells."""
    n_groups, n_cells = len(grouped.names), len(grouped.rows)
    if n_groups > MOST_CLUSTERS or n_groups == n_cells > 1:
        likely = ", ".join(cluster_columns(cells)) or "none"
        raise InputUnusable(
            f"column {key!r} of {cells.source} holds {n_groups:,} different values in {n_cells:,} cells, and clusters "
            f"are at most {MOST_CLUSTERS} and fewer than the cells; name another column with `cluster_key` (those "
            f"that look like clusters: {likely})"
        )


def other_values(cells: AnyCells, record: Mapping[str, Any]) -> str:
    """Say how the values that were read differ from those that were clustered; nothing where they do not."""
    kind, n_genes = str(record["input"]["value_kind"]), int(record["input"]["n_genes"])
    found = cells.matrix.shape[1]
    if (found, str(cells.kind)) == (n_genes, kind):
        return ""
    return (
        f"genes (the values read now are {cells.kind} of {found:,} genes, those that were clustered {kind} of "
        f"{n_genes:,}; name the same with `layer` or `use_raw`)"
    )


def outdated_notes(uns: Mapping[str, Any], grouped: GroupedCells, key: str) -> list[str]:
    """Say which names and evidence were made when the clusters had other sizes: they may be of other clusters."""
    sizes = dict(zip(grouped.names, np.bincount(grouped.labels).tolist(), strict=True))
    made_before = outdated(uns, sizes, cluster_key=key)
    for name, record in sorted(uns.items()):
        for part in ("names", "groups"):
            table = stored_table(record, part, columns=("cluster", "n_cells"))
            params = record.get("params") if table is not None else None
            about = params.get("cluster_key") if isinstance(params, Mapping) else None
            if table is None or "n_cells" not in table or key not in (record.get("cluster_key"), about):
                continue
            if "condition" in table:  # of a condition inside a cluster there are fewer cells
                table = table[table["condition"].astype(str) == ""]
            then = table.groupby(table["cluster"].astype(str))["n_cells"].max()
            # samples with few cells of a cluster are left out where samples are compared
            is_part = isinstance(params, Mapping) and isinstance(params.get("samples"), Mapping)
            found = ((then.get(cluster, size), size) for cluster, size in sizes.items())
            if any(size < n_cells if is_part else size != n_cells for n_cells, size in found):
                made_before.append(str(name))
    notes = [
        f'uns["{name}"] was made when clusters of obs["{key}"] had other sizes; make it again' for name in made_before
    ]
    for note in notes:
        log.warning("%s", note)
    return notes


def provenance(record: Mapping[str, Any]) -> dict[str, str]:
    """Command, versions and settings of a run, by label."""
    parts = ("command", "clusters", "recipe", "seed", "store_id", "encoder_id")
    given = {part: str(record[part]) for part in parts if record.get(part, "") != ""}
    content = {part.removesuffix("_id"): without_secrets(text) for part, text in given.items()}
    content |= _sentences(record["sentences"]) if "sentences" in record else {}
    content |= {f"version of {name}": str(value) for name, value in record["versions"].items()}
    return content | {key: value for key, value in _flat(record["params"]).items() if key not in content}


def _sentences(record: Mapping[str, Any]) -> dict[str, str]:
    """Describe how far pooled gene vectors agree with sentences that were encoded."""
    content = {"sentences read": f"{int(record['n_sentences']):,}, {float(record['share_read']):.0%} of their tokens"}
    for row in record["agreement"].itertuples():
        content[f"sentences, pooled ({row.pooled}) beside encoded"] = (
            f"rank correlation of cosines {row.similarity:.2f}, {row.neighbor_overlap:.0%} of the 15 nearest the same"
        )
    return content


def later_jobs(adata: "AnnData", cluster_key: str) -> dict[str, str]:
    """Store, encoder and seed of names, evidence and searches in the file."""
    return {
        str(key): ", ".join(
            [f"{part} {record[part]}" for part in ("store_id", "encoder_id", "seed") if part in record]
            + [f"clusters made with {value}" for value in _flat(record.get("clusters_from", {})).values()]
        )
        for key, record in sorted(adata.uns.items())
        if isinstance(record, Mapping) and "store_id" in record and key != cluster_key
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
