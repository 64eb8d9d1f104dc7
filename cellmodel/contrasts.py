"""Groups of cells that are told apart: each cluster from the rest, one from another, conditions inside a cluster."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from cellmodel.clustered import ClusteredCells
from cellmodel.errors import InputUnusable
from cellmodel.io import obs_columns
from cellmodel.types import Labels
from genekb.hints import known_names

log = logging.getLogger(__name__)
REST = "rest"
_MIN_CELLS = 3  # on either side


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """A group of cells, and what it is compared with.

    Parameters
    ----------
    cluster
        Name of the cluster.
    condition
        Condition of the cells within that cluster; empty where all its cells are meant.
    against
        The cluster of ``between``, or the one other condition, that it is compared with; else ``rest``, all others.
    n_cells, n_against
        Cells on either side.
    group
        Label of the group among those of the comparison.
    """

    cluster: str
    condition: str
    against: str
    n_cells: int
    n_against: int
    group: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Comparison:
    """Cells in groups, and which groups are told apart from the others of them.

    Parameters
    ----------
    rows
        (cell,) rows of the clustered cells.
    labels
        (cell,) group of each, 0 .. k-1.
    contrasts
        One for each group that is large enough, as its rest is.
    """

    rows: Int[np.ndarray, " cell"]
    labels: Labels
    contrasts: tuple[Contrast, ...]


def compare_clusters(found: ClusteredCells, *, between: tuple[str, str] | None = None) -> tuple[Comparison, ...]:
    """Tell every cluster from the rest, or two clusters from one another.

    Raises
    ------
    InputUnusable
        If a cluster of ``between`` is unknown, the two are one, or all are too small.
    """
    if between is None:
        rows, labels, names = np.arange(len(found.labels)), found.labels, found.names
    else:
        if between[0] == between[1]:
            raise InputUnusable(f"{between[0]!r} is compared with itself; name two clusters")
        places = [_place(name, found.names) for name in between]
        rows = np.flatnonzero(np.isin(found.labels, places))
        labels, names = (found.labels[rows] == places[1]).astype(np.int64), between
    contrasts = tuple(
        Contrast(
            cluster=name,
            condition="",
            against=REST if between is None else other,
            n_cells=n_cells,
            n_against=n_against,
            group=group,
        )
        for group, name, other, n_cells, n_against in _sides(labels, names)
        if _is_large(f"cluster {name!r}", n_cells, n_against)
    )
    return _not_empty((Comparison(rows=rows, labels=labels, contrasts=contrasts),), found)


def compare_conditions(
    found: ClusteredCells, *, condition_key: str, cluster: str | None = None
) -> tuple[Comparison, ...]:
    """Tell the conditions inside each cluster, or inside one, from one another.

    Cells without a condition are left out.

    Raises
    ------
    InputUnusable
        If the column is missing or holds one condition, the cluster is unknown, or no cluster has enough cells of two.
    """
    adata = found.cells.adata
    every = np.array(obs_columns(adata, [condition_key], source=found.cells.source)[condition_key], dtype=object)
    values = every[found.rows]
    names = tuple(sorted(set(values) - {""}))
    if len(names) < 2:  # noqa: PLR2004 - one condition has no other
        raise InputUnusable(
            f"column {condition_key!r} of {found.cells.source} holds {len(names)} condition; two are needed, name "
            "another column with --condition-key"
        )
    clusters = range(len(found.names)) if cluster is None else [_place(cluster, found.names)]
    comparisons = []
    for place in clusters:
        rows = np.flatnonzero((found.labels == place) & (values != ""))
        present, labels = np.unique(values[rows].astype(str), return_inverse=True)
        contrasts = tuple(
            Contrast(
                cluster=found.names[place], condition=name, against=against, n_cells=n_cells, n_against=n_against,
                group=group,
            )
            for group, name, against, n_cells, n_against in _sides(labels, present.tolist())
            if _is_large(f"{name!r} in cluster {found.names[place]!r}", n_cells, n_against)
        )  # fmt: skip
        comparisons.append(Comparison(rows=rows, labels=labels, contrasts=contrasts))
    return _not_empty(tuple(comparisons), found)


def _sides(clusters: Labels, names: Sequence[str]) -> Iterator[tuple[int, str, str, int, int]]:
    """Every group, its name, what it is compared with, and the cells on either side."""
    sizes = np.bincount(clusters, minlength=len(names)).tolist()
    for group, (name, size) in enumerate(zip(names, sizes, strict=True)):
        others = [other for other in names if other != name]
        yield group, name, others[0] if len(others) == 1 else REST, size, sum(sizes) - size


def _is_large(what: str, n_cells: int, n_against: int) -> bool:
    if min(n_cells, n_against) < _MIN_CELLS:
        log.warning("%s: %d cells, %d on the other side; left out", what, n_cells, n_against)
        return False
    return True


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
