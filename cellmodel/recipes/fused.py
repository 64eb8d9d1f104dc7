"""``fused``, the default: clusters from the expression head; a joint space of cells and words by contrastive alignment.

Measured before this was written: no fusion of text, fixed or trained, improves the clusters of ordinary data over the
expression head, so the embedding and the clusters come from expression alone; the text earns its place in the joint
space, in which cells, genes and free text can be compared. It is no embedding to cluster or to integrate by, as its
contrast pushes cells of one type apart (docs/results/batches.md).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cellmodel.core import random as seeding
from cellmodel.core.arrays import Embedding, content_order, unit_rows
from cellmodel.core.device import bfloat16_products, find_device
from cellmodel.nn.distributed import Workers, run_together
from cellmodel.nn.losses import info_nce, variance_hinge
from cellmodel.nn.modules import CrossModalAligner, weights_of, with_weights
from cellmodel.nn.train import BLOCK_CELLS, Batch, History, TrainConfig, fit
from cellmodel.recipes.base import CellViews, NewCells, OnEpoch, Recipe, Representation, Term, objective, without
from cellmodel.recipes.heads import ensemble_head

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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Sorted:
    """Rows of an array in another order, shifted and scaled as they are asked for; the array itself is not copied."""

    values: Embedding
    order: Int[np.ndarray, " cell"]
    shift: Float[np.ndarray, " dim"] | float = 0.0
    scale: Float[np.ndarray, " 1"] | float = 1.0

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, rows: Int[np.ndarray, " row"]) -> Embedding:
        return ((self.values[self.order[rows]] - self.shift) / self.scale).astype(np.float32, copy=False)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Trained:
    weights: dict[str, np.ndarray]
    history: History


def represent(
    views: CellViews, seed: int, *, on_epoch: OnEpoch | None = None, off: frozenset[str] = frozenset()
) -> Representation:
    """Align the smoothed expression view with the text view; without text the expression view stands alone.

    Both views are read in row blocks and may be memory-mapped. The number of steps does not grow with the cells.

    ``on_epoch``: sees before each epoch, from 0, what the head clusters; changes nothing. ``off``: objectives to leave
    out. Raises ``ValueError`` if ``on_epoch`` is given and other processes train the model, or ``off`` names no
    objective, or all.
    """
    if views.text is None or len(views.text) < 2:  # noqa: PLR2004 - a contrast needs two cells
        return Representation(z=views.smoothed, z_expr=views.smoothed, z_text=None, features=views.smoothed)
    order = content_order(views.smoothed)  # so that nothing depends on the positions of the cells
    shift, scale = _location_and_scale(views.smoothed, order)
    arrays = {"smoothed": views.smoothed, "text": views.text, "order": order, "shift": shift}
    config = TRAINING.changed(views.training)
    settings: dict[str, Any] = {"seed": seed, "scale": scale, "off": off, "config": config}
    device = find_device(views.compute.device)
    if views.compute.engine == "local":
        trained = _train(arrays, **settings, device=device, on_epoch=_reporter(on_epoch, views.smoothed))
    elif on_epoch is None:
        trained = run_together(_train, arrays=arrays, settings=settings, compute=views.compute)
    else:
        raise ValueError(f"epochs are reported by engine 'local' alone, not by {views.compute.engine!r}")
    return Representation(
        z=views.smoothed,
        z_expr=views.smoothed,
        z_text=views.text,
        features=views.smoothed,
        z_joint=_joint(trained.weights, *_inputs(arrays, scale), device=device),
        history=trained.history,
        text_head=trained.weights["text.weight"].T.copy(),
        state={"shift": shift, "scale": np.array([scale], dtype=np.float32), **trained.weights},
    )


def embed(cells: NewCells, state: Mapping[str, np.ndarray]) -> Representation:
    """Place new cells in the joint space; without text the expression view stands alone."""
    alone = Representation(z=cells.smoothed, z_expr=cells.smoothed, z_text=None, features=cells.smoothed)
    if cells.text is None or not state:
        return alone
    order = np.arange(len(cells.smoothed))
    expression = _Sorted(values=cells.smoothed, order=order, shift=state["shift"], scale=state["scale"])
    text = _Sorted(values=cells.text, order=order)
    z_joint = _joint(state, expression, text, device=torch.device("cpu"))
    return replace(alone, z_text=cells.text, z_joint=z_joint)


def _reporter(on_epoch: OnEpoch | None, features: Embedding) -> Callable[[int, nn.Module], None] | None:
    """Report each epoch what the head clusters, which training does not change."""
    return on_epoch and (lambda epoch, _: on_epoch(epoch, features))


def _train(
    arrays: Mapping[str, np.ndarray],
    *,
    seed: int,
    scale: float,
    off: frozenset[str],
    config: TrainConfig,
    workers: Workers | None = None,
    device: torch.device | None = None,
    on_epoch: Callable[[int, nn.Module], None] | None = None,
) -> _Trained:
    """Train in this process, alone or as one of several."""
    expression, text = _inputs(arrays, scale)
    with seeding.scope(seed):
        model = CrossModalAligner(expression_dim=expression.values.shape[1], text_dim=text.values.shape[1]).to(device)
        history = fit(
            model,
            objective(_forward, without(TERMS, off), workers=workers),
            views={"expression": expression, "text": text},
            config=config,
            rng=seeding.generator(seed, "batches"),
            on_epoch=on_epoch,
            workers=workers,
        )
    return _Trained(weights=weights_of(model), history=history)


def _inputs(arrays: Mapping[str, np.ndarray], scale: float) -> tuple[_Sorted, _Sorted]:
    """Both views in the order of their content, the expression centred and scaled."""
    expression = _Sorted(values=arrays["smoothed"], order=arrays["order"], shift=arrays["shift"], scale=scale)
    return expression, _Sorted(values=arrays["text"], order=arrays["order"])


def _forward(model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
    with bfloat16_products(batch["expression"].device):
        expression, text = model(batch["expression"], batch["text"])
    return {"expression": expression.float(), "text": text.float()}


def _location_and_scale(values: Embedding, order: Int[np.ndarray, " cell"]) -> tuple[Float[np.ndarray, " dim"], float]:
    """Mean of each column, and the largest of their standard deviations, over blocks of rows in the given order."""
    blocks = [order[start : start + BLOCK_CELLS] for start in range(0, len(order), BLOCK_CELLS)]
    share = np.array([len(rows) for rows in blocks]) / len(order)
    shift = (share @ np.stack([values[rows].mean(axis=0) for rows in blocks])).astype(values.dtype)
    means, deviations = (
        np.stack(moments).astype(np.float64)
        for moments in zip(*(_moments(values[rows] - shift) for rows in blocks), strict=True)
    )
    variance = share @ deviations**2 + share @ (means - share @ means) ** 2
    return shift, max(float(np.sqrt(variance).max()), 1e-12)


def _moments(centred: Embedding) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, " dim"]]:
    return centred.mean(axis=0), centred.std(axis=0)


def _joint(weights: Mapping[str, np.ndarray], expression: _Sorted, text: _Sorted, *, device: torch.device) -> Embedding:
    """Mean direction of both sides, in the order of the arrays; some rows at a time."""
    model = CrossModalAligner(expression_dim=expression.values.shape[1], text_dim=text.values.shape[1])
    with_weights(model, weights).to(device)
    z = np.empty((len(expression), len(weights["text.weight"])), dtype=np.float32)
    for start in range(0, len(z), BLOCK_CELLS):
        rows = np.arange(start, min(start + BLOCK_CELLS, len(z)))
        with torch.inference_mode():
            sides = model(*(torch.from_numpy(side[rows]).to(device) for side in (expression, text)))
        first, second = (unit_rows(side.cpu().numpy()) for side in sides)
        z[expression.order[rows]] = unit_rows(first + second)
    return z


RECIPE: Final = Recipe(
    name="fused",
    summary="expression clusters, and a joint space of cells and words",
    represent=represent,
    head=ensemble_head,
    uses_text=True,
    uses_coordinates=True,
    out_of_core=True,
    source="this project: docs/method/method.md",
    train=represent,
    objectives=tuple(term.name for term in TERMS),
    embed=embed,
    uses_workers=True,
)
