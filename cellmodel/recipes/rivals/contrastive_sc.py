"""``contrastive-sc``: two views of a cell by dropout of genes (Ciortan 2021, doi:10.1186/s12859-021-04210-8).

As in the paper: nine in ten genes are dropped at random, twice; layers of 200, 40 and 60; the two views of a cell are
nearer to each other than to all other views of the batch (NT-Xent, temperature 0.07); 30 epochs of batches of 200; the
last layer is clustered by k-means.

Different here: 2,000 highly variable genes of the pipeline, where 500 are published, and a constant learning rate of
0.001 in place of a published schedule by data set.
"""

from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cellmodel.core import random as seeding
from cellmodel.core.device import find_device
from cellmodel.nn.losses import sup_con
from cellmodel.nn.modules import dense_layers
from cellmodel.nn.train import Batch, TrainConfig, fit
from cellmodel.recipes.base import CellViews, OnEpoch, Recipe, Representation, Term, objective, without
from cellmodel.recipes.graph_training import in_content_order, reporter
from cellmodel.recipes.heads import kmeans_head
from cellmodel.recipes.rivals.genes import ScaledGenes, embed, encode, represented

DIMS: Final = (200, 40, 60)
DROPPED: Final = 0.9  # share of the genes
TEMPERATURE: Final = 0.07
TRAINING: Final = TrainConfig(n_epochs=30, batch_size=200, learning_rate=1e-3, weight_decay=0.0)
TERMS: Final = (
    Term(
        name="contrast",
        weight=1.0,
        loss=lambda z: sup_con(z["views"], z["cells"], temperature=TEMPERATURE),
    ),
)


def represent(
    views: CellViews, seed: int, *, on_epoch: OnEpoch | None = None, off: frozenset[str] = frozenset()
) -> Representation:
    """Train the encoder by contrast, and take its last layer."""
    ordered, places = in_content_order(views, reads=("pcs", "expression"))
    genes = ScaledGenes.of(ordered.expression)
    with seeding.scope(seed):
        encoder = dense_layers((len(genes.mean), *DIMS)).to(find_device(views.compute.device))
        history = fit(
            encoder,
            objective(_forward, without(TERMS, off)),
            views={"genes": genes},
            config=TRAINING.changed(views.training),
            rng=seeding.generator(seed, "batches"),
            on_epoch=reporter(on_epoch, lambda: encode(encoder, genes).cpu().numpy()[places]),
        )
    return represented(encoder, genes, places, history=history)


def _forward(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Give two views of each cell, and which cell each is of."""
    views = [model(F.dropout(batch["genes"], DROPPED)) for _ in range(2)]
    return {"views": torch.cat(views), "cells": torch.arange(len(views[0]), device=views[0].device).repeat(2)}


RECIPE: Final = Recipe(
    name="contrastive-sc",
    summary="contrast of two views by dropout of genes, k-means",
    represent=represent,
    head=kmeans_head,
    uses_text=False,
    source="contrastive-sc, doi:10.1186/s12859-021-04210-8",
    out_of_core=True,
    train=represent,
    objectives=tuple(term.name for term in TERMS),
    embed=partial(embed, dims=DIMS),
)
