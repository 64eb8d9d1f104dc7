"""Collect what a report shows, from the slots of an annotated AnnData and its values."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pandas.api.types import is_numeric_dtype

from cellmodel.annotate.cell_types import usual_types
from cellmodel.explain.groups import group_cells
from cellmodel.io.backed import AnyCells
from cellmodel.pl.report.collect.data import ReportData, Samples, drawn_cells
from cellmodel.pl.report.collect.genes import (
    GENES_PER_CLUSTER,
    MOST_GENES,
    Genes,
    asked_genes,
    genes_named_in,
    read_genes,
)
from cellmodel.pl.report.collect.layouts import read_layouts
from cellmodel.pl.report.collect.record import later_jobs, other_values, outdated_notes, provenance, record_of
from cellmodel.pl.report.collect.samples import (
    find_samples,
    genes_of,
    read_composition,
    read_effects,
    read_mixing,
)
from cellmodel.pl.report.collect.tables import (
    markers_in_turn,
    read_evidence,
    read_files,
    read_markers,
    read_names,
    read_searches,
    read_tree,
    read_words,
)

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)
MOST_COLORS: Final = 24
MOST_CATEGORIES: Final = 200  # the largest 60 get a color
VALUE_WORDS: Final = {"counts": "raw counts", "log1p": "log-normalized", "linear": "linear, log-normalized by this run"}
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


def shown_places(cluster_key: str, keys: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Name what a report needs of a large file: all records, maps of the cells, and the graph of the run."""
    yield from (f"uns/{key}" for key in keys.get("uns", ()))
    run = f"X_{cluster_key}"
    large = {run, f"{run}_joint", f"{run}_text"}
    yield from (f"obsm/{key}" for key in keys.get("obsm", ()) if key not in large)
    yield f"obsp/{cluster_key}_connectivities"


def report_data(
    cells: AnyCells,
    *,
    cluster_key: str,
    sample_key: str | None = None,
    genes: Genes = (),
    most_genes: int | None = MOST_GENES,
) -> ReportData:
    """Collect what a report shows: from the record of a run, else from the column of clusters and the values alone.

    ``most_genes``: how many genes are offered; None for all.
    """
    asked, adata = asked_genes(cells, genes), cells.adata
    grouped = group_cells(cells, cluster_key, least=1)
    names = list(grouped.names)
    record = record_of(cells, grouped, cluster_key)
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
        input=_input(record["input"], outdated_notes(adata.uns, grouped, cluster_key)),
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
        provenance=provenance(record) | later_jobs(adata, cluster_key),
        limits=LIMITS if is_run else (UNKNOWN_ORIGIN, *(LIMITS[1:3] if evidence else LIMITS[2:3])),
    )
    return _with_values(data, cells, record, asked=asked, most=most_genes)


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


def _colors(
    adata: "AnnData", shown: Collection[str], *, first: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Further columns of obs that can color the plot, ``first`` before others, and those that cannot, with why."""
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
    """Put the samples before other colors, of whatever kind their column is and however many they are."""
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
    """Add expression, or why there is none: genes asked for, markers, others named, of cell types, variable."""
    why = other_values(cells, record)
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
        asked=asked,
        more=(*markers, *genes_of(data.effects), *named, *chain(*(one.genes for one in usual_types()))),
        most=most,
    )
    obs = cells.adata.obs
    columns = {name: obs[name] for name in values.quality if name in obs and is_numeric_dtype(obs[name])}
    given = {name: column.to_numpy(np.float64) for name, column in columns.items() if np.isfinite(column).all()}
    quality = {**values.quality, **given}
    return replace(data, values=replace(values, quality=quality), colors={**data.colors, **quality})


def _gene_ids(cells: AnyCells) -> dict[str, int]:
    """GeneIDs that a run left in the file."""
    ids = cells.adata.var.get("cellmodel_gene_id")
    if ids is None or len(ids) != len(cells.names):
        return {}
    return {name: int(gene_id) for name, gene_id in zip(cells.names, ids.to_numpy(), strict=True) if gene_id > 0}
