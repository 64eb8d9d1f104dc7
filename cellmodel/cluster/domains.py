"""Domains of a tissue: groups of cells that differ in expression and lie together."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

import numpy as np

from cellmodel.cluster.algorithms import draw_rows, restore_order, steady_kmeans
from cellmodel.core import random as seeding
from cellmodel.core.arrays import CellGraph, Embedding, Labels, content_order
from cellmodel.pp.neighbors import smoothing

WIDTHS: Final = (10, 15, 20)  # principal components
STEPS: Final = (1, 2, 3)  # of averaging over the neighbours
COVARIANCES: Final = ("tied", "full")  # one for all domains, or one for each
N_STARTS: Final = 3
FITTED_CELLS: Final = 5_000  # a mixture is fitted to so many cells at most
LEAST_VARIANCE: Final = 1e-4  # of a Gaussian


def spatial_domains(pcs: Embedding, spatial: CellGraph, *, n_clusters: int, seed: int) -> Labels:
    """Mixtures of Gaussians in components that are averaged over the neighbours; the partition most like the others.

    Neither the number of components, nor the steps of averaging, nor the covariance has a value that is right for all
    tissues: a section of cortex wants one covariance for all its layers, a tumour one for each region. All are fitted,
    and of their partitions the medoid is kept, the one with the highest mean ARI to the others. Mixtures with these
    covariances are those of mclust, with which domains are usually found :cite:`dong2022stagate`.

    ``pcs``: (cell, dim) principal components, the leading one first. ``spatial``: (cell, cell) graph of the neighbours
    by coordinates. ``n_clusters``: 1 to the number of cells. ``seed``: the run's seed. Permuting the cells permutes the
    domains. Returns domains, the largest first; fewer than ``n_clusters`` where every mixture left one empty. Raises
    ``ValueError`` if ``n_clusters`` is out of range.
    """
    from sklearn.metrics import adjusted_rand_score

    if not 1 <= n_clusters <= len(pcs):
        raise ValueError(f"n_clusters must lie in 1 .. {len(pcs)}, got {n_clusters}")
    order = content_order(pcs)
    found = list(_partitions(pcs[order], spatial[order][:, order], n_clusters=n_clusters, seed=seed))
    most = max(len(np.unique(each)) for each in found)
    found = [each for each in found if len(np.unique(each)) == most]
    likeness = [sum(adjusted_rand_score(each, other) for other in found) for each in found]
    return restore_order(found[int(np.argmax(likeness))], order)


def _partitions(pcs: Embedding, spatial: CellGraph, *, n_clusters: int, seed: int) -> Iterator[Labels]:
    from sklearn.mixture import GaussianMixture

    fitted = draw_rows(len(pcs), FITTED_CELLS, seed, purpose="cells of domains")
    widths = sorted({min(width, pcs.shape[1]) for width in WIDTHS})
    for n_steps, averaged in enumerate(islice(smoothing(pcs, spatial), max(STEPS) + 1)):
        for width in widths if n_steps in STEPS else ():
            for covariance in COVARIANCES:
                points = averaged[:, :width].astype(np.float64)
                mixture = GaussianMixture(
                    n_clusters,
                    covariance_type=covariance,
                    n_init=N_STARTS,
                    reg_covar=LEAST_VARIANCE,
                    max_iter=200,
                    random_state=seeding.derive(seed, f"domains {n_steps} {width} {covariance}"),
                )
                with steady_kmeans():
                    yield mixture.fit(points[fitted]).predict(points).astype(np.int64)
