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
from cellmodel.recipes.base import CellViews, NewCells, OnEpoch, Recipe, Representation, Term, objective, without
from cellmodel.recipes.heads import ensemble_head
from cellmodel.semantics import unit_rows
from cellmodel.train import Batch, TrainConfig, fit
from cellmodel.types import Embedding

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


def represent(
    views: CellViews, seed: int, *, on_epoch: OnEpoch | None = None, off: frozenset[str] = frozenset()
) -> Representation:
    """Align the smoothed expression view with the text view; without text the expression view stands alone."""
    if views.text is None or len(views.text) < 2:  # noqa: PLR2004 - a contrast needs two cells
        return Representation(z=views.smoothed, z_expr=views.smoothed, z_text=None, features=views.smoothed)
    order = np.lexsort(views.smoothed.T[::-1])  # by content, so that nothing depends on the positions of the cells
    smoothed, text = views.smoothed[order], views.text[order]
    shift = smoothed.mean(axis=0)
    scale = max(float((smoothed - shift).std(axis=0).max()), 1e-12)
    expression = ((smoothed - shift) / scale).astype(np.float32)
    inputs = {"expression": torch.from_numpy(expression), "text": torch.from_numpy(text)}
    with seeding.scope(seed):
        model = CrossModalAligner(expression_dim=expression.shape[1], text_dim=text.shape[1])
        history = fit(
            model,
            objective(_forward, without(TERMS, off)),
            views=inputs,
            config=TRAINING,
            rng=seeding.generator(seed, "batches"),
            on_epoch=on_epoch and (lambda epoch, _: on_epoch(epoch, views.smoothed)),  # what the head clusters
        )
    weights = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    joint = _joint(model, expression, text)
    z = np.empty_like(joint)
    z[order] = joint
    return Representation(
        z=z,
        z_expr=views.smoothed,
        z_text=views.text,
        features=views.smoothed,
        history=history,
        text_head=weights["text.weight"].T.copy(),
        state={"shift": shift, "scale": np.array([scale], dtype=np.float32), **weights},
    )


def embed(cells: NewCells, state: Mapping[str, np.ndarray]) -> Representation:
    """Place new cells in the joint space; without text the expression view stands alone."""
    if cells.text is None or not state:
        return Representation(z=cells.smoothed, z_expr=cells.smoothed, z_text=None, features=cells.smoothed)
    weights = {name: torch.from_numpy(values) for name, values in state.items() if name not in {"shift", "scale"}}
    expression = ((cells.smoothed - state["shift"]) / state["scale"]).astype(np.float32)
    model = CrossModalAligner(expression_dim=expression.shape[1], text_dim=cells.text.shape[1])
    model.load_state_dict(weights)
    z = _joint(model, expression, cells.text)
    return Representation(z=z, z_expr=cells.smoothed, z_text=cells.text, features=cells.smoothed)


def _joint(model: CrossModalAligner, expression: Embedding, text: Embedding) -> Embedding:
    """Mean direction of both sides."""
    with torch.inference_mode():
        sides = model(torch.from_numpy(expression), torch.from_numpy(text))
    first, second = (unit_rows(side.numpy()) for side in sides)
    return unit_rows(first + second)


RECIPE: Final = Recipe(
    name="fused",
    summary="expression clusters, and a joint space of cells and words",
    represent=represent,
    head=ensemble_head,
    uses_text=True,
    uses_places=True,
    source="this project: docs/method.md",
    train=represent,
    objectives=tuple(term.name for term in TERMS),
    embed=embed,
)
