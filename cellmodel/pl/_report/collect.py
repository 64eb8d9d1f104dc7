"""From the slots of an annotated AnnData to its HTML report."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cellmodel.core.errors import InputUnusable
from cellmodel.explain.groups import MOST_CLUSTERS, GroupedCells, cluster_columns, group_cells
from cellmodel.explain.markers import marker_frame, rank_markers
from cellmodel.io.backed import AnyCells
from cellmodel.io.cells import ReadConfig
from cellmodel.io.records import check_records, input_record, run_record, stored_table
from cellmodel.io.writers import check_targets
from cellmodel.pl._report.data import (
    ReportData,
    drawn_cells,
    markers_in_turn,
    read_evidence,
    read_files,
    read_markers,
    read_names,
    read_searches,
    read_words,
)
from cellmodel.pl._report.genes import (
    GENES_PER_CLUSTER,
    MOST_GENES,
    by_cluster,
    check_genes,
    columns_by_name,
    genes_named_in,
    read_genes,
)
from cellmodel.pl._report.layouts import read_layouts
from cellmodel.pl._report.samples import (
    Samples,
    find_samples,
    genes_of,
    outdated,
    read_composition,
    read_effects,
    read_mixing,
)
from cellmodel.pl._report.tree import read_tree
from cellmodel.pp.blocks import expression_of, open_cells
from cellmodel.pp.normalize import detected_genes
from genekb.core.addresses import without_secrets
from genekb.files.replace import Target

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)
MOST_COLORS: Final = 24
MOST_CATEGORIES: Final = 200  # the largest 60 get a colour
_SAME_FRACTION: Final = 1e-6  # rounding of a fraction of cells
VALUE_WORDS: Final = {"counts": "raw counts", "log1p": "log-normalised", "linear": "linear, log-normalised by this run"}
UNKNOWN_ORIGIN: Final = (
    "The clusters came with the file: how they were found, and how sure they are, is not known here."
)
LIMITS: Final = (
    "Clusters are groups of similar cells, not cell types; no label was used to find them.",
    "Words describe the marker genes of a cluster by their texts; they are not a name of the cells, and well-studied "
    "genes have longer texts. Judge words by the adjusted p value.",
    "Distances between distant groups of the map have no meaning; the map is for display, and no result is computed "
    "from it.",
    "Confidence measures how clearly a cell belongs to its cluster, not whether the cluster is right.",
)


def report_file(
    path: Path,
    output: Path,
    *,
    cluster_key: str | None = None,
    sample_key: str | None = None,
    key_added: str = "cellmodel",
    genes: Sequence[str] = (),
    read: ReadConfig | None = None,
    overwrite: bool = False,
    other_store: bool = False,
) -> None:
    """Write the report of the clusters in a file, whoever made them.

    ``cluster_key``: column of obs with the clusters: of `cellmodel cluster`, scanpy, Seurat or an annotator; that of
    ``key_added``, the slots of a run, if None. Cells without a value are in no cluster. ``sample_key``: column of obs
    with the sample of each cell; that of the run's files or batches, or of a comparison between samples, if None.
    ``genes``: names of genes that can colour the map, beside markers, all that the report names, and variable ones.
    ``other_store``: whether names and evidence may come from another store than the clusters; else ``LineageMismatch``.
    Raises ``InputUnusable`` if a column is missing or holds no groups, or the output cannot be written; the latter
    before any work.
    """
    check_targets([Target(output)], inputs=[path], overwrite=overwrite)
    key = cluster_key or key_added
    with open_cells(path, read, places=partial(shown_places, key)) as cells:
        report_cells(
            cells,
            output,
            cluster_key=key,
            sample_key=sample_key,
            genes=genes,
            overwrite=overwrite,
            other_store=other_store,
        )


def report_cells(
    cells: AnyCells,
    output: Path,
    *,
    cluster_key: str,
    sample_key: str | None = None,
    genes: Sequence[str] = (),
    overwrite: bool = False,
    other_store: bool = False,
) -> None:
    """Check the records of cells, and write their report; see :func:`report_file`."""
    check_records(cells, key=cluster_key, other_store=other_store)
    write_report_of(cells, output, cluster_key=cluster_key, sample_key=sample_key, genes=genes, overwrite=overwrite)


def shown_places(cluster_key: str, keys: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Name what a report needs of a large file: all records, maps of the cells, and the graph of the run."""
    yield from (f"uns/{key}" for key in keys.get("uns", ()))
    run = f"X_{cluster_key}"
    large = {run, f"{run}_joint", f"{run}_text"}
    yield from (f"obsm/{key}" for key in keys.get("obsm", ()) if key not in large)
    yield f"obsp/{cluster_key}_connectivities"


def write_report_of(
    cells: AnyCells,
    output: Path,
    *,
    cluster_key: str = "cellmodel",
    sample_key: str | None = None,
    genes: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Write the report of clusters of cells that are read already; see :func:`report_file`."""
    from cellmodel.pl._report.render import write_report

    data = report_data(cells, cluster_key=cluster_key, sample_key=sample_key, genes=genes)
    write_report(data, output, overwrite=overwrite)


def report_data(
    cells: AnyCells,
    *,
    cluster_key: str,
    sample_key: str | None = None,
    genes: Sequence[str] = (),
    most_genes: int | None = MOST_GENES,
) -> ReportData:
    """Collect what a report shows: from the record of a run, else from the column of clusters and the values alone.

    ``most_genes``: how many genes are offered; None for all.
    """
    check_genes(cells, genes)
    adata = cells.adata
    grouped = group_cells(cells, cluster_key, least=1)
    names = list(grouped.names)
    record = _record(cells, grouped, cluster_key)
    is_run = "n_clusters" in record
    clusters = np.full(adata.n_obs, -1, dtype=np.int64)
    clusters[grouped.rows] = grouped.labels
    confidence = adata.obs.get(f"{cluster_key}_confidence") if is_run else None
    queries = _queries(adata)
    shown = {cluster_key} | ({f"{cluster_key}_confidence"} if confidence is not None else set())
    samples = find_samples(adata, record, cluster_key=cluster_key, sample_key=sample_key, source=cells.source)
    effects = read_effects(adata.uns, cluster_key=cluster_key)
    colors, left_out = _sample_first(samples, *_colors(adata, shown, first=tuple(queries)))
    evidence = read_evidence(adata.uns, cluster_key=cluster_key, clusters=names)
    data = ReportData(
        title=f"Clusters of {record['input']['source']}" + ("" if is_run else f" by {cluster_key}"),
        input=_input(record["input"], _outdated(adata.uns, grouped, cluster_key)),
        coverage=record.get("coverage"),
        layouts=read_layouts(cells, cluster_key, record),
        cell_ids=[str(name) for name in adata.obs_names],
        clusters=clusters,
        cluster_names=grouped.names,
        confidence=None if confidence is None else confidence.to_numpy(dtype=np.float64),
        colors=colors,
        left_out=left_out,
        queries=queries,
        searches=read_searches(adata.uns, cluster_key=cluster_key),
        gene_ids=_gene_ids(cells),
        samples=samples,
        mixing=read_mixing(record),
        composition=read_composition(adata.uns, cluster_key=cluster_key),
        effects=effects,
        names=read_names(adata.uns, cluster_key=cluster_key, clusters=names),
        evidence=evidence,
        tree=read_tree(adata.uns, cluster_key=cluster_key, clusters=names) if is_run else None,
        markers=tuple(read_markers(record["markers"], name) for name in names),
        words=tuple(read_words(record["words"], name) for name in names) if is_run else (),
        k_choice=record.get("n_clusters"),
        **{name: record[name] for name in ("history", "knowledge") if name in record},
        provenance=_provenance(record) | _later_jobs(adata, cluster_key),
        limits=LIMITS if is_run else (UNKNOWN_ORIGIN, *(LIMITS[1:3] if evidence else LIMITS[2:3])),
    )
    return _with_values(data, cells, record, asked=genes, most=most_genes)


def _input(record: Mapping[str, Any], outdated_notes: list[str]) -> dict[str, Any]:
    """Say what was read, in words; what each file gave is in a table."""
    files = read_files(record)
    in_table = set(map(str, files))
    return {
        **record,
        "source": str(record["source"]),
        "kind": VALUE_WORDS[str(record["value_kind"])],
        "notes": (*outdated_notes, *(note for note in map(str, record["notes"]) if note not in in_table)),
        "files": files,
    }


def _outdated(uns: Mapping[str, Any], grouped: GroupedCells, key: str) -> list[str]:
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


def _record(cells: AnyCells, grouped: GroupedCells, key: str) -> Mapping[str, Any]:
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
    if int(run["input"]["n_cells"]) != cells.shape[0] or _other_values(cells, run) or not len(markers):
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
            f"are at most {MOST_CLUSTERS} and fewer than the cells; name another column with --cluster-key (those "
            f"that look like clusters: {likely})"
        )


def _colors(
    adata: "AnnData", shown: Collection[str], *, first: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Further columns of obs that can colour the plot, ``first`` before others, and those that cannot, with why."""
    colors: dict[str, np.ndarray] = {}
    left_out = []
    for name in (*first, *(str(name) for name in adata.obs if name not in first)):
        column = adata.obs[name]
        if name in shown:
            continue
        n_values = column.nunique()
        if len(colors) == MOST_COLORS:
            left_out.append(f"{name} (after the first {MOST_COLORS} columns)")
        elif column.dtype.kind in "fiu":
            colors[name] = column.to_numpy(dtype=np.float64, na_value=np.nan)
        elif n_values <= MOST_CATEGORIES:
            colors[name] = np.where(column.isna(), "missing", column.astype(str)).astype(object)
        else:
            left_out.append(f"{name} ({n_values:,} different values, {MOST_CATEGORIES} are the most)")
    return colors, tuple(left_out)


def _sample_first(
    samples: Samples | None, colors: dict[str, np.ndarray], left_out: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Put the samples before other colours, of whatever kind their column is and however many they are."""
    if samples is None:
        return colors, left_out
    names = np.array([*(name for name, _ in samples.names), "missing"], dtype=object)  # -1 is the last one
    others = {name: values for name, values in colors.items() if name != samples.key}
    return {samples.key: names[samples.codes], **others}, tuple(
        why for why in left_out if not why.startswith(f"{samples.key} (")
    )


def _queries(adata: "AnnData") -> dict[str, str]:
    """Columns of obs that hold the scores of a `cellmodel search`, and its text."""
    queries = {}
    for key, record in sorted(adata.uns.items()):
        params = record.get("params", {}) if isinstance(record, Mapping) else {}
        if isinstance(params, Mapping) and "query" in params and key in adata.obs:
            queries[str(key)] = str(params["query"])
    return queries


def _with_values(
    data: ReportData, cells: AnyCells, record: Mapping[str, Any], *, asked: Sequence[str], most: int | None
) -> ReportData:
    """Add expression, or why there is none: genes asked for, markers, others that the report names, variable ones."""
    why = _other_values(cells, record)
    if why:
        log.warning("not shown: %s", why)
        return replace(data, left_out=(*data.left_out, why))
    markers = markers_in_turn(record["markers"], n_per_cluster=GENES_PER_CLUSTER)
    named = genes_named_in((*data.names, *data.evidence, *chain(*data.words), *data.searches))
    values = read_genes(
        cells,
        data.clusters,
        n_clusters=len(data.cluster_names),
        drawn=drawn_cells(data.clusters),
        first=(*asked, *markers, *genes_of(data.effects), *named),
        most=most,
    )
    return replace(data, values=values)


def _other_values(cells: AnyCells, record: Mapping[str, Any]) -> str:
    """Say how the values that were read differ from those that were clustered; nothing where they do not."""
    kind, n_genes = str(record["input"]["value_kind"]), int(record["input"]["n_genes"])
    found = cells.matrix.shape[1]
    if (found, str(cells.kind)) == (n_genes, kind):
        return ""
    return (
        f"genes (the values read now are {cells.kind} of {found:,} genes, those that were clustered {kind} of "
        f"{n_genes:,}; name the same with --layer or --use-raw)"
    )


def _gene_ids(cells: AnyCells) -> dict[str, int]:
    """GeneIDs that a run left in the file."""
    ids = cells.adata.var.get("cellmodel_gene_id")
    if ids is None or len(ids) != len(cells.names):
        return {}
    return {name: int(gene_id) for name, gene_id in zip(cells.names, ids.to_numpy(), strict=True) if gene_id > 0}


def _provenance(record: Mapping[str, Any]) -> dict[str, str]:
    parts = ("command", "clusters", "recipe", "seed", "store_id", "encoder_id")
    given = {part: str(record[part]) for part in parts if record.get(part, "") != ""}
    # files of earlier versions hold addresses as they were given
    content = {part.removesuffix("_id"): without_secrets(text) for part, text in given.items()}
    content |= _sentences(record["sentences"]) if "sentences" in record else {}
    content |= {f"version of {name}": str(value) for name, value in record["versions"].items()}
    return content | {key: value for key, value in _flat(record["params"]).items() if key not in content}


def _sentences(record: Mapping[str, Any]) -> dict[str, str]:
    """Describe how far pooled gene vectors agree with sentences that were encoded."""
    content = {"sentences read": f"{int(record['n_sentences']):,}, {float(record['share_read']):.0%} of their tokens"}
    for row in record["agreement"].itertuples():
        content[f"sentences, pooled ({row.pooled}) beside encoded"] = (
            f"rank correlation of cosines {row.similarity:.2f}, {row.neighbour_overlap:.0%} of the 15 nearest the same"
        )
    return content


def _later_jobs(adata: "AnnData", cluster_key: str) -> dict[str, str]:
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
