"""Cells with the clusters that a file holds, and what a store knows of their genes: where every explanation starts."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int

import genekb
from cellmodel.align import GeneAlignment
from cellmodel.config import RunConfig
from cellmodel.errors import InputUnusable
from cellmodel.features import log_expression
from cellmodel.io import Cells, ReadConfig, is_whole, obs_columns, read_cells
from cellmodel.preprocess import detected_genes
from cellmodel.types import CellByGene, Labels
from cellmodel.views import align_cells
from genekb.hints import MOST_NAMES

log = logging.getLogger(__name__)
MOST_CLUSTERS: Final = 200  # that a column of groups has; more are measured values, or names of cells


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClusteredCells:
    """The cells that have a cluster, and the genes that they express.

    Parameters
    ----------
    cells
        All that was read.
    rows
        (cell,) rows of ``cells`` that have a cluster; all below is of these.
    names
        Name of each cluster, in the order of a categorical, else of the alphabet with numbers as numbers.
    labels
        (cell,) place of each cell's cluster in ``names``.
    expression
        (cell, gene) log-normalised.
    columns
        (gene,) columns of ``cells`` that are seen in any of these cells.
    gene_names
        Their names.
    alignment
        What the store knows of these genes; its coverage is that of all genes. None without a store.
    """

    cells: Cells
    rows: Int[np.ndarray, " cell"]
    names: tuple[str, ...]
    labels: Labels
    expression: CellByGene
    columns: Int[np.ndarray, " gene"]
    gene_names: tuple[str, ...]
    alignment: GeneAlignment | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GroupedCells:
    """Which cells have a cluster, and which; as in :class:`ClusteredCells`."""

    rows: Int[np.ndarray, " cell"]
    names: tuple[str, ...]
    labels: Labels


def read_clustered(
    path: Path, kb: genekb.Store | None, config: RunConfig, *, cluster_key: str, read: ReadConfig
) -> ClusteredCells:
    """Read cells and their clusters from a file.

    Raises
    ------
    InputUnusable
        If the column of clusters is missing, or fewer than two clusters have a cell.
    AlignmentTooLow
        If too few genes are known to the store.
    """
    return clustered(read_cells(path, read), kb, config, cluster_key=cluster_key)


def clustered(cells: Cells, kb: genekb.Store | None, config: RunConfig, *, cluster_key: str) -> ClusteredCells:
    """Take the clusters of cells that are read already; see :func:`read_clustered`."""
    grouped = group_cells(cells, cluster_key)
    columns = np.flatnonzero(detected_genes(cells.matrix[grouped.rows], min_cells=1))
    return ClusteredCells(
        cells=cells,
        rows=grouped.rows,
        names=grouped.names,
        labels=grouped.labels,
        expression=log_expression(cells)[grouped.rows][:, columns],
        columns=columns,
        gene_names=tuple(cells.names[column] for column in columns),
        alignment=None if kb is None else align_cells(cells, kb, config).take(columns),
    )


def group_cells(cells: Cells, cluster_key: str, *, least: int = 2) -> GroupedCells:
    """Take the clusters alone of cells that are read already; see :func:`read_clustered`.

    Raises
    ------
    InputUnusable
        If the column is missing, or fewer than ``least`` clusters have a cell.
    """
    found = np.array(_column(cells, cluster_key), dtype=object)
    rows = np.flatnonzero(found != "")
    if len(rows) < len(found):
        log.warning("%d of %d cells have no %s and are left out", len(found) - len(rows), len(found), cluster_key)
    names = _in_order(cells, cluster_key, set(found[rows]))
    if not names:
        raise InputUnusable(
            f"column {cluster_key!r} of {cells.source} holds no cluster: all of its {len(found):,} values are missing; "
            "name another column with --cluster-key"
        )
    if len(names) < least:
        raise InputUnusable(
            f"column {cluster_key!r} of {cells.source} holds {len(names)} cluster; a cluster is told by what sets it "
            "apart from others, so two are needed"
        )
    place = {name: number for number, name in enumerate(names)}
    return GroupedCells(rows=rows, names=names, labels=np.array([place[name] for name in found[rows]], dtype=np.int64))


def _column(cells: Cells, cluster_key: str) -> list[str]:
    likely = ", ".join(cluster_columns(cells))
    hint = "run `cellmodel cluster` first, or name a column with --cluster-key"
    hint += f" (those that look like clusters: {likely})" if likely else ""
    return obs_columns(cells.adata, [cluster_key], source=cells.source, hint=hint)[cluster_key]


def cluster_columns(cells: Cells) -> list[str]:
    """Columns of obs that may hold clusters: at least two values, and fewer than cells; no measured numbers."""
    obs, found = cells.adata.obs, []
    for name in obs:
        values = obs[name].dropna()
        is_measured = values.dtype.kind == "f" and not is_whole(values)
        if 2 <= values.nunique() <= min(MOST_CLUSTERS, len(values) - 1) and not is_measured:  # noqa: PLR2004
            found.append(str(name))
    return found[:MOST_NAMES]


def _in_order(cells: Cells, cluster_key: str, present: set[str]) -> tuple[str, ...]:
    """Names of the clusters, as a categorical orders them, else with the numbers in them read as numbers."""
    column = cells.adata.obs[cluster_key]
    if hasattr(column, "cat"):
        return tuple(name for name in map(str, column.cat.categories) if name in present)
    by_number = re.compile(r"\d+")
    return tuple(sorted(present, key=lambda name: by_number.sub(lambda digits: digits[0].zfill(12), name)))
