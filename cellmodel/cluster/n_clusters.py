"""The number of clusters, without labels: a proposal, and a test of whether there are clusters at all."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from cellmodel.cluster.algorithms import draw_rows, leiden, leiden_to_k, steady_kmeans
from cellmodel.cluster.hierarchy import count_supported
from cellmodel.core import random as seeding
from cellmodel.core.arrays import CellGraph, Embedding, Labels, content_order
from cellmodel.core.config import GraphConfig
from cellmodel.pp.neighbors import knn_graph, snn_weights

Points: TypeAlias = Float[np.ndarray, "cell dim"]

RESOLUTION: Final = 0.3  # of the proposal
LEADING: Final = 2 / 3  # share of the components that one of the proposing graphs rests on
TESTED_RESOLUTION: Final = 0.5  # of the communities whose separation is tested: finer ones, which noise has few of
NUMBER_STEPS: Final = 8  # resolutions at which a null is searched for as many communities
FEWEST_CELLS: Final = 30  # below it nothing differs from chance
NO_STRUCTURE: Final = "no structure found"
LEAST_SPREAD: Final = 0.01  # of the separations of nulls: a few of them can lie closer together by chance
GAP: Final = 0.02  # from the most separated null: the separations of nulls can have two modes
SURE_NULLS, SURE_GAP = 16, 0.1  # so many nulls, or so wide a gap from a few, before the cells are called separated
SMALLEST_SHARE: Final = 0.01  # of the cells, for a community to be set beside its nearest


@dataclass(frozen=True, kw_only=True, slots=True)
class StabilityConfig:
    """How stability and separation are compared with those of data without clusters."""

    numbers: tuple[int, ...] = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20)  # numbers of clusters of the curve
    # cells on whose communities the proposal rests, at most. The more cells, the finer are the communities of one
    # resolution, and that of the proposal was chosen on data sets of up to 12,000
    proposing_cells: int = 20_000
    # of two communities that count as two, see :func:`cellmodel.cluster.hierarchy.split_support`: that of two equal
    # Gaussians three standard deviations apart
    least_support: float = 0.1
    tested_cells: int = 1_000  # cells that take part in the test, at most
    # n_parts, share: random parts of the cells that are clustered, and how much of the cells each holds
    n_parts: int = 4
    share: float = 0.8
    # n_nulls, most_nulls: draws of data without clusters: at first, and at most, where the first do not decide
    n_nulls: int = 4
    most_nulls: int = 32
    cells_per_null: int = 50  # cells of similar depth that share one Gaussian of the null
    # by how much the separation must exceed that of the null. Noise and four of five single cell lines stay below .03,
    # the data sets of several types lie above .05
    margin: float = 0.05

    def __post_init__(self) -> None:
        """Check the ranges."""
        if min((*self.numbers, self.n_parts, self.n_nulls, self.cells_per_null)) < 2:  # noqa: PLR2004 - two to compare
            raise ValueError(f"numbers, n_parts, n_nulls and cells_per_null must be >= 2, got {self}")
        if not 0 < self.share < 1 or min(self.tested_cells, self.proposing_cells) < FEWEST_CELLS:
            raise ValueError(
                f"share must lie in (0, 1), tested_cells and proposing_cells be >= {FEWEST_CELLS}, got {self}"
            )


WITH_PLACES: Final = StabilityConfig(least_support=0.0)  # domains of a tissue shade into one another


class Stability(NamedTuple):
    """One point of the curve: agreement (mean ARI) of clusterings of random parts, in the data and without clusters."""

    n_clusters: int
    stability: float
    null_mean: float
    null_sd: float


@dataclass(frozen=True, kw_only=True, slots=True)
class NClusters:
    """An estimate, how it was made, and how stable other numbers are."""

    n_clusters: int  # the estimate, at least 1
    method: str  # in words; begins with :data:`NO_STRUCTURE` where the cells were tested and are one cluster
    curve: tuple[Stability, ...]  # in the order of the numbers of clusters; empty where there are too few cells

    @property
    def has_structure(self) -> bool:
        """Whether the cells are more than one cluster, or too few to be tested."""
        return not self.method.startswith(NO_STRUCTURE)


def estimate_n_clusters(
    graph: CellGraph,
    *,
    pcs: Embedding,
    depth: Float[np.ndarray, " cell"],
    seed: int,
    config: StabilityConfig | None = None,
) -> NClusters:
    """Propose a number of Leiden communities, and let data without clusters speak against it.

    The proposal is the median number at resolution 0.3 in three graphs: nearest cells by cosine, by Euclidean distance,
    and by cosine in the leading two thirds of the components. Two communities between which cells held out show hardly
    a gap count as one (:func:`cellmodel.cluster.hierarchy.count_supported`): Leiden cuts a continuum, too.

    The null has the shape of the data and no clusters: each cell is drawn again from the Gaussian of the cells that are
    about as deep as it. Depth spreads shallow cells out, and one long axis splits in two just as stably as two
    clusters do; this null has both. The proposal stands if communities of the cells lie farther apart than as many of
    the null: all from all others, or each from its nearest, as many types part of which some are near each other. Else
    the answer is 1. Near the margin more nulls are drawn, and none may be as separated as the cells.
    The curve shows for other numbers how much more clusterings of random parts of the
    cells agree than in the null :cite:`benhur2002stability`. That is reported, no more: single cell lines are up
    to .31 more stable than their null, a continuum of progenitors hardly at all.

    ``graph``: shared-nearest-neighbour weights of all cells. ``pcs``: (cell, dim) their principal components.
    ``depth``: (cell,) sum of the values of each. ``seed``: the run's seed. Raises ``ValueError`` if graph, components
    and depth differ in cells.
    """
    if not graph.shape[0] == len(pcs) == len(depth):
        raise ValueError(f"graph, pcs and depth hold {graph.shape[0]}, {len(pcs)} and {len(depth)} cells, not the same")
    settings = config or StabilityConfig()
    proposed = _propose(graph, pcs, settings, seed)
    if len(pcs) < FEWEST_CELLS:
        return NClusters(
            n_clusters=proposed, method=f"{_proposal(len(pcs), settings)}; too few cells to test it", curve=()
        )
    cells, depth = _tested(pcs, depth, settings, seed)
    nulls = [
        _without_clusters(cells, depth, settings, seeding.generator(seed, f"null {draw}"))
        for draw in range(settings.n_nulls)
    ]
    numbers = [k for k in sorted({*settings.numbers, proposed}) if 1 < k <= len(cells) // 5]
    curve = tuple(_point(cells, nulls, k, settings, seed) for k in numbers)
    near = [p.stability - p.null_mean for p in curve if proposed <= 2 * p.n_clusters <= 4 * proposed]
    stability = float(np.mean(near)) if near else 0.0
    found, separation = _test_separation(cells, depth, nulls, settings, seed)
    found = found and proposed > 1
    above = f"stability {stability:+.2f} and separation {separation:+.2f} against data without clusters"
    if not found and separation > settings.margin:
        above += ", of which some are as separated"
    return NClusters(
        n_clusters=proposed if found else 1,
        method=f"{_proposal(len(pcs), settings)}; {above}" if found else f"{NO_STRUCTURE}; {above}",
        curve=curve,
    )


def count_communities(
    graph: CellGraph, *, pcs: Embedding, resolution: float, seed: int, config: StabilityConfig | None = None
) -> NClusters:
    """Propose as :func:`estimate_n_clusters` does, at a resolution that is given: higher gives more, nothing is tested.

    Raises ``ValueError`` if ``resolution`` is not positive.
    """
    settings = config or StabilityConfig()
    found = int(np.median([each.max() + 1 for each, _ in _communities(graph, pcs, settings, seed, resolution)]))
    return NClusters(n_clusters=found, method=_proposal(len(pcs), settings, resolution), curve=())


def _proposal(n_cells: int, settings: StabilityConfig, resolution: float | None = None) -> str:
    drawn = f" among {settings.proposing_cells:,} of {n_cells:,} cells" if n_cells > settings.proposing_cells else ""
    what = "supported communities" if resolution is None and settings.least_support else "communities"
    return f"{what} of Leiden at resolution {resolution or RESOLUTION:g}{drawn}, median of three graphs"


def _propose(graph: CellGraph, pcs: Embedding, settings: StabilityConfig, seed: int) -> int:
    """Median number of supported communities."""
    found = _communities(graph, pcs, settings, seed, RESOLUTION)
    least = settings.least_support
    return int(np.median([count_supported(points, each, least=least, seed=seed) for each, points in found]))


def _communities(
    graph: CellGraph, pcs: Embedding, settings: StabilityConfig, seed: int, resolution: float
) -> Iterator[tuple[Labels, Embedding]]:
    """Communities in three graphs, with the components, of all cells or of some that are drawn by their content."""
    if len(pcs) > settings.proposing_cells:
        drawn = draw_rows(len(pcs), settings.proposing_cells, seed, purpose="proposing cells")
        pcs = pcs[content_order(pcs)[drawn]]
        graph = snn_weights(knn_graph(pcs, config=GraphConfig()))
    leading = pcs[:, : max(1, round(LEADING * pcs.shape[1]))]
    others = (knn_graph(pcs, config=GraphConfig(metric="euclidean")), knn_graph(leading, config=GraphConfig()))
    for each in (graph, *(snn_weights(other) for other in others)):
        yield leiden(each, resolution=resolution, seed=seed, n_runs=2), pcs


def _tested(
    pcs: Embedding, depth: Float[np.ndarray, " cell"], settings: StabilityConfig, seed: int
) -> tuple[Points, Float[np.ndarray, " cell"]]:
    """Draw the cells that take part, by their content and not their position, and centre them."""
    order = content_order(pcs)
    order = order[draw_rows(len(order), settings.tested_cells, seed, purpose="tested cells")]
    cells = pcs[order].astype(np.float64)
    return cells - cells.mean(axis=0), depth[order]


def _without_clusters(
    cells: Points,
    depth: Float[np.ndarray, " cell"],
    settings: StabilityConfig,
    rng: np.random.Generator,
) -> Points:
    """Draw each cell from the Gaussian that has the mean and the covariance of the cells of similar depth."""
    order = np.lexsort((rng.random(len(cells)), depth))  # equal depths: any order
    drawn = np.empty_like(cells)
    for group in np.array_split(order, max(1, len(cells) // settings.cells_per_null)):
        mean = cells[group].mean(axis=0)
        weights = rng.standard_normal((len(group), len(group))) / np.sqrt(len(group) - 1)
        drawn[group] = mean + weights @ (cells[group] - mean)
    return drawn


def _point(cells: Embedding, nulls: list[Points], n_clusters: int, settings: StabilityConfig, seed: int) -> Stability:
    agreements = [
        _agreement(points, n_clusters, settings, seeding.generator(seed, f"parts {draw} for {n_clusters}"))
        for draw, points in enumerate([cells, *nulls])
    ]
    of_nulls = agreements[1:]
    return Stability(
        n_clusters=n_clusters,
        stability=agreements[0],
        null_mean=float(np.mean(of_nulls)),
        null_sd=float(np.std(of_nulls, ddof=1)),
    )


def _agreement(points: Embedding, n_clusters: int, settings: StabilityConfig, rng: np.random.Generator) -> float:
    """Mean ARI of the clusters that k-means on random parts gives to all cells."""
    from sklearn.metrics import adjusted_rand_score

    labels = [_clusters_by_part(points, n_clusters, settings.share, rng) for _ in range(settings.n_parts)]
    return float(np.mean([adjusted_rand_score(a, b) for a, b in combinations(labels, 2)]))


def _clusters_by_part(points: Embedding, n_clusters: int, share: float, rng: np.random.Generator) -> Labels:
    from sklearn.cluster import KMeans

    part = points[rng.choice(len(points), max(n_clusters, int(share * len(points))), replace=False)]
    algorithm = KMeans(n_clusters, n_init=1, max_iter=50, random_state=int(rng.integers(2**31)))
    with steady_kmeans():
        return np.asarray(algorithm.fit(part).predict(points), dtype=np.int64)


def _test_separation(
    cells: Points, depth: Float[np.ndarray, " cell"], nulls: list[Points], settings: StabilityConfig, seed: int
) -> tuple[bool, float]:
    """Whether cells lie farther apart than data without clusters, and by how much; while in doubt more are drawn."""
    n_communities, own = _separation(cells, seed)
    if n_communities == 1:
        return False, 0.0
    found = [_separation(null, seed, n_wanted=n_communities)[1] for null in nulls]
    while (decided := _decide(own, np.array(found), settings)) is None:
        rng = seeding.generator(seed, f"null {len(found)}")
        null = _without_clusters(cells, depth, settings, rng)
        found.append(_separation(null, seed, n_wanted=n_communities)[1])
    return decided, float((own - np.mean(found, axis=0)).max())


def _decide(
    own: Float[np.ndarray, " way"], nulls: Float[np.ndarray, "null way"], settings: StabilityConfig
) -> bool | None:
    """Whether one way of separation lies beyond every null, and above their mean by the margin; None while in doubt.

    In doubt are values within three standard errors of the margin, and any that few nulls lie near.
    """
    above = own - nulls.mean(axis=0) - settings.margin
    error = 3 * np.maximum(nulls.std(axis=0, ddof=1), LEAST_SPREAD) / np.sqrt(len(nulls))
    gap = own - nulls.max(axis=0)
    is_sure = (gap > SURE_GAP) | (len(nulls) >= SURE_NULLS)
    if np.any(is_sure & (gap > GAP) & (above > error)):
        return True
    if len(nulls) < settings.most_nulls and np.any((gap > GAP) & (above > -error)):
        return None
    return bool(np.any((gap > GAP) & (above > 0)))


def _separation(points: Points, seed: int, *, n_wanted: int | None = None) -> tuple[int, Float[np.ndarray, " way"]]:
    """Count Leiden communities, and say how far they lie apart: mean silhouette, and that beside their nearest.

    ``n_wanted``: number that is searched for; None takes what there are at the resolution of the test. Separation
    depends on the number: of nulls with fewer communities some would lie farther apart than any cells do.
    """
    from sklearn.metrics import silhouette_score

    graph = snn_weights(knn_graph(points, config=GraphConfig()))
    if n_wanted is None:
        communities = leiden(graph, resolution=TESTED_RESOLUTION, seed=seed, n_runs=2)
    else:
        communities = leiden_to_k(graph, n_clusters=n_wanted, seed=seed, n_runs=2, n_steps=NUMBER_STEPS)
    found = int(communities.max()) + 1
    if not 1 < found < len(points):
        return found, np.zeros(2)
    return found, np.array([silhouette_score(points, communities), _from_nearest(points, communities)])


def _from_nearest(points: Points, communities: Labels) -> float:
    """Silhouette of each community and its nearest alone: mean of that of the cells at large and of the highest."""
    from sklearn.metrics import silhouette_samples

    sizes = np.bincount(communities)
    large = np.flatnonzero(sizes >= max(2, SMALLEST_SHARE * len(points)))
    nearest = np.full(len(sizes), np.inf)
    for one, other in combinations(large.tolist(), 2):
        cells = (communities == one) | (communities == other)
        widths = silhouette_samples(points[cells], communities[cells])
        apart = np.mean([widths[communities[cells] == each].mean() for each in (one, other)])
        nearest[[one, other]] = np.minimum(nearest[[one, other]], apart)
    if len(large) < 2:  # noqa: PLR2004 - no pair
        return 0.0
    return float((np.average(nearest[large], weights=sizes[large]) + nearest[large].max()) / 2)
