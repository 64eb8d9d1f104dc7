"""Batches of cells: their components integrated, and how far the batches are mixed among the nearest cells."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int

from cellmodel.core.arrays import CellGraph, Embedding, Labels, content_order, row_ranges, unit_rows
from cellmodel.core.config import GraphConfig, RunConfig
from cellmodel.core.errors import UnknownName
from cellmodel.core.random import derive, generator
from cellmodel.core.stages import AnyStages, Arrays
from cellmodel.io.backed import AnyCells
from cellmodel.io.cells import ObsCategories, obs_categories, same_groups
from cellmodel.pp.neighbors import exact_search, faiss_centers, knn_graph, metric_points
from genekb.core.messages import check_choice, counted, listed
from genekb.core.plugins import find_plugins, installed_version, load_plugin, require, unusable

log = logging.getLogger(__name__)
GROUP: Final = "cellmodel.integrations"  # entry points of plug-ins: each names a function as `Integrate`
BUILT_IN: Final = ("harmony", "none")
CELLS_PER_CENTER, MOST_CENTERS = 30, 100  # of Harmony's soft clusters
SOFTNESS: Final = 0.1  # of the assignment to them, Harmony's sigma
PENALTY: Final = 1.0  # of the ridge regression that maps new batches
SHIFT_ROUNDS: Final = 5  # in which the shift of a new batch as a whole is found
LEAST_EXCESS: Final = 0.02  # of same-batch neighbors beyond chance, 1 for none of another batch, that is integrated
N_PERMUTATIONS: Final = 100
ONE_BATCH: Final = 0.95  # fraction of a cluster's cells beyond which it is that of one batch
SAMPLED: Final = 2_000  # cells whose nearest are searched before integration, where all would be too many
_SEEDS: Final = 2**31

CHANGED: Final = 0.02  # of the same-batch share: less is no change
MIXED: Final = 0.1  # above chance: less is mixed
CellValues = Float[np.ndarray, " cell"]
# (cell, dim) components, batch of each cell as 0 .. n-1, seed → components of the same shape
Integrate = Callable[[Embedding, Labels, int], Embedding]


@cache
def plugins() -> dict[str, EntryPoint]:
    """Find the integrations of other packages by name; none is imported."""
    return find_plugins(GROUP, is_taken=BUILT_IN.__contains__)


def check_name(name: str) -> str:
    """Check that there is an integration of that name, and give it back; ``UnknownName`` if there is none."""
    check_choice("integration", name, (*BUILT_IN, *plugins()), error=UnknownName)
    return name


def check_integration(name: str) -> None:
    """Check that there is an integration of that name (``UnknownName``) and its package (``NotAvailable``)."""
    if check_name(name) == "harmony":
        require("harmonypy", needed_by='integration="harmony" needs', instead='use integration="none"')


def integration_version(name: str) -> dict[str, str]:
    """Distribution that integrates and its version, for records; empty for ``none``."""
    if name == "harmony":
        return {"harmonypy": installed_version("harmonypy")}
    plugin = plugins().get(name)
    return {plugin.dist.name: plugin.dist.version} if plugin is not None and plugin.dist is not None else {}


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
    same = [] if config.batch.confounded_ok or config.integration == "none" else same_groups(cells.adata, batches)
    if same:
        log.warning(
            "batches in %r are the groups of %s, too: if these are cell types or conditions, integration takes away "
            "what separates them; integration=\"none\" keeps it, confounded_ok=True goes on without this warning",
            batches.key, listed([repr(name) for name in same]),
        )  # fmt: skip
    return batches


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Integrated:
    """Components of cells whose batches were integrated, or found to be mixed already."""

    pcs: Embedding
    method: str  # ``none`` where they are as they were
    # rows, nearest: rows of some cells, or of all where there are few, and the cells nearest to each before
    rows: Int[np.ndarray, " row"]
    nearest: Int[np.ndarray, "row neighbor"]


def integrate(pcs: Embedding, batches: ObsCategories, config: RunConfig, stages: AnyStages) -> Integrated | None:
    """Integrate batches; None without integration. Nothing depends on the order of the cells.

    Unless a method is asked for by name, batches that are mixed among the nearest cells as they are by chance stay as
    they are: to move them would add noise alone.
    """
    settings, method = config.batch, config.integration
    if settings is None or method == "none":
        return None

    def make(arrays: Arrays) -> Mapping[str, Any]:
        rows, nearest = _nearest_before(pcs, config.graph)
        arrays.save("rows", rows)
        arrays.save("nearest", nearest)
        if settings.integration is None and _is_mixed(batches, rows, nearest, seed=config.seed):
            return {"method": "none"}
        arrays.save("pcs", _moved(pcs, batches, method=method, theta=settings.theta, seed=config.seed))
        return {"method": method}

    stage = stages.run("integrated", make)
    return Integrated(
        pcs=np.asarray(stage.arrays.get("pcs", pcs)),
        method=stage.record["method"],
        rows=np.array(stage.arrays["rows"]),
        nearest=np.array(stage.arrays["nearest"]),
    )


def _is_mixed(
    batches: ObsCategories, rows: Int[np.ndarray, " row"], nearest: Int[np.ndarray, "row neighbor"], *, seed: int
) -> bool:
    """Whether the nearest cells are of the cell's own batch as often as by chance, or hardly more often."""

    def excess(codes: Labels) -> float:
        same = float((codes[nearest] == codes[rows][:, None]).mean())
        return (same - by_chance) / max(1 - by_chance, np.finfo(np.float64).eps)

    share = batches.n_cells / batches.n_cells.sum()
    by_chance, rng = float(share @ share), generator(seed, "batches by chance")
    limit = max(LEAST_EXCESS, *(excess(rng.permutation(batches.codes)) for _ in range(N_PERMUTATIONS)))
    found = excess(batches.codes)
    if found <= limit:
        log.info(
            "batches are mixed as they are (%.2f of the nearest cells are of the cell's own, %.2f by chance): nothing "
            "is integrated; integration=\"NAME\" does it all the same",
            by_chance + found * (1 - by_chance), by_chance,
        )  # fmt: skip
    return found <= limit


def _moved(pcs: Embedding, batches: ObsCategories, *, method: str, theta: float, seed: int) -> Embedding:
    """Integrate in an order of the cells by their content."""
    order = content_order(np.column_stack([pcs, batches.codes]))
    points, codes = np.asarray(pcs)[order], batches.codes[order]
    if method == "harmony":
        found = _harmony(points, codes, theta=theta, seed=seed)
    else:
        found = _by_plugin(plugins()[method], points, codes, seed=seed)
    moved = np.empty_like(points)
    moved[order] = found
    return moved


def _harmony(pcs: Embedding, codes: Labels, *, theta: float, seed: int) -> Embedding:
    """Harmony :cite:`korsunsky2019harmony`; one thread and many give the same."""
    from harmonypy import run_harmony

    found = run_harmony(
        pcs.astype(np.float64),
        {"batch": codes},
        "batch",
        theta=theta,
        nclust=_n_centers(len(pcs)),
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


def map_to_reference(pcs: Embedding, batches: Labels, reference: Embedding) -> Embedding:
    """Move cells of new batches onto integrated components that stay as they are, as Symphony :cite:`kang2021symphony`.

    Cells are assigned softly to centers of the reference; in each, ridge regression finds how far each batch lies from
    the reference, and that is taken off. Before, a batch is shifted as a whole: cells of another protocol may lie
    nearer to centers of other types. ``batches``: of the new cells, 0 .. n-1.
    """
    centers = unit_rows(faiss_centers(unit_rows(reference), n_clusters=_n_centers(len(reference))))
    everyone = np.zeros(len(reference), dtype=np.int64)
    size, total = (sums[:, 0] for sums in _sums_by_center(reference, everyone, centers, n_batches=1))
    shifted = pcs - _common_shifts(pcs, batches, centers, means=total / size[:, None])[batches]
    sizes, totals = _sums_by_center(shifted, batches, centers, n_batches=int(batches.max()) + 1)
    own = 1 / (sizes + PENALTY)  # (center, batch)
    left = sizes * PENALTY * own  # (center, batch) weight of a batch in the mean that it is compared with
    mean = (total + (totals * (PENALTY * own)[..., None]).sum(axis=1)) / (size + left.sum(axis=1))[:, None]
    shift = (totals - sizes[..., None] * mean[:, None]) * own[..., None]  # (center, batch, dim)
    for rows, inside, batch in _parts(batches):
        shifted[rows][inside] -= _shares(shifted[rows][inside], centers) @ shift[:, batch]
    return shifted


def _common_shifts(
    pcs: Embedding, batches: Labels, centers: Embedding, *, means: Float[np.ndarray, "center dim"]
) -> Float[np.ndarray, "batch dim"]:
    """How far each batch lies from the reference, the same for all of its cells.

    Cells are compared with the reference at their own centers, so that which types a batch has does not matter; the
    assignment and the shift are found in turn.
    """
    n_batches = int(batches.max()) + 1
    n_cells = np.bincount(batches, minlength=n_batches)[:, None]
    sums = np.stack([pcs[batches == batch].sum(axis=0, dtype=np.float64) for batch in range(n_batches)])
    shifts = np.zeros_like(sums)
    for _ in range(SHIFT_ROUNDS):
        sizes, _ = _sums_by_center(pcs - shifts[batches], batches, centers, n_batches=n_batches)
        shifts = (sums - sizes.T @ means) / (n_cells + PENALTY)
    return shifts.astype(pcs.dtype)


def _sums_by_center(
    pcs: Embedding, batches: Labels, centers: Embedding, *, n_batches: int
) -> tuple[Float[np.ndarray, "center batch"], Float[np.ndarray, "center batch dim"]]:
    """Shares of the cells at each center, and their components under these shares, by batch."""
    sizes = np.zeros((len(centers), n_batches))
    totals = np.zeros((len(centers), n_batches, pcs.shape[1]))
    for rows, inside, batch in _parts(batches):
        points = pcs[rows][inside].astype(np.float64)
        shares = _shares(points, centers)
        sizes[:, batch] += shares.sum(axis=0)
        totals[:, batch] += shares.T @ points
    return sizes, totals


def _parts(batches: Labels) -> Iterator[tuple[slice, Bool[np.ndarray, " row"], int]]:
    """Cells of one batch, some at a time: a range of rows, which of these, and the batch."""
    for start, end in row_ranges(len(batches)):
        rows = slice(start, end)
        for batch in np.unique(batches[rows]).tolist():
            yield rows, batches[rows] == batch, batch


def _shares(points: Embedding, centers: Embedding) -> Float[np.ndarray, "cell center"]:
    """Soft assignment of cells to centers by cosine, as in Harmony."""
    weights = 2 * (unit_rows(points.astype(np.float64)) @ centers.T - 1) / SOFTNESS
    weights = np.exp(weights - weights.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def _n_centers(n_cells: int) -> int:
    """Choose the number of soft clusters as Harmony does."""
    return int(np.clip(round(n_cells / CELLS_PER_CENTER), 1, MOST_CENTERS))


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixing:
    """How far the batches are mixed among the nearest cells: in a cluster those that lie in it, too."""

    cluster: str  # ``all`` for all cells
    n_cells: int
    batch: str  # of most of its cells
    share: float  # fraction of its cells that are of that batch
    # before, after: fraction of the nearest cells that are of the cell's own batch, by components as they were and as
    # they were integrated; None before where nothing was integrated, NaN where no two near cells share the cluster
    before: float | None
    after: float
    if_mixed: float  # the same if batches were mixed at random among these cells

    @property
    def note(self) -> str:
        """What to say first where integration changed nothing; empty where it did, or had nothing to change."""
        if self.before is None or self.before - self.after > CHANGED or self.after - self.if_mixed <= MIXED:
            return ""
        return (
            f"integration changed nothing: of the nearest cells {self.before:.0%} were of a cell's own batch before, "
            f"and {self.after:.0%} are now ({self.if_mixed:.0%} if mixed)"
        )


def mix_within(
    batches: ObsCategories, knn: CellGraph, clusters: Labels, *, integrated: Integrated | None
) -> tuple[Mixing, ...]:
    """Same-batch neighbors of all cells, and then of each cluster, before integration and after; logged, too.

    ``integrated``: what is known from before; None where nothing was.
    """
    codes, everyone = batches.codes, np.arange(len(clusters))
    neighbors = knn.indices.reshape(len(clusters), -1)

    def rows(names: Sequence[str], groups: Labels) -> Iterator[Mixing]:
        now, then = _same_batch(codes, groups, neighbors, everyone), np.full(len(groups), np.nan)
        if integrated is not None:
            then[integrated.rows] = _same_batch(codes, groups, integrated.nearest, integrated.rows)
        for number, name in enumerate(names):
            yield row(name, np.flatnonzero(groups == number), now, then)

    def row(name: str, members: Int[np.ndarray, " member"], now: CellValues, then: CellValues) -> Mixing:
        sizes = np.bincount(codes[members])
        return Mixing(
            cluster=name,
            n_cells=len(members),
            batch=batches.names[int(sizes.argmax())],
            share=float(sizes.max() / len(members)),
            before=None if integrated is None else _mean(then[members]),
            after=_mean(now[members]),
            if_mixed=float(sizes @ (sizes - 1) / max(len(members) * (len(members) - 1), 1)),
        )

    names = [str(cluster) for cluster in range(int(clusters.max()) + 1)]
    found = (*rows(("all",), np.zeros_like(clusters)), *rows(names, clusters))
    _log_mixing(found)
    return found


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
    """Fraction of the neighbors in a cell's own cluster that are of its batch; NaN where none is in it."""
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
    log.info("same-batch neighbors: %s%.2f now, %.2f if mixed", before, whole.after, whole.if_mixed)
    if whole.note:
        log.warning(whole.note)
    alone = [row for row in clusters if row.share > ONE_BATCH >= whole.share]
    if alone:
        which = listed([f"{row.cluster} ({row.share:.0%} {row.batch})" for row in alone])
        log.warning("%s nearly of one batch alone: %s", counted(len(alone), "cluster"), which)
