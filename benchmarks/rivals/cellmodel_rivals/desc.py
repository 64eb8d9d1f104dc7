"""``desc``: an autoencoder whose clusters train themselves, after DESC (doi:10.1038/s41467-020-15851-3) and scDCC.

An autoencoder is trained first; then the encoder and the centers are trained on the divergence of the Student-t
assignment from a sharper target, the square of the assignment over the size of its cluster :cite:`xie2016dec`; a cell
belongs to its nearest center.

As in DESC's published code: the widths by the number of cells, ReLU between layers and tanh at both ends, scaled
genes of at most ten standard deviations, batches of 256, 300 epochs of the autoencoder, centers from k-means where k
is given, a target for five epochs at a time, until less than .5 % of the cells change their cluster. Different here:
Adam at .001 trains all layers together, where layers are trained one by one with dropout, then all, by SGD; k
estimated as for all recipes, where Louvain gives the centers; at most 40 targets, where 1,000 are allowed; cells
beyond the last whole batch of an epoch wait for the next. Of scDCC, whose loss of clusters without constraints is the
same, the zero-inflated likelihood and the noise are left out. The texts of the papers were not compared, their code
was.
"""

from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cellmodel.cluster.algorithms import kmeans
from cellmodel.core import random as seeding
from cellmodel.nn.soft_assignment import assignment_divergence, log_soft_assignment
from cellmodel.nn.train import (
    Batch,
    History,
    Rows,
    Term,
    TrainConfig,
    find_device,
    fit,
    objective,
    without,
)
from cellmodel.recipes.base import CellViews, Recipe, Representation
from cellmodel.recipes.graph_training import in_content_order
from cellmodel.recipes.heads import assignment_head, number_of_clusters
from cellmodel_rivals.genes import ScaledGenes, dense_layers, embed, encode, represented

WIDTHS: Final = ((20_000, (128, 32)), (10_000, (64, 32)), (5_000, (32, 16)), (2_000, (128,)), (500, (64,)), (0, (16,)))
PRETRAINING: Final = TrainConfig(n_epochs=300, batch_size=256, learning_rate=1e-3, weight_decay=0.0, patience=20)
SELF_TRAINING: Final = TrainConfig(n_epochs=200, batch_size=256, learning_rate=1e-3, weight_decay=0.0)
EPOCHS_A_TARGET: Final = 5
CHANGED: Final = 0.005  # share of the cells whose cluster changes, below which training ends
TERMS: Final = (
    Term(name="reconstruct", weight=1.0, loss=lambda z: F.mse_loss(z["decoded"], z["genes"])),
    Term(name="cluster", weight=1.0, loss=lambda z: assignment_divergence(z["p"], z["log_q"])),
)


make_encoder: Final = partial(dense_layers, activation=nn.ReLU, last=nn.Tanh)


class _SelfTrained(nn.Module):
    """The autoencoder and the centers in its latent space; they lie at the origin until they are set."""

    def __init__(self, dims: tuple[int, ...], *, n_clusters: int) -> None:
        super().__init__()
        self.encoder = make_encoder(dims)
        self.decoder = make_encoder(dims[::-1])
        self.centers = nn.Parameter(torch.zeros(n_clusters, dims[-1]))


def represent(views: CellViews, seed: int, *, off: frozenset[str] = frozenset()) -> Representation:
    """Train the autoencoder, then its encoder with the centers.

    ``off``: the stage to leave out. Raises ``InputUnusable`` if more clusters are asked for than there are cells.
    """
    n_clusters = number_of_clusters(views, seed)
    stages = {term.name for term in without(TERMS, off)}
    ordered, places = in_content_order(views, reads=("pcs", "expression"))
    genes = ScaledGenes.of(ordered.expression)
    rng = seeding.generator(seed, "batches")
    with seeding.scope(seed):
        widths = next(widths for n_cells, widths in WIDTHS if len(genes) > n_cells)
        model = _SelfTrained((len(genes.kept), *widths), n_clusters=n_clusters).to(find_device(views.device))
        history: History = ()
        if "reconstruct" in stages:
            config = PRETRAINING.changed(views.training)
            loss = objective(_restore, TERMS[:1])
            history = fit(model, loss, views={"genes": genes}, config=config, rng=rng)
        z = encode(model.encoder, genes)
        clusters = torch.from_numpy(kmeans(z.cpu().numpy(), n_clusters=n_clusters, seed=seed)).to(z.device)
        with torch.no_grad():
            model.centers.copy_(torch.stack([z[clusters == cluster].mean(dim=0) for cluster in range(n_clusters)]))
        if "cluster" in stages:
            history += _self_train(model, genes, SELF_TRAINING.changed(views.training), rng)
    centers = model.centers.detach().cpu().numpy().copy()
    return represented(model.encoder, genes, places, history=history, centers=centers)


def sharpened_target(log_q: Float[Tensor, "cell cluster"]) -> Float[Tensor, "cell cluster"]:
    r"""Target of deep embedded clustering :cite:`xie2016dec` (eq. 3): sharper, and no cluster grows by its size alone.

    .. math:: p_{ic} \propto q_{ic}^2 / \sum_j q_{jc}

    Returns rows that sum to one, without a gradient.
    """
    log_sizes = torch.logsumexp(log_q, dim=0)
    return F.softmax(2 * log_q - log_sizes, dim=1).detach()


def _restore(model: Any, batch: Batch) -> dict[str, Tensor]:
    return {"genes": batch["genes"], "decoded": model.decoder(model.encoder(batch["genes"]))}


def _self_train(model: _SelfTrained, genes: ScaledGenes, config: TrainConfig, rng: np.random.Generator) -> History:
    """Train the encoder and the centers on one target after another, until few cells change their cluster."""
    history: History = ()
    clusters = torch.full((len(genes),), -1)
    cells: dict[str, Tensor | Rows] = {"genes": genes, "cell": torch.arange(len(genes))}
    for start in range(0, config.n_epochs or 0, EPOCHS_A_TARGET):
        before = clusters
        with torch.no_grad():
            log_q = log_soft_assignment(encode(model.encoder, genes), model.centers)
        target, clusters = sharpened_target(log_q), log_q.argmax(dim=1).cpu()
        if (clusters != before).float().mean() < CHANGED:
            break

        def assign(_: nn.Module, batch: Batch, target: Tensor = target) -> dict[str, Tensor]:
            log_q = log_soft_assignment(model.encoder(batch["genes"]), model.centers)
            return {"log_q": log_q, "p": target[batch["cell"]]}

        history += fit(
            model,
            objective(assign, TERMS[1:]),
            views=cells,
            config=replace(config, n_epochs=min(EPOCHS_A_TARGET, (config.n_epochs or 0) - start)),
            rng=rng,
        )
    return history


RECIPE: Final = Recipe(
    name="desc",
    represent=represent,
    head=assignment_head,
    uses_text=False,
    out_of_core=True,
    train=represent,
    objectives=tuple(term.name for term in TERMS),
    learns_centers=True,
    embed=partial(embed, make=make_encoder),
)
