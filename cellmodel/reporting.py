"""From the slots of an annotated AnnData to its HTML report."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cellmodel.errors import InputUnusable
from cellmodel.layout import lay_out
from cellmodel.readers import read_anndata
from cellmodel.report.data import (
    CoverageSummary,
    InputSummary,
    KChoice,
    KnowledgeEffect,
    ReportData,
    ReportMarker,
    ReportWord,
)

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

MOST_COLORS: Final = 12
MOST_CATEGORIES: Final = 60
MOST_MARKERS: Final = 15
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


def report_file(path: Path, output: Path, *, key_added: str = "cellmodel", overwrite: bool = False) -> None:
    """Write the report of an annotated file.

    Raises
    ------
    InputUnusable
        If the file holds no result under that name, or the output exists.
    """
    if output.exists() and not overwrite:
        raise InputUnusable(f"{output} exists; give another name, or --overwrite")
    adata = read_anndata(path)
    write_report_of(adata, output, key_added=key_added, overwrite=overwrite)


def write_report_of(
    adata: "AnnData",
    output: Path,
    *,
    key_added: str = "cellmodel",
    overwrite: bool = False,
    provenance: Mapping[str, str] | None = None,
) -> None:
    """Write the report of an annotated AnnData.

    Raises
    ------
    InputUnusable
        If it holds no result under that name, or the output cannot be written.
    """
    from cellmodel.report.render import write_report

    data = report_data(adata, key_added=key_added, provenance=provenance or {})
    try:
        write_report(data, output, overwrite=overwrite)
    except OSError as error:
        raise InputUnusable(f"{output} cannot be written: {error.strerror or error}; write elsewhere") from error


def report_data(adata: "AnnData", *, key_added: str, provenance: Mapping[str, str]) -> ReportData:
    """Collect what a report shows from the slots of a run."""
    if key_added not in adata.uns or key_added not in adata.obs:
        raise InputUnusable(
            f"the cells hold no clusters under {key_added!r}; run `cellmodel cluster` first, "
            "or name them with --key-added"
        )
    record = adata.uns[key_added]
    categories = [str(name) for name in adata.obs[key_added].cat.categories]
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
        colors=_colors(adata, key_added),
        markers=tuple(_markers(record["markers"], name) for name in categories),
        words=tuple(_words(record["words"], name) for name in categories),
        k_choice=_k_choice(record),
        history=_history(record["history"]),
        knowledge=_knowledge(record),
        provenance=dict(provenance) | _provenance(record),
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


def _colors(adata: "AnnData", key_added: str) -> dict[str, np.ndarray]:
    """Columns of obs that can colour the plot: numbers, and categories that are not too many."""
    colors: dict[str, np.ndarray] = {}
    for name in adata.obs:
        if str(name).startswith(key_added) or len(colors) == MOST_COLORS:
            continue
        column = adata.obs[name]
        if column.dtype.kind in "fiu":
            colors[str(name)] = column.to_numpy(dtype=np.float64)
        elif column.nunique() <= MOST_CATEGORIES:
            colors[str(name)] = column.astype(str).to_numpy(dtype=object)
    return colors


def _markers(table: "pd.DataFrame", cluster: str) -> tuple[ReportMarker, ...]:
    if not len(table):
        return ()
    shown = ("name", "log2_fold_change", "p_adjusted", "fraction_in", "fraction_out")
    rows = table.loc[table["cluster"] == cluster, list(shown)].head(MOST_MARKERS)
    return tuple(ReportMarker(**{str(key): value for key, value in row.items()}) for row in rows.to_dict("records"))


def _words(table: "pd.DataFrame", cluster: str) -> tuple[ReportWord, ...]:
    if not len(table):
        return ()
    words = []
    for term, rows in table[table["cluster"] == cluster].groupby("term", sort=False):
        first: Any = rows.iloc[0]
        genes = zip(rows["gene"].astype(str), map(float, rows["weight"]), rows["sentence"].astype(str), strict=True)
        scores = {name: float(first[name]) for name in ("score", "p_value", "p_adjusted")}
        words.append(ReportWord(term=str(term), genes=tuple(genes), **scores))
    return tuple(words)


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
    content = {"recipe": str(record["recipe"]), "seed": str(record["seed"])}
    for key in ("store_id", "encoder_id"):
        if key in record:
            content[key.removesuffix("_id")] = str(record[key])
    content |= {f"version of {name}": str(value) for name, value in record["versions"].items()}
    return content | {key: value for key, value in _flat(record["params"]).items() if key not in content}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
