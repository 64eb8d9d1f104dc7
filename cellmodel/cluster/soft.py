"""Soft clustering: a Gaussian mixture, and assignment by optimal transport."""

import logging
import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch.nn import functional as F

from cellmodel.cluster.algorithms import cluster_means, kmeans, order_by_size
from cellmodel.core.arrays import Embedding, Labels
from cellmodel.nn.soft_assignment import cluster_masses, sinkhorn_target

log = logging.getLogger(__name__)
N_STARTS: Final = 5  # of the k-means that both begin with
LEAST_VARIANCE: Final = 1e-3  # of a Gaussian, in units of the mean variance of the features


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SoftClusters:
    """Clusters, and whether the solver came to an end."""

    labels: Labels  # 0 the largest; fewer clusters than asked for where one stayed empty
    n_rounds: int  # rounds that were made
    converged: bool  # whether the last round changed nothing that counts, and its solver reached its tolerance


def gaussian_mixture(features: Embedding, *, n_clusters: int, seed: int) -> SoftClusters:
    """Fit a mixture of Gaussians, each with a variance of its own in each dimension, from k-means clusters.

    ``features``: (cell, dim). ``n_clusters``: components, 1 to the number of cells. ``seed``: of k-means; the mixture
    itself draws nothing. Raises ``ValueError`` if ``n_clusters`` is out of range, or a feature is not finite.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    start = kmeans(features, n_clusters=n_clusters, seed=seed, n_init=N_STARTS)
    points = _scaled(features)
    sizes = np.bincount(start, minlength=n_clusters)
    means = cluster_means(points, start)
    variances = np.maximum(cluster_means(points**2, start) - means**2, 0.0) + LEAST_VARIANCE
    mixture = GaussianMixture(
        n_clusters,
        covariance_type="diag",
        weights_init=sizes / sizes.sum(),
        means_init=means,
        precisions_init=1 / variances,  # without these it would draw a k-means of its own, by the order of the cells
        reg_covar=LEAST_VARIANCE,
        max_iter=300,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning)  # reported in the result
        labels = mixture.fit_predict(points)
    return SoftClusters(labels=order_by_size(labels), n_rounds=mixture.n_iter_, converged=bool(mixture.converged_))


def transport_clusters(
    features: Embedding,
    *,
    n_clusters: int,
    seed: int,
    smoothing: float = 0.1,
    sharpness: float = 5.0,
    n_rounds: int = 50,
) -> SoftClusters:
    r"""Assign cells to centers by optimal transport and move the centers, in turns, from k-means clusters.

    The assignment is the transport plan between cells of equal mass and clusters whose masses are those of the current
    assignment shrunk towards equal ones :cite:`asano2020selflabelling`, with cost
    :math:`\lVert z_i - \mu_c \rVert^2` and entropic regularization; a center is the mean of the cells by the plan.

    ``features``: (cell, dim), Euclidean. ``n_clusters``: number of centers, 1 to the number of cells. ``seed``: of
    k-means; nothing else is drawn. ``smoothing``: how far cluster sizes are shrunk towards equal ones: 0 leaves them, 1
    makes them equal; measured on nine data sets, equal sizes cost more than any smoothing gains, so little of it is
    used. ``sharpness``: inverse of the entropic regularization, in units of the mean squared distance of the cells to
    their k-means centers. ``n_rounds``: of assigning cells and moving centers, at most. Raises ``ValueError`` if one of
    them is out of range, or a feature is not finite.
    """
    if not 0 <= smoothing <= 1 or sharpness <= 0 or n_rounds < 1:
        got = f"{smoothing}, {sharpness}, {n_rounds}"
        raise ValueError(f"smoothing must lie in [0, 1], sharpness be > 0 and n_rounds >= 1, got {got}")
    start = kmeans(features, n_clusters=n_clusters, seed=seed, n_init=N_STARTS)
    points = torch.from_numpy(features.astype(np.float64))
    centers = torch.from_numpy(cluster_means(features.astype(np.float64), start))
    spread = max(float((points - centers[torch.from_numpy(start)]).square().sum(dim=1).mean()), 1e-12)
    nearest = torch.from_numpy(start)
    rounds, target, moved = 0, None, True
    while moved and rounds < n_rounds:
        rounds += 1
        log_q = F.log_softmax(-torch.cdist(points, centers).square() / spread, dim=1)
        masses = cluster_masses(F.log_softmax(sharpness * log_q, dim=1), smoothing=smoothing)
        target = sinkhorn_target(log_q, masses, sharpness=sharpness)
        centers = target.p.T @ points / target.p.sum(dim=0)[:, None]
        assigned = target.p.argmax(dim=1)
        moved, nearest = not torch.equal(assigned, nearest), assigned
    solved = target is not None and target.converged
    return SoftClusters(labels=order_by_size(nearest.numpy()), n_rounds=rounds, converged=solved and not moved)


def _scaled(features: Embedding) -> Float[np.ndarray, "cell dim"]:
    """Center the features and scale all by one factor to a mean variance of one."""
    centered = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    return centered / max(float(np.sqrt(centered.var(axis=0).mean())), 1e-12)
