"""``fused``, the default: clusters from the expression head; a joint space of cells and words by contrastive alignment.

Measured before this was written: no fusion of text, fixed or trained, improves the clusters of ordinary data over the
expression head, so the embedding and the clusters come from expression alone; the text earns its place in the joint
space, in which cells, genes and free text can be compared. It is no embedding to cluster or to integrate by, as its
contrast pushes cells of one type apart (docs/results/benchmarks.md).

Both heads, their contrast and its gradient are in NumPy: so small a model is trained in less time than PyTorch takes to
be imported, and in a fraction of its memory. Weights are named, shaped and drawn as those of PyTorch's linear layers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from jaxtyping import Float, Int
from scipy.special import erf

from cellmodel.core import random as seeding
from cellmodel.core.arrays import EPSILON, Embedding, content_order, one_thread, unit_rows
from cellmodel.nn.train import (
    BLOCK_CELLS,
    AdamW,
    History,
    Rows,
    Term,
    TrainConfig,
    Values,
    Weights,
    batches,
    run_steps,
    without,
)
from cellmodel.recipes.base import CellViews, NewCells, Recipe, Representation
from cellmodel.recipes.heads import leiden_head

Sides = tuple[Embedding, Embedding]  # of expression and of text
AlignmentTerm = Term[Callable[[Embedding, Embedding], tuple[float, Sides]]]  # value, and its gradients by both views
JOINT_DIM: Final = 64
_VARIANCE_FLOOR: Final = 1e-4
TEMPERATURE: Final = 0.1
TRAINING: Final = TrainConfig(n_steps=300, batch_size=256, learning_rate=2e-3)


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


def represent(views: CellViews, seed: int, *, off: frozenset[str] = frozenset()) -> Representation:
    """Align the smoothed expression view with the text view; without text the expression view stands alone.

    Both views are read in row blocks and may be memory-mapped. The number of steps does not grow with the cells.
    """
    if views.text is None or len(views.text) < 2:  # noqa: PLR2004 - a contrast needs two cells
        return Representation(z=views.smoothed, z_expr=views.smoothed, z_text=None, features=views.smoothed)
    order = content_order(views.smoothed)  # so that nothing depends on the positions of the cells
    shift, scale = _location_and_scale(views.smoothed, order)
    expression = _Sorted(values=views.smoothed, order=order, shift=shift, scale=scale)
    text = _Sorted(values=views.text, order=order)
    weights = draw_weights(
        seeding.generator(seed, "alignment"), expression_dim=views.smoothed.shape[1], text_dim=views.text.shape[1]
    )
    with one_thread():
        history = train_heads(
            weights,
            without(TERMS, off),
            views=(expression, text),
            config=TRAINING.changed(views.training),
            rng=seeding.generator(seed, "batches"),
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
        with one_thread():
            first, second = (unit_rows(side) for side in project(weights, expression[rows], text[rows]))
        z[expression.order[rows]] = unit_rows(first + second)
    return z


def draw_weights(
    rng: np.random.Generator, *, expression_dim: int, text_dim: int, dim: int = JOINT_DIM
) -> dict[str, np.ndarray]:
    """Draw the weights of both heads, uniform within one over the root of a layer's inputs, float32.

    The text head is linear, so that a gene's text or a free query, which lies far from the mean of a cell's genes, is
    projected in the same way as the cells; the expression head adds a small non-linear part to a linear one.
    """
    weights: dict[str, np.ndarray] = {}
    for name, n_in, n_out in (
        ("expression_linear", expression_dim, dim),
        ("expression_residual.0", expression_dim, 2 * dim),
        ("expression_residual.2", 2 * dim, dim),
    ):
        weights |= {f"{name}.weight": _uniform(rng, n_out, n_in), f"{name}.bias": _uniform(rng, n_out, n_in)[:, 0]}
    return {**weights, "text.weight": _uniform(rng, dim, text_dim)}


def _uniform(rng: np.random.Generator, n_out: int, n_in: int) -> Float[np.ndarray, "out in"]:
    return rng.uniform(-(n_in**-0.5), n_in**-0.5, (n_out, n_in)).astype(np.float32)


def project(weights: Weights, expression: Embedding, text: Embedding) -> Sides:
    """Project both views; rows are not normalized."""
    return _Pass(weights, expression, text).outputs


class _Pass:
    """One pass of some cells through both heads, and back."""

    def __init__(self, weights: Weights, expression: Embedding, text: Embedding) -> None:
        self.weights, self.expression, self.text = weights, expression, text
        self.hidden = expression @ weights["expression_residual.0.weight"].T + weights["expression_residual.0.bias"]
        self.share = (0.5 * (1.0 + erf(self.hidden * np.float32(0.5**0.5)))).astype(np.float32)  # of the normal below
        self.active = self.hidden * self.share  # GELU
        linear = expression @ weights["expression_linear.weight"].T + weights["expression_linear.bias"]
        residual = self.active @ weights["expression_residual.2.weight"].T + weights["expression_residual.2.bias"]
        self.outputs = linear + residual, text @ weights["text.weight"].T

    def gradient(self, of_expression: Embedding, of_text: Embedding) -> dict[str, np.ndarray]:
        """Gradient by each weight, from that by the outputs."""
        density = np.exp(-0.5 * self.hidden**2) * np.float32((2 * np.pi) ** -0.5)
        of_hidden = (of_expression @ self.weights["expression_residual.2.weight"]) * (
            self.share + self.hidden * density
        )
        bias = of_expression.sum(axis=0)
        return {
            "expression_linear.weight": of_expression.T @ self.expression,
            "expression_linear.bias": bias,
            "expression_residual.0.weight": of_hidden.T @ self.expression,
            "expression_residual.0.bias": of_hidden.sum(axis=0),
            "expression_residual.2.weight": of_expression.T @ self.active,
            "expression_residual.2.bias": bias,
            "text.weight": of_text.T @ self.text,
        }


def info_nce(anchor: Embedding, positive: Embedding, *, temperature: float) -> tuple[float, Sides]:
    """Value of :func:`cellmodel.nn.losses.info_nce`, and its gradients by both views."""
    first_length, second_length = _lengths(anchor), _lengths(positive)
    first, second = anchor / first_length, positive / second_length
    logits = first @ second.T / np.float32(temperature)
    cell = np.arange(len(logits))
    shares, value = [], 0.0
    for axis in (0, 1):
        shifted = logits - logits.max(axis=axis, keepdims=True)
        share = np.exp(shifted)
        total = share.sum(axis=axis, keepdims=True)
        value += float(np.mean(np.log(total).ravel() - shifted[cell, cell])) / 2
        shares.append(share / total)
    of_logits = shares[0] + shares[1]
    of_logits[cell, cell] -= 2
    of_logits /= np.float32(2 * len(logits) * temperature)
    return value, (
        _before_scaling(of_logits @ second, first, first_length),
        _before_scaling(of_logits.T @ first, second, second_length),
    )


def _lengths(rows: Embedding) -> Float[np.ndarray, "cell 1"]:
    return np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(EPSILON))


def _before_scaling(of_unit: Embedding, unit: Embedding, length: Float[np.ndarray, "cell 1"]) -> Embedding:
    """Gradient by rows, from that by the rows scaled to length one."""
    return (of_unit - unit * (of_unit * unit).sum(axis=1, keepdims=True)) / length


def variance_hinge(first: Embedding, second: Embedding) -> tuple[float, Sides]:
    """Sum of :func:`cellmodel.nn.losses.variance_hinge` of two views, and its gradients by both."""
    value, gradients = 0.0, []
    for view in (first, second):
        centered = view - view.mean(axis=0)
        n_others = max(len(view) - 1, 1)
        deviation = np.sqrt((centered**2).sum(axis=0) / n_others + np.float32(_VARIANCE_FLOOR))
        value += float(np.maximum(1 - deviation, 0).mean())
        below = np.where(deviation < 1, -1 / (deviation * np.float32(n_others * len(deviation))), np.float32(0))
        gradients.append(centered * below)
    return value, (gradients[0], gradients[1])


def train_heads(
    weights: Weights,
    terms: tuple[AlignmentTerm, ...],
    *,
    views: tuple[Rows, Rows],
    config: TrainConfig,
    rng: np.random.Generator,
) -> History:
    """Train both heads in place on mini-batches, as :func:`cellmodel.nn.train.fit` trains models of PyTorch."""
    optimizer = AdamW(weights, config.learning_rate, config.weight_decay)

    def step(rows: Int[np.ndarray, " row"]) -> tuple[Values, Callable[[], None]]:
        own = _Pass(weights, *(view[rows] for view in views))
        found = [term.loss(*own.outputs) for term in terms]

        def update() -> None:
            weighted = [
                [np.float32(term.weight) * of[side] for term, (_, of) in zip(terms, found, strict=True)]
                for side in (0, 1)
            ]
            optimizer.step(own.gradient(*(np.sum(side, axis=0) for side in weighted)))

        return {term.name: term.weight * value for term, (value, _) in zip(terms, found, strict=True)}, update

    return run_steps(step, batches(len(views[0]), config, rng), config=config)


TERMS: Final[tuple[AlignmentTerm, ...]] = (
    Term(name="align", weight=1.0, loss=partial(info_nce, temperature=TEMPERATURE)),
    Term(name="variance", weight=1e-2, loss=variance_hinge),
)
RECIPE: Final = Recipe(
    name="fused",
    represent=represent,
    head=leiden_head,
    uses_text=True,
    uses_coordinates=True,
    out_of_core=True,
    train=represent,
    objectives=tuple(term.name for term in TERMS),
    embed=embed,
)
