"""``scmae``: a masked autoencoder of genes, after scMAE (Fang 2024, doi:10.1093/bioinformatics/btae020).

As in the paper: a share of a cell's values is replaced by values that the same genes have in other cells; from the
latent space a linear map predicts which, and a linear decoder of the latent and that prediction restores the
expression; the errors of replaced values count three times as much. Masked share, weights, learning rate, size of the
batches and number of epochs are those of the published code.

Different here: 2,000 highly variable genes of the pipeline, where 1,000 are published; layers of 256 and 128 with
LeakyReLU between them and no layer normalisation; k-means, or k estimated as for every recipe.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cellmodel.core import random as seeding
from cellmodel.core.device import find_device
from cellmodel.nn.modules import MaskedAutoencoder
from cellmodel.nn.train import Batch, TrainConfig, fit
from cellmodel.recipes.base import CellViews, OnEpoch, Recipe, Representation, Term, objective, without
from cellmodel.recipes.graph_training import in_content_order, reporter
from cellmodel.recipes.heads import kmeans_head
from cellmodel.recipes.rivals.genes import ScaledGenes, embed, encode, represented

DIMS: Final = (256, 128)
MASKED: Final = 0.4  # share of the values
MASKED_WEIGHT: Final = 0.75  # of an error of a masked value, the rest that of another
TRAINING: Final = TrainConfig(n_epochs=80, batch_size=256, learning_rate=1e-3, weight_decay=0.0)


def _reconstruct(z: Mapping[str, Tensor]) -> Tensor:
    weights = torch.where(z["is_masked"], MASKED_WEIGHT, 1 - MASKED_WEIGHT)
    return (weights * (z["decoded"] - z["genes"]).square()).mean()


TERMS: Final = (
    Term(
        name="mask",
        weight=0.7,
        loss=lambda z: F.binary_cross_entropy_with_logits(z["mask_logits"], z["is_masked"].float()),
    ),
    Term(name="reconstruct", weight=0.3, loss=_reconstruct),
)


def represent(
    views: CellViews, seed: int, *, on_epoch: OnEpoch | None = None, off: frozenset[str] = frozenset()
) -> Representation:
    """Train the masked autoencoder, and take its latent space."""
    ordered, places = in_content_order(views, reads=("pcs", "expression"))
    genes = ScaledGenes.of(ordered.expression)
    rng = torch.Generator().manual_seed(seeding.derive(seed, "masks"))
    with seeding.scope(seed):
        model = MaskedAutoencoder((len(genes.mean), *DIMS)).to(find_device(views.compute.device))
        history = fit(
            model,
            objective(partial(_forward, rng=rng), without(TERMS, off)),
            views={"genes": genes},
            config=TRAINING.changed(views.training),
            rng=seeding.generator(seed, "batches"),
            on_epoch=reporter(on_epoch, lambda: encode(model.encoder, genes).cpu().numpy()[places]),
        )
    return represented(model.encoder, genes, places, history=history)


def _forward(model: nn.Module, batch: Batch, *, rng: torch.Generator) -> Mapping[str, Tensor]:
    """Mask a batch, predict what was masked, and restore it; a value that is replaced by its equal is not masked."""
    genes = batch["genes"]
    other = torch.randint(len(genes), genes.shape, generator=rng).to(genes.device)
    is_drawn = (torch.rand(genes.shape, generator=rng) < MASKED).to(genes.device)
    corrupted = torch.where(is_drawn, genes.gather(0, other), genes)
    mask_logits, decoded = model(corrupted)
    return {"genes": genes, "is_masked": corrupted != genes, "mask_logits": mask_logits, "decoded": decoded}


RECIPE: Final = Recipe(
    name="scmae",
    summary="masked autoencoder of genes, k-means",
    represent=represent,
    head=kmeans_head,
    uses_text=False,
    source="scMAE, doi:10.1093/bioinformatics/btae020",
    out_of_core=True,
    train=represent,
    objectives=tuple(term.name for term in TERMS),
    embed=partial(embed, dims=DIMS),
)
