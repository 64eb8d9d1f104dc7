"""Sub-clustering: some clusters of a column clustered again, with genes and components of their own."""

import logging
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np

import genekb
from cellmodel.cluster.structure import FoundClusters, structure_notes
from cellmodel.core.arrays import Labels
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.explain.groups import GroupedCells, group_cells
from cellmodel.io.backed import AnyCells
from cellmodel.io.cells import Cells, obs_columns
from cellmodel.recipes.registry import find_recipe
from cellmodel.tl._run.pipeline import run
from genekb.core.messages import known_names

log = logging.getLogger(__name__)
FEWEST_CELLS: Final = 10  # that are clustered again


@dataclass(frozen=True, kw_only=True, slots=True)
class Within:
    """Which clusters are clustered again, all their cells as one."""

    column: str  # of obs
    clusters: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the cells that are clustered, before which the number of each new cluster is put."""
        return ",".join(self.clusters)


def parse_within(text: str) -> Within:
    """Read ``COLUMN=CLUSTER[,CLUSTER]``; ``ValueError`` if it is none."""
    column, _, names = text.partition("=")
    clusters = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not column.strip() or not clusters:
        raise ValueError(
            f"`within` names a column of obs and its clusters, such as cellmodel=3 or cellmodel=3,5, not {text!r}"
        )
    return Within(column=column.strip(), clusters=clusters)


def check_within(config: RunConfig, *, is_backed: bool, saves_model: bool) -> None:
    """Refuse what does not go with it before any work."""
    if is_backed:
        raise InputUnusable('`within` needs all cells in memory; give out_of_core="no" where memory allows')
    if saves_model:
        raise InputUnusable("a model of clusters in clusters cannot be kept; leave `save_model` or `within` out")
    if config.spatial is not None and config.spatial.smooth_labels:
        raise InputUnusable("labels are smoothed over all cells, and `within` clusters some; leave one out")


def cluster_within(cells: AnyCells, kb: genekb.Store | None, config: RunConfig, within: Within) -> FoundClusters:
    """Cluster the cells of some clusters again; the others keep their clusters."""
    assert isinstance(cells, Cells)  # see `check_within`
    obs_columns(cells.adata, [within.column], source=cells.source, hint="name a column of clusters with `within`")
    grouped = group_cells(cells, within.column, least=1)
    n_none = cells.shape[0] - len(grouped.rows)
    if n_none:
        raise InputUnusable(
            f"{n_none:,} of {cells.shape[0]:,} cells of {cells.source} have no {within.column}; leave them out first: "
            f"adata[adata.obs[{within.column!r}].notna()]"
        )
    places = _places(grouped, within)
    rows = np.flatnonzero(np.isin(grouped.labels, places))
    if len(rows) < FEWEST_CELLS:
        raise InputUnusable(
            f"{within.column}={within.name} holds {len(rows)} cells, and {FEWEST_CELLS} are needed to cluster them "
            'again; name a larger cluster, or several: within="COLUMN=A,B"'
        )
    part = replace(cells, adata=cells.adata[rows], matrix=cells.matrix[rows], files=())
    uses_text = find_recipe(config.recipe).uses_text
    found = run(part, kb, replace(config, n_words=0, knowledge=config.knowledge if uses_text else "none"))
    assert found.labels is not None
    for note in structure_notes(asdict(found.structure)) if found.structure else ():
        log.info("%s=%s: %s", within.column, within.name, note)
    labels, names, parents = _put_in_place(grouped, places, rows, found.labels, within)
    how = f"{within.column}={within.name} clustered again: {found.n_clusters_by}"
    return FoundClusters(labels=labels, names=names, parents=parents, method=how)


def _places(grouped: GroupedCells, within: Within) -> list[int]:
    for name in within.clusters:
        if name not in grouped.names:
            there = known_names(name, grouped.names)
            raise InputUnusable(
                f"obs[{within.column!r}] has no cluster {name!r} (there are: {there}); name one of them"
            )
    return sorted(grouped.names.index(name) for name in within.clusters)


def _put_in_place(
    grouped: GroupedCells, places: list[int], rows: Labels, again: Labels, within: Within
) -> tuple[Labels, tuple[str, ...], tuple[int, ...]]:
    """Labels of all cells, names, and the cluster that each was a part of; the new ones stand where the first was."""
    n_new = int(again.max()) + 1
    new = [f"{within.name}.{number}" for number in range(n_new)] if n_new > 1 else [within.name]
    order: list[tuple[str, int]] = []
    for place, name in enumerate(grouped.names):
        if place == places[0]:
            order += [(one, place) for one in new]
        elif place not in places:
            order.append((name, place))
    names = tuple(name for name, _ in order)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputUnusable(
            f"obs[{within.column!r}] has a cluster {twice!r} already; rename it, or take another column"
        )
    of_place = np.zeros(len(grouped.names), dtype=np.int64)
    for number, (_, place) in reversed(list(enumerate(order))):
        of_place[place] = number
    labels = of_place[grouped.labels]
    labels[rows] = of_place[places[0]] + again
    return labels, names, tuple(place for _, place in order)
