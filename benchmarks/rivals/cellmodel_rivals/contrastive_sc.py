"""``contrastive-sc``: two views of a cell by dropout of genes (Ciortan 2021, doi:10.1186/s12859-021-04210-8).

Genes are dropped at random, twice; the two views of a cell are nearer to each other than to all other views of the
batch (NT-Xent); the last layer, rows of length one, is clustered by k-means.

As in the published code: 500 highly variable genes, the share that is dropped, layers of 200, 40 and 60 with batch
normalization and ReLU between them, the temperature, 30 epochs in batches of 200, Adam at .4. Different here: the
genes are chosen among those of the pipeline, and limited to ten standard deviations; the learning rate stays where
its published schedule takes off .9 %; cells beyond the last whole batch of an epoch wait for the next, where they are
a batch of their own. Leiden, the other published head, is ``--head leiden``. The text of the paper was not compared,
its code was.
"""

from functools import partial
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cellmodel.nn.losses import sup_con
from cellmodel.nn.train import Batch, Term, TrainConfig, objective, without
from cellmodel.recipes.base import CellViews, Recipe, Representation
from cellmodel.recipes.heads import kmeans_head
from cellmodel_rivals.genes import dense_layers, embed, train_on_genes

DIMS: Final = (200, 40, 60)
DROPPED: Final = 0.9  # share of the genes
TEMPERATURE: Final = 0.07
N_GENES: Final = 500
TRAINING: Final = TrainConfig(n_epochs=30, batch_size=200, learning_rate=0.4, weight_decay=0.0)
TERMS: Final = (
    Term(
        name="contrast",
        weight=1.0,
        loss=lambda z: sup_con(z["views"], z["cells"], temperature=TEMPERATURE),
    ),
)


class _UnitRows(nn.Module):
    def forward(self, z: Float[Tensor, "cell dim"]) -> Float[Tensor, "cell dim"]:
        return F.normalize(z, dim=1)


def make_encoder(widths: tuple[int, ...]) -> nn.Sequential:
    """Make an encoder, from the genes to rows of length one."""
    layers = dense_layers(widths, activation=nn.ReLU, norm=nn.BatchNorm1d, last=_UnitRows)
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
    return layers


def represent(views: CellViews, seed: int, *, off: frozenset[str] = frozenset()) -> Representation:
    """Train the encoder by contrast, and take its last layer."""
    return train_on_genes(
        lambda n_genes: make_encoder((n_genes, *DIMS)),
        objective(_forward, without(TERMS, off)),
        views=views,
        seed=seed,
        config=TRAINING,
        encoder_of=lambda encoder: encoder,
        n_top=N_GENES,
    )


def _forward(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Give two views of each cell, and which cell each is of."""
    views = [model(F.dropout(batch["genes"], DROPPED)) for _ in range(2)]
    return {"views": torch.cat(views), "cells": torch.arange(len(views[0]), device=views[0].device).repeat(2)}


RECIPE: Final = Recipe(
    name="contrastive-sc",
    represent=represent,
    head=kmeans_head,
    uses_text=False,
    out_of_core=True,
    train=represent,
    objectives=tuple(term.name for term in TERMS),
    embed=partial(embed, make=make_encoder),
)
