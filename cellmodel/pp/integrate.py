"""Batches of cells: their components integrated, and how far the batches are mixed among the nearest cells."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

from cellmodel.core.arrays import CellGraph, Embedding, Labels, content_order
from cellmodel.core.config import GraphConfig, RunConfig
from cellmodel.core.errors import UnknownName
from cellmodel.core.random import derive
from cellmodel.core.stages import Arrays
from cellmodel.io.backed import AnyCells
from cellmodel.io.cells import ObsCategories, obs_categories
from cellmodel.pp.neighbors import exact_search, knn_graph, metric_points
from genekb.core.messages import counted, did_you_mean, listed
from genekb.core.plugins import find_plugins, load_plugin, require, unusable

log = logging.getLogger(__name__)
GROUP: Final = "cellmodel.integrations"  # entry points of plug-ins: each names a function as `Integrate`
BUILT_IN: Final = ("harmony", "none")
CELLS_PER_CENTRE, MOST_CENTRES = 30, 100  # of Harmony's soft clusters
ONE_BATCH: Final = 0.95  # fraction of a cluster's cells beyond which it is that of one batch
SAMPLED: Final = 2_000  # cells whose nearest are searched before integration, where all would be too many
_SEEDS: Final = 2**31

# (cell, dim) components, batch of each cell as 0 .. n-1, seed → components of the same shape
Integrate = Callable[[Embedding, Labels, int], Embedding]


@cache
def plugins() -> dict[str, EntryPoint]:
    """Find the integrations of other packages by name; none is imported."""
    return find_plugins(GROUP, is_taken=BUILT_IN.__contains__)


def check_name(name: str) -> str:
    """Check that there is an integration of that name, and give it back; ``UnknownName`` if there is none."""
    names = (*BUILT_IN, *plugins())
    if name not in names:
        raise UnknownName(f"integration {name!r} is not one of {', '.join(names)}{did_you_mean(name, names)}")
    return name


def check_integration(name: str) -> None:
    """Check that there is an integration of that name and that it is installed, before any work.

    Raises ``UnknownName`` if there is none; ``NotAvailable`` if its package is not installed.
    """
    if check_name(name) == "harmony":
        require("harmonypy", needed_by="--integration harmony needs", instead="use --integration none")


def read_batches(cells: AnyCells, config: RunConfig) -> ObsCategories | None:
    """Batch of each cell; None where there is no batch key, or all cells are of one batch, which is logged."""
    if config.batch is None:
        return None
    batches = obs_categories(cells.adata, config.batch.key, source=cells.source)
    if len(batches.names) == 1:
        log.warning("%r names one batch, %r: nothing is integrated", batches.key, batches.names[0])
        return None
    sizes = batches.n_cells
    log.info(
        "%d batches in %r, of %s to %s",
        len(sizes), batches.key, f"{sizes.min():,}", counted(int(sizes.max()), "cell"),
    )  # fmt: skip
    return batches


def integrate(pcs: Embedding, batches: ObsCategories, arrays: Arrays, *, method: str, seed: int) -> Mapping[str, Any]:
    """Keep integrated components as ``pcs``; nothing depends on the order of the cells."""
    order = content_order(np.column_stack([pcs, batches.codes]))
    points, codes = np.asarray(pcs)[order], batches.codes[order]
    if method == "harmony":
        found = _harmony(points, codes, seed=seed)
    else:
        found = _by_plugin(plugins()[check_name(method)], points, codes, seed=seed)
    integrated = np.empty_like(points)
    integrated[order] = found
    arrays.save("pcs", integrated)
    return {}


def _harmony(pcs: Embedding, codes: Labels, *, seed: int) -> Embedding:
    """Harmony :cite:`korsunsky2019harmony` with its own settings; one thread and many give the same."""
    from harmonypy import run_harmony

    n_centres = int(np.clip(round(len(pcs) / CELLS_PER_CENTRE), 1, MOST_CENTRES))
    found = run_harmony(
        pcs.astype(np.float64),
        {"batch": codes},
        "batch",
        nclust=n_centres,
        verbose=False,
        random_state=derive(seed, "harmony") % _SEEDS,
        ncores=1,
    )
    return np.asarray(found.Z_corr, dtype=np.float32)


def _by_plugin(plugin: EntryPoint, pcs: Embedding, codes: Labels, *, seed: int) -> Embedding:
    """Integrate by the function of a plug-in, which is held to its shape and to finite values."""
    found = np.asarray(load_plugin(plugin, lambda function: function(pcs.copy(), codes.copy(), seed)))
    if found.shape != pcs.shape or found.dtype.kind != "f" or not np.isfinite(found).all():
        raise unusable(plugin, f"it gave {found.dtype} of shape {found.shape}, finite floats of {pcs.shape} are needed")
    return found.astype(np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixing:
    """How far the batches are mixed within a cluster, by the nearest cells of each cell that lie in it, too."""

    cluster: str  # ``all`` for all cells
    n_cells: int
    batch: str  # of most of its cells
    share: float  # fraction of its cells that are of that batch
    # before, after: fraction of the nearest cells that are of the cell's own batch, by components as they were and as
    # they were integrated; None before where nothing was integrated, NaN where no two near cells share the cluster
    before: float | None
    after: float
    if_mixed: float  # the same if batches were mixed at random within the cluster


def mix_within(
    batches: ObsCategories, knn: CellGraph, clusters: Labels, *, before: Embedding | None, graph: GraphConfig
) -> tuple[Mixing, ...]:
    """Same-batch neighbours of all cells, and then of each cluster, before integration and after; logged, too.

    ``before``: components that were integrated, whose nearest cells are searched, of some cells where there are many.
    """
    codes, everyone = batches.codes, np.arange(len(clusters))
    now = _same_batch(codes, clusters, knn.indices.reshape(len(clusters), -1), everyone)
    then = np.full(len(clusters), np.nan)
    if before is not None:
        rows, nearest = _nearest_before(before, graph)
        then[rows] = _same_batch(codes, clusters, nearest, rows)
    by_chance = np.zeros(len(clusters))
    members_of = [np.flatnonzero(clusters == cluster) for cluster in range(int(clusters.max()) + 1)]
    for members in members_of:
        others = np.bincount(codes[members])[codes[members]] - 1
        by_chance[members] = others / max(len(members) - 1, 1)

    def row(name: str, members: Int[np.ndarray, " member"]) -> Mixing:
        sizes = np.bincount(codes[members])
        return Mixing(
            cluster=name,
            n_cells=len(members),
            batch=batches.names[int(sizes.argmax())],
            share=float(sizes.max() / len(members)),
            before=None if before is None else _mean(then[members]),
            after=_mean(now[members]),
            if_mixed=_mean(by_chance[members]),
        )

    rows_of = (row("all", everyone), *(row(str(n), members) for n, members in enumerate(members_of)))
    _log_mixing(rows_of)
    return rows_of


def _nearest_before(
    before: Embedding, graph: GraphConfig
) -> tuple[Int[np.ndarray, " row"], Int[np.ndarray, "row neighbor"]]:
    """Rows of cells, and the cells nearest to each, by components as they were."""
    n_cells = len(before)
    if n_cells <= SAMPLED:
        knn = knn_graph(before, config=graph)
        return np.arange(n_cells), knn.indices.reshape(n_cells, -1)
    rows = np.unique(np.linspace(0, n_cells - 1, SAMPLED).astype(np.int64))
    points = metric_points(before, metric=graph.metric)
    nearest = exact_search(points, points[rows], n_neighbors=min(graph.n_neighbors, n_cells - 1) + 1)[1]
    return rows, nearest[:, 1:]


def _same_batch(
    codes: Labels, clusters: Labels, neighbors: Int[np.ndarray, "row neighbor"], rows: Int[np.ndarray, " row"]
) -> Float[np.ndarray, " row"]:
    """Fraction of the neighbours in a cell's own cluster that are of its batch; NaN where none is in it."""
    together = clusters[neighbors] == clusters[rows][:, None]
    same = together & (codes[neighbors] == codes[rows][:, None])
    n_together = together.sum(axis=1)
    return np.divide(same.sum(axis=1), n_together, out=np.full(len(rows), np.nan), where=n_together > 0)


def _mean(values: Float[np.ndarray, " cell"]) -> float:
    found = values[~np.isnan(values)]
    return float(found.mean()) if found.size else float("nan")


def _log_mixing(rows: tuple[Mixing, ...]) -> None:
    """Log how far the batches are mixed, and warn of clusters that are nearly one batch."""
    whole, *clusters = rows
    before = "" if whole.before is None else f"{whole.before:.2f} before integration, "
    log.info("same-batch neighbours within clusters: %s%.2f now, %.2f if mixed", before, whole.after, whole.if_mixed)
    alone = [row for row in clusters if row.share > ONE_BATCH >= whole.share]
    if alone:
        which = listed([f"{row.cluster} ({row.share:.0%} {row.batch})" for row in alone])
        log.warning("%s nearly of one batch alone: %s", counted(len(alone), "cluster"), which)
