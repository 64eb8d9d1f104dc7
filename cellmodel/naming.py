"""Names for the clusters of a file from a user's marker genes: read, named, written beside the clusters."""

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cellmodel.clustered import GroupedCells, group_cells
from cellmodel.errors import InputUnusable
from cellmodel.features import log_expression
from cellmodel.files import WriteConfig, check_outputs
from cellmodel.io import Cells, ReadConfig, claim_slots, read_cells
from cellmodel.marker_names import ClusterName, NamingConfig, name_clusters
from cellmodel.markers import rank_markers
from cellmodel.preprocess import detected_genes
from cellmodel.writers import h5ad_safe, write_cells

Panel = dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Naming:
    """Clusters of a file, in the order of ``names``, and what they were named."""

    clusters: tuple[str, ...]
    n_cells: tuple[int, ...]
    names: tuple[ClusterName, ...]


def read_panel(path: Path) -> Panel:
    """Read marker genes by type: JSON of type → genes, or a .tsv or .csv with the columns ``cell_type`` and ``gene``.

    Raises
    ------
    InputUnusable
        If the file cannot be read as one of these, or names no gene.
    """
    try:
        panel = _from_json(path) if path.suffix == ".json" else _from_table(path)
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise InputUnusable(f"{path} cannot be read as marker genes: {str(error)[:200]}") from error
    if not any(panel.values()):
        raise InputUnusable(f"{path} names no gene; give a gene a line under the columns cell_type and gene")
    return panel


def _from_json(path: Path) -> Panel:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not all(isinstance(genes, list) for genes in content.values()):
        raise ValueError("it is no object of type → list of genes")
    odd = next((name for name, genes in content.items() if not all(isinstance(gene, str) for gene in genes)), None)
    if odd is not None:
        raise ValueError(f"a gene of {odd[:40]!r} is no text")
    return {name: tuple(genes) for name, genes in content.items()}


def _from_table(path: Path) -> Panel:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream, delimiter="," if path.suffix == ".csv" else "\t")
        if not {"cell_type", "gene"} <= set(rows.fieldnames or ()):
            raise ValueError(f"its columns are {', '.join(rows.fieldnames or ()) or 'none'}, not cell_type and gene")
        panel: dict[str, list[str]] = {}
        for row in rows:
            if not row["cell_type"] or not row["gene"]:
                raise ValueError(f"line {rows.line_num} has no {'gene' if row['cell_type'] else 'cell_type'}")
            panel.setdefault(row["cell_type"], []).append(row["gene"])
    return {name: tuple(genes) for name, genes in panel.items()}


def name_cells(cells: Cells, grouped: GroupedCells, panel: Panel, *, config: NamingConfig | None = None) -> Naming:
    """Rank the markers of each cluster and name it by the panel.

    Raises
    ------
    InputUnusable
        If no gene of the panel was measured.
    """
    settings = config or NamingConfig()
    expression = log_expression(cells)[grouped.rows]
    detected = np.flatnonzero(detected_genes(expression, min_cells=1))
    measured = [cells.names[column] for column in detected]
    tables = rank_markers(expression[:, detected], grouped.labels, gene_names=measured, n_top=settings.n_markers)
    return Naming(
        clusters=grouped.names,
        n_cells=tuple(np.bincount(grouped.labels).tolist()),
        names=name_clusters(tables, panel, background=measured, config=settings),
    )


def annotate_file(path: Path, panel: Panel, *, cluster_key: str, read: ReadConfig, write: WriteConfig) -> Naming:
    """Name the clusters of a file and write ``obs["<key>"]`` and the evidence, ``uns["<key>"]``.

    Raises
    ------
    InputUnusable
        If the column of clusters is missing, or an output cannot be written.
    """
    import pandas as pd

    check_outputs(write, inputs=(path,))
    cells = read_cells(path, read)
    adata, key = cells.adata, write.key_added
    grouped = group_cells(cells, cluster_key)
    claim_slots(adata, [("obs", key), ("uns", key)], overwrite=write.overwrite)
    found = name_cells(cells, grouped, panel)
    filled = np.full(adata.n_obs, None, dtype=object)
    filled[grouped.rows] = [found.names[label].name for label in grouped.labels.tolist()]
    adata.obs[key] = pd.Categorical(filled)
    adata.uns[key] = h5ad_safe({"cluster_key": cluster_key, "names": _frame(found)})
    write_cells(adata, write.output, source=path, overwrite=write.overwrite)
    return found


def _frame(found: Naming) -> object:
    import pandas as pd

    rows = [
        asdict(one) | {"cluster": cluster, "n_cells": n_cells, "genes": ", ".join(one.genes)}
        for cluster, n_cells, one in zip(found.clusters, found.n_cells, found.names, strict=True)
    ]
    return pd.DataFrame(rows)
