"""``fused``, the default: clusters from the expression head; a joint space of cells and words by contrastive alignment.

Measured before this was written: no fusion of text, fixed or trained, improves the clusters of ordinary data over the
expression head, so the embedding and the clusters come from expression alone; the text earns its place in the joint
space, in which cells, genes and free text can be compared. It is no embedding to cluster or to integrate by, as its
contrast pushes cells of one type apart (docs/results/benchmarks.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from cellmodel.core import random as seeding
from cellmodel.core.arrays import Embedding, content_order, unit_rows
from cellmodel.nn.alignment import AlignmentTerm, draw_weights, info_nce, project, train_heads, variance_hinge
from cellmodel.nn.train import BLOCK_CELLS, Term, TrainConfig, without
from cellmodel.recipes.base import CellViews, NewCells, OnEpoch, Recipe, Representation
from cellmodel.recipes.heads import leiden_head

TEMPERATURE: Final = 0.1
TRAINING: Final = TrainConfig(n_steps=300, batch_size=256, learning_rate=2e-3)
TERMS: Final[tuple[AlignmentTerm, ...]] = (
    Term(name="align", weight=1.0, loss=partial(info_nce, temperature=TEMPERATURE)),
    Term(name="variance", weight=1e-2, loss=variance_hinge),
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


def represent(
    views: CellViews, seed: int, *, on_epoch: OnEpoch | None = None, off: frozenset[str] = frozenset()
) -> Representation:
    """Align the smoothed expression view with the text view; without text the expression view stands alone.

    Both views are read in row blocks and may be memory-mapped. The number of steps does not grow with the cells.

    ``on_epoch``: sees before each epoch, from 0, what the head clusters; changes nothing. ``off``: objectives to leave
    out. Raises ``ValueError`` if ``off`` names no objective, or all.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

    if views.text is None or len(views.text) < 2:  # noqa: PLR2004 - a contrast needs two cells
        return Representation(z=views.smoothed, z_expr=views.smoothed, z_text=None, features=views.smoothed)
    order = content_order(views.smoothed)  # so that nothing depends on the positions of the cells
    shift, scale = _location_and_scale(views.smoothed, order)
    expression = _Sorted(values=views.smoothed, order=order, shift=shift, scale=scale)
    text = _Sorted(values=views.text, order=order)
    weights = draw_weights(
        seeding.generator(seed, "alignment"), expression_dim=views.smoothed.shape[1], text_dim=views.text.shape[1]
    )
    with threadpool_limits(limits=1):  # the last bits depend on the number of threads
        history = train_heads(
            weights,
            without(TERMS, off),
            views=(expression, text),
            config=TRAINING.changed(views.training),
            rng=seeding.generator(seed, "batches"),
            on_epoch=on_epoch and (lambda epoch: on_epoch(epoch, views.smoothed)),
        )
    return Representation(
        z=views.smoothed,
        z_expr=views.smoothed,
        z_text=views.text,
        features=views.smoothed,
        z_joint=_joint(weights, expression, text),
        history=history,
        text_head=weights["text.weight"].T.copy(),
        state={"shift": shift, "scale": np.array([scale], dtype=np.float32), **weights},
    )


def embed(cells: NewCells, state: Mapping[str, np.ndarray]) -> Representation:
    """Place new cells in the joint space; without text the expression view stands alone."""
    alone = Representation(z=cells.smoothed, z_expr=cells.smoothed, z_text=None, features=cells.smoothed)
    if cells.text is None or not state:
        return alone
    order = np.arange(len(cells.smoothed))
    expression = _Sorted(values=cells.smoothed, order=order, shift=state["shift"], scale=state["scale"])
    text = _Sorted(values=cells.text, order=order)
    z_joint = _joint(state, expression, text)
    return replace(alone, z_text=cells.text, z_joint=z_joint)


def _location_and_scale(values: Embedding, order: Int[np.ndarray, " cell"]) -> tuple[Float[np.ndarray, " dim"], float]:
    """Mean of each column, and the largest of their standard deviations, over blocks of rows in the given order."""
    blocks = [order[start : start + BLOCK_CELLS] for start in range(0, len(order), BLOCK_CELLS)]
    share = np.array([len(rows) for rows in blocks]) / len(order)
    shift = (share @ np.stack([values[rows].mean(axis=0) for rows in blocks])).astype(values.dtype)
    means, variances = [], []
    for rows in blocks:
        centered = values[rows] - shift
        means.append(centered.mean(axis=0).astype(np.float64))
        variances.append(centered.std(axis=0).astype(np.float64) ** 2)
    variance = share @ np.stack(variances) + share @ (np.stack(means) - share @ np.stack(means)) ** 2
    return shift, max(float(np.sqrt(variance).max()), 1e-12)


def _joint(weights: Mapping[str, np.ndarray], expression: _Sorted, text: _Sorted) -> Embedding:
    """Mean direction of both sides, in the order of the arrays; some rows at a time."""
    z = np.empty((len(expression), len(weights["text.weight"])), dtype=np.float32)
    for start in range(0, len(z), BLOCK_CELLS):
        rows = np.arange(start, min(start + BLOCK_CELLS, len(z)))
        first, second = (unit_rows(side) for side in project(weights, expression[rows], text[rows]))
        z[expression.order[rows]] = unit_rows(first + second)
    return z


RECIPE: Final = Recipe(
    name="fused",
    summary="expression clusters, and a joint space of cells and words",
    represent=represent,
    head=leiden_head,
    uses_text=True,
    uses_coordinates=True,
    out_of_core=True,
    source="this project: docs/method/method.md",
    train=represent,
    objectives=tuple(term.name for term in TERMS),
    embed=embed,
)
