"""``fused``, the default: clusters from the expression head; a joint space of cells and words by contrastive alignment.

Measured before this was written: no fusion of text, fixed or trained, improves the clusters of ordinary data over the
expression head, so the clusters come from that head alone; the text earns its place in the joint space, in which
cells, genes and free text can be compared.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from cellmodel import seeding
from cellmodel.losses.contrastive import info_nce, variance_hinge
from cellmodel.nn.aligner import CrossModalAligner
from cellmodel.recipes.base import CellViews, Recipe, Representation, Term, objective
from cellmodel.recipes.heads import micro_ward_head
from cellmodel.semantics import unit_rows
from cellmodel.train import Batch, TrainConfig, fit

TEMPERATURE: Final = 0.1
TRAINING: Final = TrainConfig(n_steps=300, batch_size=256, learning_rate=2e-3)
TERMS: Final = (
    Term(name="align", weight=1.0, loss=lambda z: info_nce(z["expression"], z["text"], temperature=TEMPERATURE)),
    Term(
        name="variance",
        weight=1e-2,
        loss=lambda z: variance_hinge(z["expression"]) + variance_hinge(z["text"]),
    ),
)


def _forward(model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
    expression, text = model(batch["expression"], batch["text"])
    return {"expression": expression, "text": text}


def represent(views: CellViews, seed: int) -> Representation:
    """Align the smoothed expression view with the text view; without text the expression view stands alone."""
    if views.text is None or len(views.text) < 2:  # noqa: PLR2004 - a contrast needs two cells
        return Representation(z=views.smoothed, z_expr=views.smoothed, z_text=None, features=views.smoothed)
    expression = _standardised(views.smoothed)
    inputs = {"expression": torch.from_numpy(expression), "text": torch.from_numpy(views.text)}
    with seeding.scope(seed):
        model = CrossModalAligner(expression_dim=expression.shape[1], text_dim=views.text.shape[1])
        history = fit(
            model,
            objective(_forward, TERMS),
            views=inputs,
            config=TRAINING,
            rng=seeding.generator(seed, "batches"),
        )
    with torch.inference_mode():
        expression_side, text_side = (side.numpy() for side in model(inputs["expression"], inputs["text"]))
    return Representation(
        z=unit_rows(unit_rows(expression_side) + unit_rows(text_side)),
        z_expr=views.smoothed,
        z_text=views.text,
        features=views.smoothed,
        history=history,
        text_head=model.text.weight.detach().numpy().T.copy(),
    )


def _standardised(features: np.ndarray) -> np.ndarray:
    """Centre the features and scale them by one common factor, so that directions keep their relative length."""
    centred = features - features.mean(axis=0)
    return (centred / max(float(centred.std(axis=0).max()), 1e-12)).astype(np.float32)


RECIPE: Final = Recipe(
    name="fused",
    summary="expression clusters, and a joint space of cells and words",
    represent=represent,
    head=micro_ward_head,
    uses_text=True,
    source="this project: docs/method.md",
)
