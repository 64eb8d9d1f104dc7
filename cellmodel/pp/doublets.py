"""Doublets: cells that score as pairs of cells do, simulated from the counts."""

from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int

from cellmodel.core import random as seeding
from cellmodel.core.arrays import CellByGene
from cellmodel.core.config import GraphConfig, RunConfig
from cellmodel.core.errors import NotCounts
from cellmodel.io.cells import Cells, obs_categories
from cellmodel.io.matrix import ValueKind
from cellmodel.pp.features import fit_components
from cellmodel.pp.moments import scan, variable_by_moments
from cellmodel.pp.neighbors import approximate_search, exact_search
from cellmodel.pp.normalize import LogExpression

_SIMULATED: Final = 2  # doublets a cell
_EXPECTED: Final = 0.05  # rate of doublets before any is seen
_TAIL: Final = 0.1  # fraction of the simulated doublets by which the rate is estimated, at least
_LEAST: Final = 500  # cells: of fewer the rate is a guess


def find_doublets(cells: Cells, config: RunConfig) -> tuple[Bool[np.ndarray, " cell"], Float[np.ndarray, " cell"]]:
    """Predict doublets within each batch, and give the scores of all cells; ``NotCounts`` without counts."""
    if cells.kind != ValueKind.COUNTS or cells.shape[0] < _LEAST:
        raise NotCounts(f"`doublets` needs raw counts of at least {_LEAST} cells; leave it out")
    groups = np.zeros(cells.shape[0], dtype=np.int64)
    if config.batch is not None:
        groups = obs_categories(cells.adata, config.batch.key, source=cells.source).codes
    score, simulated = doublet_scores(cells, groups, seed=config.seed)
    return call_doublets(score, simulated), score


def doublet_scores(
    cells: Cells, groups: Int[np.ndarray, " cell"], *, seed: int
) -> tuple[Float[np.ndarray, " cell"], Float[np.ndarray, " simulated"]]:
    """Score cells, and doublets that are simulated of pairs of a group, as Scrublet does :cite:`wolock2019scrublet`.

    The score is the probability of being a doublet, by the simulated ones among the nearest cells.
    """
    n_cells = cells.shape[0]
    rng = seeding.generator(seed, "doublets")
    partners = [rng.permutation(np.flatnonzero(groups == group)) for group in np.unique(groups)]
    order = np.concatenate([np.sort(each) for each in partners])
    simulated = [cells.matrix[order] + cells.matrix[np.concatenate(partners)]]
    for _ in range(1, _SIMULATED):
        partners = [rng.permutation(each) for each in partners]
        simulated.append(cells.matrix[order] + cells.matrix[np.concatenate(partners)])
    points = _components(cells, simulated)
    n_neighbors = round((1 + _SIMULATED) * max(5.0, 0.5 * n_cells**0.5))
    if len(points) <= GraphConfig().exact_up_to:
        nearest = exact_search(points, points, n_neighbors=n_neighbors + 1)[1]
    else:
        nearest = approximate_search(points, n_neighbors=n_neighbors + 1)[1]
    is_self = nearest == np.arange(len(points))[:, None]
    share = (((nearest >= n_cells) & ~is_self).sum(axis=1) + 1) / (n_neighbors + 2)
    odds = share * _EXPECTED / _SIMULATED
    scores = odds / (1 - _EXPECTED - share * (1 - _EXPECTED - _EXPECTED / _SIMULATED))
    return scores[:n_cells], scores[n_cells:]


def _components(cells: Cells, simulated: list[CellByGene]) -> Float[np.ndarray, "cell component"]:
    """Principal components of the highly variable genes of the cells, of these and of simulated doublets."""
    figures = scan(cells.matrix, kind=cells.kind)
    seen = np.flatnonzero(figures.n_cells >= 3)  # noqa: PLR2004 - as for a run
    top = seen[variable_by_moments(figures.mean[seen], figures.variance[seen], n_top=2_000)]
    expression = [
        LogExpression(matrix=each, kind=cells.kind, columns=top).of(each) for each in (cells.matrix, *simulated)
    ]
    components = fit_components(expression[0], n_components=30)
    return np.vstack([components(each) for each in expression]).astype(np.float64)


def call_doublets(
    score: Float[np.ndarray, " cell"], simulated: Float[np.ndarray, " simulated"]
) -> Bool[np.ndarray, " cell"]:
    """Call as many cells of the highest scores as the estimated rate says.

    The rate is how much rarer scores above a limit are among the cells than among the simulated doublets: the lowest
    of all limits that a tenth of these exceed, since cells that are none exceed low ones.
    """
    limits = np.unique(simulated)
    above, expected = (
        1 - np.searchsorted(np.sort(each), limits, side="right") / len(each) for each in (score, simulated)
    )
    is_exceeded = expected >= _TAIL
    rate = float((above[is_exceeded] / expected[is_exceeded]).min(initial=1.0))
    called = np.zeros(len(score), dtype=bool)
    called[np.argsort(-score, kind="stable")[: round(rate * len(score))]] = True
    return called
