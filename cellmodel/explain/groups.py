"""Groups of cells: the clusters of a file, their comparisons, and what a store knows of their genes."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Int

import genekb
from cellmodel.cluster.structure import Tree, tree_of_linkage
from cellmodel.core.arrays import CellByGene, Labels
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.io.backed import AnyCells
from cellmodel.io.cells import Cells, is_whole, obs_columns
from cellmodel.io.records import stored_table
from cellmodel.pp.moments import detected_genes
from cellmodel.pp.normalize import log_expression
from cellmodel.pp.text.align import GeneAlignment, align_cells
from genekb.core.messages import MOST_NAMES, known_names

log = logging.getLogger(__name__)
MOST_CLUSTERS: Final = 200  # that a column of groups has; more are measured values, or names of cells


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GroupedCells:
    """Which cells have a cluster, and which."""

    rows: Int[np.ndarray, " cell"]  # (cell,) rows of the cells that have a cluster; all below is of these
    # name of each cluster, in the order of a categorical, else of the alphabet with numbers as numbers
    names: tuple[str, ...]
    labels: Labels  # (cell,) place of each cell's cluster in ``names``


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClusteredCells(GroupedCells):
    """The cells that have a cluster, and the genes that they express."""

    cells: Cells  # all that was read
    expression: CellByGene  # (cell, gene) log-normalized
    columns: Int[np.ndarray, " gene"]  # (gene,) columns of ``cells`` that are seen in any of these cells
    gene_names: tuple[str, ...]  # their names
    # what the store knows of these genes; its coverage is that of all genes. None without a store
    alignment: GeneAlignment | None

    @property
    def known(self) -> GeneAlignment:
        """What the store knows of these genes; ``ValueError`` without a store."""
        if self.alignment is None:
            raise ValueError("the cells are not aligned with a store, which this needs; give one")
        return self.alignment


def clustered(cells: Cells, kb: genekb.Store | None, config: RunConfig, *, cluster_key: str) -> ClusteredCells:
    """Take the clusters of cells; ``InputUnusable`` if their column is missing, or fewer than two have a cell."""
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


def group_cells(cells: AnyCells, cluster_key: str, *, least: int = 2) -> GroupedCells:
    """Group cells by a column of clusters; those without one are left out."""
    found = np.array(_column(cells, cluster_key), dtype=object)
    rows = np.flatnonzero(found != "")
    if len(rows) < len(found):
        log.warning("%d of %d cells have no %s and are left out", len(found) - len(rows), len(found), cluster_key)
    names = _in_order(cells, cluster_key, set(found[rows]))
    if not names:
        raise InputUnusable(
            f"column {cluster_key!r} of {cells.source} holds no cluster: all of its {len(found):,} values are missing; "
            "name another column with `cluster_key`"
        )
    if len(names) < least:
        raise InputUnusable(
            f"column {cluster_key!r} of {cells.source} holds {len(names)} cluster; a cluster is described by its "
            "difference from others, so two are needed"
        )
    place = {name: number for number, name in enumerate(names)}
    return GroupedCells(rows=rows, names=names, labels=np.array([place[name] for name in found[rows]], dtype=np.int64))


def _column(cells: AnyCells, cluster_key: str) -> list[str]:
    likely = ", ".join(cluster_columns(cells))
    hint = "run `cellmodel cluster` first, or name a column with `cluster_key`"
    hint += f" (those that look like clusters: {likely})" if likely else ""
    return obs_columns(cells.adata, [cluster_key], source=cells.source, hint=hint)[cluster_key]


def cluster_columns(cells: AnyCells) -> list[str]:
    """Columns of obs that may hold clusters: at least two values, and fewer than cells; no measured numbers."""
    obs, found = cells.adata.obs, []
    for name in obs:
        values = obs[name].dropna()
        is_measured = values.dtype.kind == "f" and not is_whole(values)
        if 2 <= values.nunique() <= min(MOST_CLUSTERS, len(values) - 1) and not is_measured:  # noqa: PLR2004
            found.append(str(name))
    return found[:MOST_NAMES]


def _in_order(cells: AnyCells, cluster_key: str, present: set[str]) -> tuple[str, ...]:
    """Names of the clusters, as a categorical orders them, else with the numbers in them read as numbers."""
    column = cells.adata.obs[cluster_key]
    if hasattr(column, "cat"):
        return tuple(name for name in map(str, column.cat.categories) if name in present)
    by_number = re.compile(r"\d+")
    return tuple(sorted(present, key=lambda name: by_number.sub(lambda digits: digits[0].zfill(12), name)))


def stored_tree(uns: Mapping[str, Any], key: str, names: Sequence[str]) -> tuple[Tree, tuple[int, ...]] | None:
    """Tree of the clusters of a run, and the numbers of groups of its levels.

    None where there is none that is whole, or it is of other clusters than ``names``: ``uns`` may hold anything.
    """
    record = uns.get(key)
    kept = record.get("tree") if isinstance(record, Mapping) else None
    splits = stored_table(kept, "splits", columns=("support",))
    if not isinstance(kept, Mapping) or splits is None or not isinstance(record, Mapping):
        return None
    try:
        tree = tree_of_linkage(np.asarray(kept["linkage"], dtype=np.float64), splits["support"].tolist())
        levels = tuple(int(n_groups) for n_groups in kept["levels"])
        own = tuple(map(str, record["n_clusters"]["names"]))
    except (KeyError, TypeError, ValueError):
        return None
    is_whole = own == tuple(names) and len(own) == tree.n_clusters and all(1 <= n <= tree.n_clusters for n in levels)
    return (tree, levels) if is_whole else None


REST = "rest"
_MIN_CELLS = 3  # on either side


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """A group of cells, and what it is compared with."""

    cluster: str  # name of the cluster
    condition: str  # condition of the cells within that cluster; empty where all its cells are meant
    # the cluster of ``between``, or the one other condition, that it is compared with; else ``rest``, all others
    against: str
    n_cells: int  # n_cells, n_against: cells on either side
    n_against: int
    group: int  # label of the group among those of the comparison


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Comparison:
    """Cells in groups, and which groups are compared with the others."""

    rows: Int[np.ndarray, " cell"]  # (cell,) rows of the clustered cells
    labels: Labels  # (cell,) group of each, 0 .. k-1
    contrasts: tuple[Contrast, ...]  # one for each group that is large enough, as its rest is
    samples: Labels | None = None  # (cell,) replicate of each, where means are over replicates and not over cells


def compare_clusters(found: ClusteredCells, *, between: tuple[str, str] | None = None) -> tuple[Comparison, ...]:
    """Compare every cluster with the rest, or two clusters with one another."""
    if between is None:
        rows, labels, names = np.arange(len(found.labels)), found.labels, found.names
    else:
        if between[0] == between[1]:
            raise InputUnusable(f"{between[0]!r} is compared with itself; name two clusters")
        places = [_place(name, found.names) for name in between]
        rows = np.flatnonzero(np.isin(found.labels, places))
        labels, names = (found.labels[rows] == places[1]).astype(np.int64), between
    contrasts = _contrasts(labels, names, is_against_rest=between is None)
    return _not_empty((Comparison(rows=rows, labels=labels, contrasts=contrasts),), found)


def compare_conditions(
    found: ClusteredCells, *, condition_key: str, cluster: str | None = None
) -> tuple[Comparison, ...]:
    """Compare the conditions inside each cluster, or inside one; cells without a condition are left out."""
    adata = found.cells.adata
    every = np.array(obs_columns(adata, [condition_key], source=found.cells.source)[condition_key], dtype=object)
    values = every[found.rows]
    names = tuple(sorted(set(values) - {""}))
    if len(names) < 2:  # noqa: PLR2004 - one condition has no other
        raise InputUnusable(
            f"column {condition_key!r} of {found.cells.source} holds {len(names)} condition; two are needed, name "
            "another column with `condition_key`"
        )
    clusters = range(len(found.names)) if cluster is None else [_place(cluster, found.names)]
    comparisons = []
    for place in clusters:
        rows = np.flatnonzero((found.labels == place) & (values != ""))
        present, labels = np.unique(values[rows].astype(str), return_inverse=True)
        contrasts = _contrasts(labels, present.tolist(), cluster=found.names[place])
        comparisons.append(Comparison(rows=rows, labels=labels, contrasts=contrasts))
    return _not_empty(tuple(comparisons), found)


def _contrasts(
    labels: Labels, names: Sequence[str], *, cluster: str | None = None, is_against_rest: bool = False
) -> tuple[Contrast, ...]:
    """Every group with enough cells on both sides; groups are the conditions of ``cluster``, else clusters."""
    sizes = np.bincount(labels, minlength=len(names)).tolist()
    contrasts = []
    for group, (name, n_cells) in enumerate(zip(names, sizes, strict=True)):
        n_against, others = sum(sizes) - n_cells, [other for other in names if other != name]
        if min(n_cells, n_against) < _MIN_CELLS:
            what = f"cluster {name!r}" if cluster is None else f"{name!r} in cluster {cluster!r}"
            log.warning("%s: %d cells, %d on the other side; left out", what, n_cells, n_against)
            continue
        contrasts.append(
            Contrast(
                cluster=name if cluster is None else cluster,
                condition="" if cluster is None else name,
                against=REST if is_against_rest or len(others) != 1 else others[0],
                n_cells=n_cells,
                n_against=n_against,
                group=group,
            )
        )
    return tuple(contrasts)


def _not_empty(comparisons: tuple[Comparison, ...], found: ClusteredCells) -> tuple[Comparison, ...]:
    kept = tuple(one for one in comparisons if one.contrasts)
    if not kept:
        raise InputUnusable(
            f"{found.cells.source} has no group with {_MIN_CELLS} cells or more on both sides; compare larger ones"
        )
    return kept


def _place(name: str, names: Sequence[str]) -> int:
    """Place of a cluster among the names."""
    if name in names:
        return names.index(name)
    raise InputUnusable(f"there is no cluster {name!r} (there are: {known_names(name, names)})")
