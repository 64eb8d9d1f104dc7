"""Names of clusters from lists of marker genes: the overlap of a cluster's own markers with the genes of each type."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cellmodel.annotate.candidates import Panel
from cellmodel.annotate.cell_types import UNASSIGNED
from cellmodel.core.arrays import Labels
from cellmodel.core.errors import InputUnusable
from cellmodel.explain.enrichment import adjusted_p, overlap
from cellmodel.explain.groups import GroupedCells
from cellmodel.explain.markers import MarkerTable, rank_markers, upregulated
from cellmodel.io.cells import Cells
from cellmodel.pp.moments import detected_genes
from cellmodel.pp.normalize import log_expression

_N_MARKERS, _MIN_OVERLAP = 50, 2  # markers of a cluster at most, and genes that it shares with its type at least
_MAX_P = 0.05  # adjusted p value up to which a gene is a marker, and up to which a cluster is named


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterName:
    """Name of one cluster, and what speaks for it."""

    cluster: int  # the label of the cluster
    name: str  # the type with the smallest p value, or ``unassigned`` where its overlap is weak
    # best, runner_up: the two types with the smallest p values, whether or not they are weak; ``runner_up`` is None
    # where the panel has one type
    best: str
    runner_up: str | None
    # p_value, p_adjusted: of ``best``: hypergeometric, and after Benjamini-Hochberg over all clusters and types
    p_value: float
    p_adjusted: float
    runner_up_p_adjusted: float  # the same of ``runner_up``; 1 where there is none
    genes: tuple[str, ...]  # genes that ``best`` shares with the cluster, best marker first
    n_markers: int  # n_markers, n_panel: markers that the cluster has, and genes of ``best`` among those measured
    n_panel: int
    reason: str = ""  # why ``best`` is rejected, such as ``1 of 2 shared genes``; empty where it is the name


def display_name(name: str, *, best: str, reason: str, mix: str = "") -> str:
    """Name as it is shown: an unassigned one with its best type, that of a mixed cluster with those of its cells.

    ``unassigned (best: pit cell, 3 of 10 markers)``, ``T cell (55 % memory CD4 T cell, 40 % cytotoxic CD8 T cell)``.
    """
    rejected = ", ".join(filter(None, (best, reason))) if name == UNASSIGNED else ""
    more = f"best: {rejected}" if rejected else mix
    return f"{name} ({more})" if more else name


def cluster_rows(clusters: Sequence[str], labels: Labels, names: Sequence[Any]) -> list[dict[str, Any]]:
    """One row a cluster: its name and size, and what is known of it."""
    sizes = np.bincount(labels).tolist()
    return [
        {"cluster": cluster, "n_cells": size} | {key: part for key, part in asdict(one).items() if key != "cluster"}
        for cluster, size, one in zip(clusters, sizes, names, strict=True)
    ]


def name_clusters(
    markers: Sequence[MarkerTable], panel: Mapping[str, Sequence[str]], *, background: Sequence[str]
) -> tuple[ClusterName, ...]:
    """Name clusters by their markers, see :func:`name_gene_lists`.

    ``background``: names of all genes that ``markers`` were ranked among.
    """
    names = [[marker.name for marker in upregulated(table.markers, max_p=_MAX_P)] for table in markers]
    named = name_gene_lists([tuple(dict.fromkeys(each)) for each in names], panel, background=background)
    return tuple(replace(one, cluster=table.cluster) for one, table in zip(named, markers, strict=True))


def name_gene_lists(
    chosen: Sequence[tuple[str, ...]], panel: Mapping[str, Sequence[str]], *, background: Sequence[str]
) -> tuple[ClusterName, ...]:
    """Name lists of genes by the types of a panel whose genes are over-represented among them.

    P values are adjusted over all lists and types; ties go to the type with more shared genes, then to the first.
    ``background``: names of all genes that a list could hold.
    """
    measured = frozenset(background)
    types = {name: measured & set(genes) for name, genes in panel.items()}
    if not any(types.values()):
        raise InputUnusable(
            f"0 genes of the panel's {len(panel)} types are among the {len(measured)} measured; are both lists of the "
            "same species and spelling?"
        )
    shared, p = overlap(chosen, list(types.values()), measured=tuple(measured))
    adjusted = adjusted_p(p)
    return tuple(
        _name(row, found, types, tests=(shared[row], p[row], adjusted[row])) for row, found in enumerate(chosen)
    )


def _name(
    cluster: int,
    found: tuple[str, ...],
    types: Mapping[str, frozenset[str]],
    *,
    tests: tuple[Int[np.ndarray, " type"], Float[np.ndarray, " type"], Float[np.ndarray, " type"]],
) -> ClusterName:
    """Order the types for one cluster, and name it by the first if that is strong enough."""
    shared, p, adjusted = tests
    order = np.lexsort((-shared, p))  # stable: equal types in the order of the panel
    names = list(types)
    first, second = int(order[0]), int(order[1]) if len(order) > 1 else None
    reason = ""
    if shared[first] < _MIN_OVERLAP:
        reason = f"{shared[first]} of {_MIN_OVERLAP} shared genes"
    elif adjusted[first] > _MAX_P:
        reason = f"adjusted p {adjusted[first]:.2g}"
    return ClusterName(
        cluster=cluster,
        name=UNASSIGNED if reason else names[first],
        best=names[first],
        runner_up=None if second is None else names[second],
        p_value=float(p[first]),
        p_adjusted=float(adjusted[first]),
        runner_up_p_adjusted=1.0 if second is None else float(adjusted[second]),
        genes=tuple(gene for gene in found if gene in types[names[first]]),
        n_markers=len(found),
        n_panel=len(types[names[first]]),
        reason=reason,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Naming:
    """Clusters of cells, and what they were named."""

    found: GroupedCells  # the cells that have a cluster
    names: tuple[ClusterName, ...]  # one a cluster

    def rows(self) -> list[dict[str, Any]]:
        """One row a cluster, for a table or JSON."""
        return cluster_rows(self.found.names, self.found.labels, self.names)


def name_cells(cells: Cells, grouped: GroupedCells, panel: Panel) -> Naming:
    """Rank the markers of each cluster and name it by the panel."""
    expression = log_expression(cells)[grouped.rows]
    detected = np.flatnonzero(detected_genes(expression, min_cells=1))
    measured = [cells.names[column] for column in detected]
    tables = rank_markers(expression[:, detected], grouped.labels, gene_names=measured, n_top=_N_MARKERS, order="t")
    return Naming(found=grouped, names=name_clusters(tables, panel, background=measured))
