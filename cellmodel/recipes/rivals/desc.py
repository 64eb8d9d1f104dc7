"""``desc``: an autoencoder whose clusters train themselves, after DESC (doi:10.1038/s41467-020-15851-3) and scDCC.

As in the papers: an autoencoder is trained first (layers of 64 and 32, batches of 256); then the encoder and the
centres are trained on the divergence of the Student-t assignment from a sharper target, the square of the assignment
over the size of its cluster :cite:`xie2016dec`; a cell belongs to its nearest centre.

Different here: all layers of the autoencoder are trained together, for 300 epochs or until the error stalls; centres
start from k-means (scDCC), k given or estimated as for every recipe, where DESC takes Louvain; the target is refreshed
every epoch, 50 times, and the last one counts.
"""

from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cellmodel.cluster.algorithms import kmeans
from cellmodel.core import random as seeding
from cellmodel.core.device import find_device
from cellmodel.nn.modules import Autoencoder
from cellmodel.nn.soft_assignment import assignment_divergence, log_soft_assignment, sharpened_target
from cellmodel.nn.train import Batch, History, Rows, TrainConfig, fit
from cellmodel.recipes.base import CellViews, OnEpoch, Recipe, Representation, Term, objective, without
from cellmodel.recipes.graph_training import Report, in_content_order, number_of_centres, reporter
from cellmodel.recipes.heads import assignment_head
from cellmodel.recipes.rivals.genes import ScaledGenes, embed, encode, represented

DIMS: Final = (64, 32)
PRETRAINING: Final = TrainConfig(n_epochs=300, batch_size=256, learning_rate=1e-3, weight_decay=0.0, patience=20)
SELF_TRAINING: Final = TrainConfig(n_epochs=50, batch_size=256, learning_rate=1e-3, weight_decay=0.0)
TERMS: Final = (
    Term(name="reconstruct", weight=1.0, loss=lambda z: F.mse_loss(z["decoded"], z["genes"])),
    Term(name="cluster", weight=1.0, loss=lambda z: assignment_divergence(z["p"], z["log_q"])),
)


class _SelfTrained(Autoencoder):
    """The autoencoder and the centres in its latent space; they lie at the origin until they are set."""

    def __init__(self, dims: tuple[int, ...], *, n_clusters: int) -> None:
        super().__init__(dims)
        self.centres = nn.Parameter(torch.zeros(n_clusters, dims[-1]))


def represent(
    views: CellViews, seed: int, *, on_epoch: OnEpoch | None = None, off: frozenset[str] = frozenset()
) -> Representation:
    """Train the autoencoder, then its encoder with the centres.

    ``off``: the stage to leave out. Raises ``InputUnusable`` if more clusters are asked for than there are cells.
    """
    n_clusters, estimate = number_of_centres(views, seed)
    stages = {term.name for term in without(TERMS, off)}
    ordered, places = in_content_order(views, reads=("pcs", "expression"))
    genes = ScaledGenes.of(ordered.expression)
    rng = seeding.generator(seed, "batches")
    with seeding.scope(seed):
        model = _SelfTrained((len(genes.mean), *DIMS), n_clusters=n_clusters).to(find_device(views.compute.device))
        report = reporter(on_epoch, lambda: encode(model.encoder, genes).cpu().numpy()[places])
        history: History = ()
        if "reconstruct" in stages:
            config = PRETRAINING.changed(views.training)
            loss = objective(_restore, TERMS[:1])
            history = fit(model, loss, views={"genes": genes}, config=config, rng=rng, on_epoch=report)
        z = encode(model.encoder, genes)
        clusters = torch.from_numpy(kmeans(z.cpu().numpy(), n_clusters=n_clusters, seed=seed)).to(z.device)
        with torch.no_grad():
            model.centres.copy_(torch.stack([z[clusters == cluster].mean(dim=0) for cluster in range(n_clusters)]))
        if "cluster" in stages:
            history += _self_train(model, genes, SELF_TRAINING.changed(views.training), rng, on_epoch=report)
    centres = model.centres.detach().cpu().numpy().copy()
    return represented(model.encoder, genes, places, history=history, centres=centres, n_clusters=estimate)


def _restore(model: Any, batch: Batch) -> dict[str, Tensor]:
    return {"genes": batch["genes"], "decoded": model.decoder(model.encoder(batch["genes"]))}


def _self_train(
    model: _SelfTrained, genes: ScaledGenes, config: TrainConfig, rng: np.random.Generator, *, on_epoch: Report
) -> History:
    """Train the encoder and the centres on a target that every epoch begins with."""
    target = torch.empty(0)

    def refresh(epoch: int, _: nn.Module) -> None:
        nonlocal target
        with torch.no_grad():
            target = sharpened_target(log_soft_assignment(encode(model.encoder, genes), model.centres))
        on_epoch(epoch, model)

    def assign(_: nn.Module, batch: Batch) -> dict[str, Tensor]:
        log_q = log_soft_assignment(model.encoder(batch["genes"]), model.centres)
        return {"log_q": log_q, "p": target[batch["cell"]]}

    cells: dict[str, Tensor | Rows] = {"genes": genes, "cell": torch.arange(len(genes))}
    return fit(model, objective(assign, TERMS[1:]), views=cells, config=config, rng=rng, on_epoch=refresh)


RECIPE: Final = Recipe(
    name="desc",
    summary="autoencoder whose clusters train themselves",
    represent=represent,
    head=assignment_head,
    uses_text=False,
    source="DESC, doi:10.1038/s41467-020-15851-3; scDCC, doi:10.1038/s41467-021-22008-3",
    out_of_core=True,
    train=represent,
    objectives=tuple(term.name for term in TERMS),
    learns_centres=True,
    embed=partial(embed, dims=DIMS),
)
