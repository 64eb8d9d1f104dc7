"""How well clusters hold up: agreement with repeats, separation beside data without clusters; notes, not refusals."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from cellmodel.cluster.algorithms import draw_rows, leiden, leiden_to_k
from cellmodel.core import random as seeding
from cellmodel.core.arrays import Embedding, Labels, content_order
from cellmodel.core.config import RESOLUTION, GraphConfig
from cellmodel.pp.neighbors import knn_graph, snn_weights

N_REPEATS: Final = 3
REPEATED_SHARE: Final = 0.8  # of the cells, in a repeat
REPEATED_CELLS: Final = 5_000  # of a repeat, at most
N_NULLS: Final = 19  # the cells are the most separated of twenty by chance in one of twenty
TESTED_CELLS: Final = 1_000  # of the test, at most
CELLS_PER_GROUP: Final = 50  # of similar total counts, among which a null draws
LEAST_SPREAD: Final = 0.005  # of a statistic over the nulls: a few can lie closer together by chance
FEWEST_CELLS: Final = 30  # below it nothing differs from chance
SIGNIFICANT: Final = 0.05

Points = Float[np.ndarray, "cell dim"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure:
    """How well the clusters of some cells hold up; NaN where it was not asked, or there are too few cells."""

    # mean ARI with the clusters that random four fifths of the cells give, with another seed each
    repeats: float = float("nan")
    # fraction of data sets without clusters whose communities are as separated as those of the cells
    p_value: float = float("nan")

    def notes(self) -> Iterator[str]:
        """Say what the values mean, a note each; none where they are not known."""
        yield from structure_notes(asdict(self))


def structure_notes(record: Mapping[str, Any] | None) -> Iterator[str]:
    """Say what the values of a :class:`Structure` mean, as they are recorded."""
    repeats, p_value = ((record or {}).get(name) for name in ("repeats", "p_value"))
    if repeats is not None and not math.isnan(repeats):
        yield f"clustering random 80 % of the cells again gives these clusters with an ARI of {repeats:.2f}"
    if p_value is not None and p_value > SIGNIFICANT:
        yield f"the clusters are no better separated than those of data without structure (p = {p_value:.2f})"


def check_structure(
    labels: Labels,
    *,
    pcs: Embedding,
    total_counts: Float[np.ndarray, " cell"],
    seed: int,
    n_clusters: int | None = None,
    resolution: float | None = None,
) -> Structure:
    """Repeat the clustering on parts of the cells, and compare its separation with that of data without clusters.

    Leiden communities of at most 1,000 cells are set beside those of two nulls, both within groups of cells of about
    the same total counts, which spread shallow cells out: their modularity beside that of permuted components, their
    mean silhouette beside that of the Gaussian of the group. One long axis splits like two clusters in the second null
    and not in the first; uniform and heavy-tailed noise in the first and not in the second. The larger of the two
    standard scores counts.

    ``pcs``: (cell, dim) principal components. ``total_counts``: (cell,) sum of the values of each. ``seed``: the run's
    seed. ``n_clusters``, ``resolution``: of the Leiden communities that ``labels`` are, which are repeated; None where
    they are from elsewhere. Nothing depends on the order of the cells.
    """
    if len(pcs) < FEWEST_CELLS or not labels.any():
        return Structure()
    order = content_order(pcs)
    repeated = n_clusters is not None or resolution is not None
    return Structure(
        repeats=_repeats(labels[order], pcs[order], n_clusters, resolution, seed) if repeated else float("nan"),
        p_value=_p_value(pcs[order], total_counts[order], seed),
    )


def _repeats(labels: Labels, pcs: Embedding, n_clusters: int | None, resolution: float | None, seed: int) -> float:
    from sklearn.metrics import adjusted_rand_score

    found = []
    for repeat in range(N_REPEATS):
        state = seeding.derive(seed, f"repeat {repeat}")
        n_cells = min(int(REPEATED_SHARE * len(pcs)), REPEATED_CELLS)
        rows = draw_rows(len(pcs), n_cells, state, purpose="repeated cells")
        graph = snn_weights(knn_graph(pcs[rows], config=GraphConfig()))
        if n_clusters is not None:
            again = leiden_to_k(graph, n_clusters=min(n_clusters, len(rows)), seed=state, n_runs=1)
        else:
            again = leiden(graph, resolution=resolution or RESOLUTION, seed=state, n_runs=1)
        found.append(adjusted_rand_score(labels[rows], again))
    return float(np.mean(found))


def _p_value(pcs: Embedding, total_counts: Float[np.ndarray, " cell"], seed: int) -> float:
    """Rank of the cells among data without clusters, from the top, as a fraction."""
    rows = draw_rows(len(pcs), TESTED_CELLS, seed, purpose="tested cells")
    cells = pcs[rows].astype(np.float64)
    cells -= cells.mean(axis=0)
    own = _separation(cells, seed)
    rngs = [seeding.generator(seed, f"null {draw}") for draw in range(N_NULLS)]
    scores = []
    for statistic, draw in enumerate((_permuted, _gaussian)):
        nulls = [_separation(_by_group(cells, total_counts[rows], draw, rng), seed)[statistic] for rng in rngs]
        values = np.array([own[statistic], *nulls])
        scores.append((values - values.mean()) / (values.std() + LEAST_SPREAD))
    highest = np.maximum(*scores)
    return float((highest >= highest[0]).mean())


def _by_group(
    cells: Points,
    total_counts: Float[np.ndarray, " cell"],
    draw: Callable[[Points, np.random.Generator], Points],
    rng: np.random.Generator,
) -> Points:
    """Draw the cells of each group of similar total counts again."""
    order = np.lexsort((rng.random(len(cells)), total_counts))  # equal ones: any order
    drawn = np.empty_like(cells)
    for group in np.array_split(order, max(1, len(cells) // CELLS_PER_GROUP)):
        drawn[group] = draw(cells[group], rng)
    return drawn


def _permuted(cells: Points, rng: np.random.Generator) -> Points:
    return rng.permuted(cells, axis=0)


def _gaussian(cells: Points, rng: np.random.Generator) -> Points:
    """Draw from the Gaussian with the mean and the covariance of the cells."""
    mean = cells.mean(axis=0)
    return mean + rng.standard_normal((len(cells), len(cells))) / np.sqrt(max(len(cells) - 1, 1)) @ (cells - mean)


def _separation(points: Points, seed: int) -> tuple[float, float]:
    """Modularity and mean silhouette of Leiden communities; 0 where there is one."""
    from sklearn.metrics import silhouette_score
    from sknetwork.clustering import get_modularity

    graph = snn_weights(knn_graph(points, config=GraphConfig()))
    communities = leiden(graph, resolution=RESOLUTION, seed=seed, n_runs=1)
    if not 1 < communities.max() + 1 < len(points):
        return 0.0, 0.0
    return float(get_modularity(graph, communities)), float(silhouette_score(points, communities))
