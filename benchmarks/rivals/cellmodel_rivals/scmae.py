"""``scmae``: a masked autoencoder of genes, after scMAE (Fang 2024, doi:10.1093/bioinformatics/btae020).

A share of a cell's values is replaced by those of another cell of the batch; from the latent space a linear map
predicts which, and a linear decoder of the latent and that prediction restores the expression; the errors of replaced
values count three times as much.

As in the published code: layers of 256, 128 and 128 with layer normalization and Mish between them, masked share,
weights, Adam at .001, batches of 256, 80 epochs, k-means of 1,000 highly variable genes. Different here: these genes
are chosen among those of the pipeline, and limited to ten standard deviations; k-means beyond 10,000 cells too, where
published is Leiden searched to k; zeros are not imputed, which the published code does after scaling, when hardly a
value is zero. The text of the paper was not compared, its code was.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cellmodel.core import random as seeding
from cellmodel.nn.train import Batch, Term, TrainConfig, objective, without
from cellmodel.recipes.base import CellViews, Recipe, Representation
from cellmodel.recipes.heads import kmeans_head
from cellmodel_rivals.genes import dense_layers, embed, train_on_genes

DIMS: Final = (256, 128, 128)
MASKED: Final = 0.4  # share of the values
MASKED_WEIGHT: Final = 0.75  # of an error of a masked value, the rest that of another
N_GENES: Final = 1_000
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


make_encoder: Final = partial(dense_layers, activation=nn.Mish, norm=nn.LayerNorm)


class MaskedAutoencoder(nn.Module):
    """The trainable parts of scMAE; ``dims``: widths from the genes to the latent space.

    The decoder reads the latent space and what was predicted to be masked.
    """

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        n_genes, dim = dims[0], dims[-1]
        self.encoder = make_encoder(dims)
        self.mask = nn.Linear(dim, n_genes)
        self.decoder = nn.Linear(dim + n_genes, n_genes)

    def forward(
        self, genes: Float[Tensor, "cell gene"]
    ) -> tuple[Float[Tensor, "cell gene"], Float[Tensor, "cell gene"]]:
        """Predict what is masked, as logits, and restore the expression."""
        z = self.encoder(genes)
        mask_logits = self.mask(z)
        return mask_logits, self.decoder(torch.cat([z, mask_logits], dim=1))


def represent(views: CellViews, seed: int, *, off: frozenset[str] = frozenset()) -> Representation:
    """Train the masked autoencoder, and take its latent space."""
    rng = torch.Generator().manual_seed(seeding.derive(seed, "masks"))
    return train_on_genes(
        lambda n_genes: MaskedAutoencoder((n_genes, *DIMS)),
        objective(partial(_forward, rng=rng), without(TERMS, off)),
        views=views,
        seed=seed,
        config=TRAINING,
        encoder_of=lambda model: model.encoder,
        n_top=N_GENES,
    )


def _forward(model: nn.Module, batch: Batch, *, rng: torch.Generator) -> Mapping[str, Tensor]:
    """Mask a batch, predict what was masked, and restore it; a value that is replaced by its equal is not masked."""
    genes = batch["genes"]
    other = torch.randperm(len(genes), generator=rng).to(genes.device)
    is_drawn = (torch.rand(genes.shape, generator=rng) < MASKED).to(genes.device)
    corrupted = torch.where(is_drawn, genes[other], genes)
    mask_logits, decoded = model(corrupted)
    return {"genes": genes, "is_masked": corrupted != genes, "mask_logits": mask_logits, "decoded": decoded}


RECIPE: Final = Recipe(
    name="scmae",
    represent=represent,
    head=kmeans_head,
    uses_text=False,
    out_of_core=True,
    train=represent,
    objectives=tuple(term.name for term in TERMS),
    embed=partial(embed, make=make_encoder),
)
