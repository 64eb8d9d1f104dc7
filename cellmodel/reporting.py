"""From the slots of an annotated AnnData to its HTML report."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cellmodel.errors import InputUnusable
from cellmodel.features import log_expression
from cellmodel.io import Cells, ReadConfig, read_cells
from cellmodel.layout import lay_out
from cellmodel.lineage import check_records
from cellmodel.report.data import (
    CoverageSummary,
    InputSummary,
    KChoice,
    KnowledgeEffect,
    ReportData,
    ReportExpression,
)
from cellmodel.report.evidence import read_evidence
from cellmodel.report.tables import leading_markers, read_markers, read_names, read_words

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

log = logging.getLogger(__name__)
MOST_COLORS: Final = 24
MOST_CATEGORIES: Final = 200  # the largest 60 get a colour
MOST_GENES: Final = 200  # whose expression the report holds; fewer where the cells are many
GENES_PER_CLUSTER: Final = 10
VALUE_WORDS: Final = {"counts": "raw counts", "log1p": "log-normalised", "linear": "linear, log-normalised by this run"}
CAPTION: Final = (
    "The clusters come from expression alone. The figure is the share of each cell's 15 nearest cells in the text view "
    "that are in its cluster: how much of these clusters the gene texts alone can see. 'shuffled' deals the texts out "
    "to other genes, 'random' draws directions without meaning, 'chance' deals the clusters out at random. Only what "
    "'real' has above all three is knowledge."
)
LIMITS: Final = (
    "Clusters are groups of similar cells, not cell types; no label was used to find them.",
    "Words say what the leading genes do, as their texts tell it; they are not a name of the cells, and well-studied "
    "genes have more to say. Judge them by the adjusted p value.",
    "Distances between far groups of the plot mean nothing; it is for looking, and nothing was computed from it.",
    "Confidence says how clearly a cell lies in its cluster, not whether the cluster is right.",
)


def report_file(
    path: Path,
    output: Path,
    *,
    key_added: str = "cellmodel",
    read: ReadConfig | None = None,
    overwrite: bool = False,
    other_store: bool = False,
) -> None:
    """Write the report of an annotated file.

    Parameters
    ----------
    read
        Where the values are that were clustered, for the expression of genes.
    other_store
        Whether names and evidence may come from another store than the clusters.

    Raises
    ------
    InputUnusable
        If the file holds no result under that name, or the output exists.
    NotCounts
        If its values are neither counts nor log-normalised.
    LineageMismatch
        If names or evidence come from another store than the clusters.
    """
    if output.exists() and not overwrite:
        raise InputUnusable(f"{output} exists; give another name, or --overwrite")
    cells = read_cells(path, read)
    check_records(cells, key=key_added, other_store=other_store)
    write_report_of(cells, output, key_added=key_added, overwrite=overwrite)


def write_report_of(
    cells: Cells,
    output: Path,
    *,
    key_added: str = "cellmodel",
    overwrite: bool = False,
) -> None:
    """Write the report of cells with a result in their AnnData.

    Raises
    ------
    InputUnusable
        If it holds no result under that name, or the output cannot be written.
    """
    from cellmodel.report.render import write_report

    data = report_data(cells, key_added=key_added)
    try:
        write_report(data, output, overwrite=overwrite)
    except OSError as error:
        raise InputUnusable(f"{output} cannot be written: {error.strerror or error}; write elsewhere") from error


def report_data(cells: Cells, *, key_added: str) -> ReportData:
    """Collect what a report shows from the slots of a run."""
    adata = cells.adata
    if key_added not in adata.uns or key_added not in adata.obs:
        raise InputUnusable(
            f"the cells hold no clusters under {key_added!r}; run `cellmodel cluster` first, "
            "or name them with --key-added"
        )
    record = adata.uns[key_added]
    categories = [str(name) for name in adata.obs[key_added].cat.categories]
    queries = _queries(adata)
    colors, left_out = _colors(adata, key_added, first=tuple(queries))
    expression, why_not = _expression(cells, record)
    return ReportData(
        title=f"Clusters of {record['input']['source']}",
        input=InputSummary(
            source=str(record["input"]["source"]),
            n_cells=int(record["input"]["n_cells"]),
            n_genes=int(record["input"]["n_genes"]),
            values=VALUE_WORDS[str(record["input"]["value_kind"])],
            notes=tuple(map(str, record["input"]["notes"])),
        ),
        coverage=_coverage(record),
        embedding=lay_out(
            np.asarray(adata.obsm[f"X_{key_added}_expr"]),
            adata.obsp[f"{key_added}_connectivities"],
            seed=int(record["seed"]),
        ),
        embedding_name="a neighbour embedding of the expression view",
        cell_ids=[str(name) for name in adata.obs_names],
        clusters=adata.obs[key_added].cat.codes.to_numpy().astype(np.int64),
        cluster_names=tuple(categories),
        confidence=adata.obs[f"{key_added}_confidence"].to_numpy(dtype=np.float64),
        colors=colors,
        left_out=(*left_out, *why_not),
        queries=queries,
        expression=expression,
        names=read_names(adata.uns, cluster_key=key_added, clusters=categories),
        evidence=read_evidence(adata.uns, cluster_key=key_added, clusters=categories),
        markers=tuple(read_markers(record["markers"], name) for name in categories),
        words=tuple(read_words(record["words"], name) for name in categories),
        k_choice=_k_choice(record),
        history=_history(record["history"]),
        knowledge=_knowledge(record),
        provenance=_provenance(record) | _later_jobs(adata, key_added),
        limits=LIMITS,
    )


def _coverage(record: Mapping[str, Any]) -> CoverageSummary | None:
    if "coverage" not in record:
        return None
    coverage = record["coverage"]
    status, losses = coverage["by_status"], coverage["losses"]
    return CoverageSummary(
        n_names=int(coverage["n_names"]),
        n_resolved=int(coverage["n_resolved"]),
        share_genes=float(coverage["share_genes"]),
        share_hvgs=float(coverage["share_hvgs"]),
        share_counts=min(1.0, float(coverage["share_counts"])),
        by_status=tuple(
            zip(
                status["status"].astype(str),
                map(int, status["n_names"]),
                map(float, status["share_counts"]),
                strict=True,
            )
        ),
        losses=tuple(
            zip(
                losses["name"].astype(str),
                losses["reason"].astype(str),
                map(float, losses["share_counts"]),
                strict=True,
            )
        ),
    )


def _colors(
    adata: "AnnData", key_added: str, *, first: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Columns of obs that can colour the plot, those of ``first`` before others, and those that cannot, with why."""
    colors: dict[str, np.ndarray] = {}
    left_out = []
    shown = {key_added, f"{key_added}_confidence"}
    for name in (*first, *(str(name) for name in adata.obs if name not in first)):
        column = adata.obs[name]
        if name in shown:
            continue
        n_values = column.nunique()
        if len(colors) == MOST_COLORS:
            left_out.append(f"{name} (after the first {MOST_COLORS} columns)")
        elif column.dtype.kind in "fiu":
            colors[name] = column.to_numpy(dtype=np.float64)
        elif n_values <= MOST_CATEGORIES:
            colors[name] = np.where(column.isna(), "missing", column.astype(str)).astype(object)
        else:
            left_out.append(f"{name} ({n_values:,} different values, {MOST_CATEGORIES} are the most)")
    return colors, tuple(left_out)


def _queries(adata: "AnnData") -> dict[str, str]:
    """Columns of obs that hold the scores of a `cellmodel search`, and its text."""
    queries = {}
    for key, record in sorted(adata.uns.items()):
        params = record.get("params", {}) if isinstance(record, Mapping) else {}
        if isinstance(params, Mapping) and "query" in params and key in adata.obs:
            queries[str(key)] = str(params["query"])
    return queries


def _expression(cells: Cells, record: Mapping[str, Any]) -> tuple[ReportExpression | None, tuple[str, ...]]:
    """Log expression of the leading markers, or why there is none."""
    clustered, found = (int(record["input"]["n_genes"]), str(record["input"]["value_kind"])), cells.matrix.shape[1]
    if (found, str(cells.kind)) != clustered:
        why = (
            f"genes (the values read now are {cells.kind} of {found:,} genes, those that were clustered {clustered[1]} "
            f"of {clustered[0]:,}; name the same with --layer or --use-raw)"
        )
        log.warning("not shown: %s", why)
        return None, (why,)
    counted: dict[str, list[int]] = {}
    for column, name in enumerate(cells.names):
        counted.setdefault(name, []).append(column)
    leading = leading_markers(record["markers"], n_per_cluster=GENES_PER_CLUSTER)
    genes = [name for name in leading if len(counted.get(name, ())) == 1][:MOST_GENES]
    if not genes:
        return None, ()
    values = log_expression(cells)[:, [counted[name][0] for name in genes]]
    return ReportExpression(genes=tuple(genes), values=values.tocsc()), ()


def _k_choice(record: Mapping[str, Any]) -> KChoice:
    choice = record["n_clusters"]
    curve = choice["curve"]
    return KChoice(
        chosen=int(choice["n_clusters"]),
        how=str(choice["method"]),
        score_name="stability beyond chance",
        curve=tuple((float(row.n_clusters), float(row.stability - row.null_mean)) for row in curve.itertuples())
        if "stability" in curve  # files of earlier versions hold another curve
        else (),
    )


def _history(table: "pd.DataFrame") -> dict[str, tuple[float, ...]]:
    return {str(name): tuple(map(float, table[name])) for name in table.columns} if len(table) else {}


def _knowledge(record: Mapping[str, Any]) -> KnowledgeEffect:
    table = record["knowledge"]
    if not len(table):
        return KnowledgeEffect(caption="")
    rows = tuple(
        (str(row.knowledge), {"neighbour agreement": float(row.neighbour_agreement)}) for row in table.itertuples()
    )
    return KnowledgeEffect(caption=CAPTION, rows=rows)


def _provenance(record: Mapping[str, Any]) -> dict[str, str]:
    content = {"command": str(record["command"])} if record.get("command") else {}
    content |= {"recipe": str(record["recipe"]), "seed": str(record["seed"])}
    for key in ("store_id", "encoder_id"):
        if key in record:
            content[key.removesuffix("_id")] = str(record[key])
    content |= _sentences(record["sentences"]) if "sentences" in record else {}
    content |= {f"version of {name}": str(value) for name, value in record["versions"].items()}
    return content | {key: value for key, value in _flat(record["params"]).items() if key not in content}


def _sentences(record: Mapping[str, Any]) -> dict[str, str]:
    """Tell how far pooled gene vectors agree with sentences that the encoder read."""
    content = {"sentences read": f"{int(record['n_sentences']):,}, {float(record['share_read']):.0%} of their tokens"}
    for row in record["agreement"].itertuples():
        content[f"sentences, pooled ({row.pooled}) beside encoded"] = (
            f"rank correlation of cosines {row.similarity:.2f}, {row.neighbour_overlap:.0%} of the 15 nearest the same"
        )
    return content


def _later_jobs(adata: "AnnData", key_added: str) -> dict[str, str]:
    """Tell what names, evidence and searches in the file were made with."""
    return {
        str(key): ", ".join(
            [f"{part} {record[part]}" for part in ("store_id", "encoder_id", "seed") if part in record]
            + [f"clusters made with {value}" for value in _flat(record.get("clusters_from", {})).values()]
        )
        for key, record in sorted(adata.uns.items())
        if isinstance(record, Mapping) and "store_id" in record and key != key_added
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
