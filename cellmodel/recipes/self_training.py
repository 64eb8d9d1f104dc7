"""What recipes share that learn their centres: how many, where they start, and a target refreshed on a schedule."""

import logging
from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cellmodel.cluster.algorithms import micro_ward
from cellmodel.cluster.n_clusters import NClusters, estimate_n_clusters
from cellmodel.core.arrays import Embedding
from cellmodel.core.errors import InputUnusable
from cellmodel.nn.losses.clustering import Target, cluster_masses, sinkhorn_target
from cellmodel.nn.train import Batch, History, TrainConfig, fit
from cellmodel.recipes.base import CellViews, Term, objective

log = logging.getLogger(__name__)


class ScheduledTarget:
    """Target assignment for the cells, refreshed from the model's own assignment.

    Parameters
    ----------
    assign
        Model → logarithm of its soft assignment, without a gradient.
    every
        Epochs between refreshes; epochs 0, ``every``, 2 ``every`` and so on begin with one.
    sharpness, smoothing
        As in :func:`~cellmodel.nn.losses.clustering.sinkhorn_target` and
        :func:`~cellmodel.nn.losses.clustering.cluster_masses`.

    Attributes
    ----------
    p
        The target; empty before the first epoch.
    epochs
        Epochs that began with a refresh.
    """

    def __init__(
        self,
        assign: Callable[[nn.Module], Float[Tensor, "cell cluster"]],
        *,
        every: int,
        sharpness: float,
        smoothing: float,
    ) -> None:
        self._assign = assign
        self._every = every
        self._sharpness = sharpness
        self._smoothing = smoothing
        self.p: Float[Tensor, "cell cluster"] = torch.empty(0, 0)
        self.epochs: list[int] = []

    def on_epoch(self, epoch: int, model: nn.Module) -> None:
        """Refresh the target where the schedule says so."""
        if epoch % self._every:
            return
        with torch.no_grad():
            log_q = self._assign(model)
        target: Target = sinkhorn_target(
            log_q, cluster_masses(log_q, smoothing=self._smoothing), sharpness=self._sharpness
        )
        if not target.converged:
            log.warning("target of epoch %d: error %.1e after %d steps", epoch, target.error, target.n_iterations)
        self.p = target.p
        self.epochs.append(epoch)


def fit_to_target(
    model: nn.Module,
    terms: tuple[Term, ...],
    *,
    forward: Callable[[nn.Module, Batch], Mapping[str, Tensor]],
    target: ScheduledTarget,
    cells: Batch,
    config: TrainConfig,
    rng: np.random.Generator,
    report: Callable[[int, nn.Module], None],
) -> History:
    """Train with a target that is refreshed on its schedule.

    ``forward``: gives all that the terms read but the target, which is added as ``p``. ``report``: given the number of
    epochs done, from 0 to all, and the model.
    """

    def start_epoch(epoch: int, model: nn.Module) -> None:
        target.on_epoch(epoch, model)
        report(epoch, model)

    def with_target(model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        return {**forward(model, batch), "p": target.p}

    history = fit(model, objective(with_target, terms), views=cells, config=config, rng=rng, on_epoch=start_epoch)
    report(len(history), model)
    return history


def number_of_centres(views: CellViews, seed: int) -> tuple[int, NClusters | None]:
    """Take the number that the views ask for, or estimate one and say how.

    Raises ``InputUnusable`` if more are asked for than there are cells.
    """
    if views.n_clusters is None:
        estimate = estimate_n_clusters(views.graph, pcs=views.pcs, depth=views.depth, seed=seed)
        return estimate.n_clusters, estimate
    if views.n_clusters > len(views.pcs):
        raise InputUnusable(f"{views.n_clusters} clusters were asked for, there are {len(views.pcs)} cells")
    return views.n_clusters, None


def start_centres(centres: nn.Parameter, z: Embedding, *, seed: int) -> float:
    """Set centres to the means of micro-clusters merged by Ward.

    Returns how far cells lie from their own centre, as the root of the mean square; 1 where all lie on it.
    """
    clusters = micro_ward(z, n_clusters=len(centres), seed=seed)
    means = np.stack([z[clusters == cluster].mean(axis=0) for cluster in range(len(centres))])
    with torch.no_grad():
        centres.copy_(torch.from_numpy(means))
    return float(np.sqrt(np.square(z - means[clusters]).sum(axis=1).mean())) or 1.0
