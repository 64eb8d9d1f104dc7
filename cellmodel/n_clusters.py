"""The number of clusters, without labels."""

from dataclasses import dataclass
from typing import Final

from cellmodel.cluster import leiden
from cellmodel.types import CellGraph

RESOLUTION: Final = 0.5
CURVE: Final = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class NClusters:
    """An estimate, how it was made, and how it depends on the one setting it has.

    Parameters
    ----------
    n_clusters
        The estimate, at least 1.
    method
        In words.
    curve
        Pairs of Leiden resolution and number of communities.
    """

    n_clusters: int
    method: str
    curve: tuple[tuple[float, int], ...]


def estimate_n_clusters(graph: CellGraph, *, seed: int) -> NClusters:
    """Estimate the number of clusters as the number of Leiden communities at resolution 0.5.

    The curve over other resolutions is for the eye: a plateau around 0.5 speaks for the estimate.
    """
    estimate = int(leiden(graph, resolution=RESOLUTION, seed=seed).max()) + 1
    counts = {value: int(leiden(graph, resolution=value, seed=seed, n_runs=1).max()) + 1 for value in CURVE}
    counts[RESOLUTION] = estimate
    return NClusters(
        n_clusters=estimate,
        method=f"communities of Leiden at resolution {RESOLUTION}",
        curve=tuple(counts.items()),
    )
