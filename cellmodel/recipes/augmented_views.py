"""What siamese encoders read: the cells' features with noise and without, and their graph changed in two ways."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor

from cellmodel import seeding
from cellmodel.augment import diffuse, drop_edges, feature_noise
from cellmodel.device import find_device
from cellmodel.nn.siamese import SiameseGraphs
from cellmodel.recipes.base import CellViews
from cellmodel.recipes.whole_graph import csr_tensor, standardised, symmetric_propagation
from cellmodel.train import Batch
from cellmodel.types import CellByGene

NOISE: Final = 0.1  # standard deviation of the factors that make a view of the features
DROPPED_EDGES: Final = 0.1
RESTART: Final = 0.2  # of the diffusion
DIFFUSION_STEPS: Final = 5
DIFFUSION_KEPT: Final = 64  # cells that a row of the diffusion keeps


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AugmentedViews:
    """What does not change while siamese encoders are trained.

    Parameters
    ----------
    cells
        By cell: ``features``, two noisy views of them, ``view`` and ``other_view``, and ``smoothed``, the features
        averaged over the graph.
    graphs
        The graph and its two views.
    counts
        (cell, gene) raw counts; None where the input holds none.
    log_size_factors
        Logarithm of each cell's depth over the mean depth.
    """

    cells: Batch
    graphs: SiameseGraphs
    counts: CellByGene | None
    log_size_factors: Float[Tensor, " cell"]


def augment_views(views: CellViews, *, seed: int) -> AugmentedViews:
    """Make the views: noise on the principal components, the graph diffused, and without its least similar edges.

    The components are centred and scaled by one factor, the noise is drawn once. All tensors lie on the device that
    the views ask for.
    """
    features = standardised(views.pcs)
    rng = seeding.generator(seed, "feature noise")
    noisy = [torch.from_numpy(feature_noise(features, deviation=NOISE, rng=rng)) for _ in range(2)]
    device = find_device(views.compute.device)
    graphs = _graphs(views, device)
    cells = {"features": torch.from_numpy(features), "view": noisy[0], "other_view": noisy[1]}
    cells = {name: values.to(device) for name, values in cells.items()}
    depth = np.maximum(views.depth, 1.0)  # a cell without counts has none to explain
    return AugmentedViews(
        cells={**cells, "smoothed": graphs.propagation @ cells["features"]},
        graphs=graphs,
        counts=views.counts,
        log_size_factors=torch.from_numpy(np.log(depth / depth.mean()).astype(np.float32)).to(device),
    )


def _graphs(views: CellViews, device: torch.device) -> SiameseGraphs:
    linked = (views.graph + sp.identity(views.graph.shape[0], format="csr")).tocoo()
    transition = (sp.diags(1 / np.asarray(linked.sum(axis=1)).ravel()) @ linked).tocsr()
    diffused = diffuse(transition, restart=RESTART, n_steps=DIFFUSION_STEPS, n_kept=DIFFUSION_KEPT)
    dropped = drop_edges(views.graph, views.pcs, share=DROPPED_EDGES)
    return SiameseGraphs(
        propagation=csr_tensor(symmetric_propagation(views.graph)).to(device),
        views=(csr_tensor(diffused).to(device), csr_tensor(symmetric_propagation(dropped)).to(device)),
        edges=torch.from_numpy(np.stack([linked.row, linked.col]).astype(np.int64)).to(device),
    )
