"""Training on a graph of cells: their order, batches, learned centers and the target of these.

Recipes that learn centers differ in common from what their papers publish:

- The result is the last epoch; published is the epoch with the best score against the true labels.
- Divergences take logarithms, so that they are never negative, the centers are optimized, and Student's t has the
  cells' own distance from their centers as its scale, not 1 whatever the scale of the latent space.
- Encoders start from linear maps, the leading principal components: the mean of several embeddings means something only
  in common coordinates.
- Centers start from k-means clusters merged by Ward: self-training keeps the partition that it starts from, and k-means
  alone splits large types where it should keep small ones. The head is the paper's, each cell to its nearest learned
  center.

Random draws follow the cells and not their order.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cellmodel.cluster.algorithms import cluster_means, kmeans, leiden
from cellmodel.core.arrays import CellGraph, Embedding, content_order
from cellmodel.nn.soft_assignment import cluster_masses, log_soft_assignment, sinkhorn_target
from cellmodel.nn.train import BLOCK_CELLS, Batch, Draw, Forward, History, TensorTerm, TrainConfig, fit, objective
from cellmodel.recipes.base import CellViews

if TYPE_CHECKING:
    from cellmodel.nn.graphs import CellGraphs

log = logging.getLogger(__name__)
Read = TypeVar("Read")
# an epoch is a step, on all cells or on a batch of them; a stage ends sooner when its loss does
TRAINING: Final = TrainConfig(n_steps=50, batch_size=None, learning_rate=1e-3, weight_decay=0.0, patience=20)
TARGET_EVERY: Final = 10  # epochs
SHARPNESS: Final = 5.0
FEWEST_MEANS: Final = 40  # that centers start from
MASS_SMOOTHING: Final = 0.1  # how far the target shrinks cluster sizes towards equal ones
BY_CELL: Final = ("expression", "pcs", "smoothed", "depth", "text", "counts")  # first axis is the cell
BY_PAIR: Final = ("graph", "knn", "spatial")  # both axes are


def in_content_order(
    views: CellViews, *, reads: Collection[str] = (*BY_CELL, *BY_PAIR, "text_paths")
) -> tuple[CellViews, Int[np.ndarray, " cell"]]:
    """Sort the cells by their principal components, so that random draws follow the cells and not their positions.

    ``reads``: fields to sort; others stay as they are, since they may be large. Returns the views in that order, and
    the position of each of the original cells in it: ``sorted[places]`` is the original order. Equal cells may change
    places with one another.
    """
    order = content_order(views.pcs)
    there = {name: getattr(views, name) for name in reads if getattr(views, name) is not None}
    ordered = {name: values[order] for name, values in there.items() if name in BY_CELL}
    ordered |= {name: values[order][:, order] for name, values in there.items() if name in BY_PAIR}
    if "text_paths" in there:
        ordered["text_paths"] = tuple(path[order] for path in there["text_paths"])
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return replace(views, **ordered), places


@dataclass(frozen=True, kw_only=True, slots=True)
class Batching:
    """When and how the graph of the cells is trained in parts :cite:`chiang2019clustergcn`."""

    whole_cells: int = 20_000  # cells up to which a step takes the whole graph
    part_cells: int = 256  # mean size of the parts: neighbors in the components, so that few edges are cut
    batch_cells: int = 8_192  # mean size of a batch: parts drawn at random; the edges between them count


BATCHING: Final = Batching()


def batches(features: Embedding, *, seed: int, batching: Batching, spatial: CellGraph | None = None) -> Draw | None:
    """Draw batches of whole parts of the cells; None where a step takes the whole graph.

    ``spatial``: the graph of the coordinates where it is the one to train on: its communities are the parts then.
    """
    n_cells = len(features)
    if n_cells <= batching.whole_cells:
        return None
    n_parts = max(n_cells // batching.part_cells, 1)
    if spatial is None:
        parts = kmeans(features, n_clusters=n_parts, seed=seed, n_init=1)
    else:
        parts = leiden(spatial, resolution=n_parts, seed=seed, n_runs=1)
        n_parts = int(parts.max()) + 1
    n_drawn = min(max(round(batching.batch_cells * n_parts / n_cells), 1), n_parts)

    def draw(rng: np.random.Generator) -> Int[Tensor, " cell"]:
        chosen = rng.choice(n_parts, n_drawn, replace=False)
        return torch.from_numpy(np.flatnonzero(np.isin(parts, chosen)))

    return draw


def in_blocks(
    read: Callable[[Batch], dict[str, Tensor]], cells: Batch, *, block_cells: int = BLOCK_CELLS
) -> dict[str, Tensor]:
    """Apply what reads each cell alone to some cells at a time, so that not all activations are in memory at once."""
    blocks = zip(*(torch.split(values, block_cells) for values in cells.values()), strict=True)
    found = [read(dict(zip(cells, block, strict=True))) for block in blocks]
    return {name: torch.cat([block[name] for block in found]) for name in found[0]}


def standard_of(features: Embedding) -> dict[str, np.ndarray]:
    """Mean of the features, and the largest of their standard deviations."""
    shift = features.mean(axis=0)
    scale = max(float((features - shift).std(axis=0).max()), 1e-12)
    return {"shift": shift, "scale": np.array([scale], dtype=features.dtype)}


def standardized(features: Embedding, standard: Mapping[str, np.ndarray] | None = None) -> Embedding:
    """Center the features and scale them by one common factor, so that directions keep their relative length."""
    standard = standard or standard_of(features)
    return ((features - standard["shift"]) / standard["scale"]).astype(np.float32)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GraphInputs(Generic[Read]):
    """What does not change while a model is trained on a graph of cells."""

    cells: Batch  # by cell, with its position as ``cell``
    graphs: "CellGraphs[Read]"
    draw: Draw | None = None  # gives the cells of a step; None where it takes all
    training: TrainConfig = TRAINING  # of each stage


@dataclass
class ScheduledTarget:
    """Target assignment for the cells, refreshed from the model's own assignment."""

    assign: Callable[[], Float[Tensor, "cell cluster"]]  # logarithm of the soft assignment
    every: int = TARGET_EVERY  # epochs between refreshes; epoch 0 begins with one
    sharpness: float = SHARPNESS
    smoothing: float = MASS_SMOOTHING
    p: Float[Tensor, "cell cluster"] = field(default_factory=lambda: torch.empty(0, 0))  # empty before the first epoch
    epochs: list[int] = field(default_factory=list)  # that began with a refresh

    def on_epoch(self, epoch: int) -> None:
        """Refresh the target where the schedule says so."""
        if epoch % self.every:
            return
        with torch.no_grad():
            log_q = self.assign()
        masses = cluster_masses(log_q, smoothing=self.smoothing)
        target = sinkhorn_target(log_q, masses, sharpness=self.sharpness)
        if not target.converged:
            log.warning("target of epoch %d: error %.1e after %d steps", epoch, target.error, target.n_iterations)
        self.p = target.p
        self.epochs.append(epoch)


def self_train(
    model: nn.Module,
    centers: nn.Parameter,
    terms: tuple[TensorTerm, ...],
    inputs: GraphInputs[Read],
    *,
    forward: Forward,
    embed: Callable[[], Float[Tensor, "cell dim"]],
    rng: np.random.Generator,
    seed: int,
) -> History:
    """Set the centers among the cells, and train all with a target that is refreshed on its schedule.

    ``forward``: gives all that the terms read but the assignment, ``log_q``, and its target, ``p``.
    """
    scale = start_centers(centers, embed().cpu().numpy(), seed=seed)
    target = ScheduledTarget(lambda: log_soft_assignment(embed(), centers, scale=scale))

    def assigned(model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        outputs = forward(model, batch)
        log_q = log_soft_assignment(outputs["z"], centers, scale=scale)
        return {**outputs, "log_q": log_q, "p": target.p[batch["cell"]]}

    loss, config = objective(assigned, terms), inputs.training
    return fit(model, loss, views=inputs.cells, config=config, rng=rng, on_epoch=target.on_epoch, draw=inputs.draw)


def start_centers(centers: nn.Parameter, z: Embedding, *, seed: int) -> float:
    """Set centers to the means of many k-means clusters merged by Ward, which counts each once, whatever its size.

    Returns how far cells lie from their own center, as the root of the mean square; 1 where all lie on it.
    """
    from sklearn.cluster import AgglomerativeClustering

    n_clusters = len(centers)
    n_means = max(n_clusters, min(max(FEWEST_MEANS, 3 * n_clusters), len(z) // 3))
    clusters = kmeans(z, n_clusters=n_means, seed=seed, n_init=1)
    if n_means > n_clusters:
        merged = AgglomerativeClustering(n_clusters, linkage="ward").fit_predict(cluster_means(z, clusters))
        clusters = merged[clusters]
    means = np.stack([z[clusters == cluster].mean(axis=0) for cluster in range(len(centers))])
    with torch.no_grad():
        centers.copy_(torch.from_numpy(means))
    return float(np.sqrt(np.square(z - means[clusters]).sum(axis=1).mean())) or 1.0
