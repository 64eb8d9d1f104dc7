"""Two kinds of data sets, told apart without labels: types unequal and far apart, or near, equal or graded.

Written down and fixed before any rule was scored. From the communities of Leiden at resolution .3 (seed 0) on the
cosine shared-neighbour graph of 30 principal components of log values: ``inequality`` is the Gini coefficient of
their sizes, ``crossing`` the share of the edges to the 15 nearest cells that end in another community. Both bounds lie
near the medians over the thirty open sets.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Int

from cellmodel.cluster.algorithms import leiden
from cellmodel.core.arrays import Embedding
from cellmodel.core.config import GraphConfig
from cellmodel.pp.neighbors import knn_graph, snn_weights

Kind = Literal["unequal and apart", "near, equal or graded"]
RESOLUTION: Final = 0.3
LEAST_INEQUALITY: Final = 0.25
MOST_CROSSING: Final = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Descriptors:
    """What says which kind a data set is of."""

    inequality: float
    crossing: float

    @property
    def kind(self) -> Kind:
        """Unequal and apart where both bounds are met."""
        is_first = self.inequality >= LEAST_INEQUALITY and self.crossing <= MOST_CROSSING
        return "unequal and apart" if is_first else "near, equal or graded"


def describe(pcs: Embedding) -> Descriptors:
    """Describe cells by their principal components."""
    knn = knn_graph(pcs, config=GraphConfig())
    communities = leiden(snn_weights(knn), resolution=RESOLUTION, seed=0)
    edges = knn.tocoo()
    return Descriptors(
        inequality=gini(np.bincount(communities)),
        crossing=float(np.mean(communities[edges.row] != communities[edges.col])),
    )


def gini(sizes: Int[np.ndarray, " community"]) -> float:
    """Gini coefficient: 0 where all sizes are equal."""
    ranked, n_sizes = np.sort(sizes), len(sizes)
    return float((2 * np.arange(1, n_sizes + 1) - n_sizes - 1) @ ranked / (n_sizes * ranked.sum()))
