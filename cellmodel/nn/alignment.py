"""Projection heads of two views of the same cells, their contrast and its gradient, in NumPy.

So small a model is trained in less time than PyTorch takes to be imported, and in a fraction of its memory. The weights
are named, shaped and drawn as PyTorch's linear layers are; the tests hold the gradient against PyTorch's own.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Float, Int
from scipy.special import erf

from cellmodel.core.arrays import EPSILON, Embedding
from cellmodel.nn.train import AdamW, BeforeEpoch, History, Rows, Term, TrainConfig, Values, Weights, batches, run_steps

Sides = tuple[Embedding, Embedding]  # of expression and of text
AlignmentTerm = Term[Callable[[Embedding, Embedding], tuple[float, Sides]]]  # value, and its gradients by both views
JOINT_DIM: Final = 64
_VARIANCE_FLOOR: Final = 1e-4


def draw_weights(
    rng: np.random.Generator, *, expression_dim: int, text_dim: int, dim: int = JOINT_DIM
) -> dict[str, np.ndarray]:
    """Draw the weights of both heads, uniform within one over the root of a layer's inputs, float32.

    The text head is linear, so that a gene's text or a free query, which lies far from the mean of a cell's genes, is
    projected in the same way as the cells; the expression head adds a small non-linear part to a linear one.
    ``expression_dim``, ``text_dim``, ``dim``: dimensions of the views and of the joint space.
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
    on_epoch: BeforeEpoch | None = None,
) -> History:
    """Train both heads in place on mini-batches, as :func:`cellmodel.nn.train.fit` trains models of PyTorch; see there.

    ``views``: expression and text, of which the rows of a batch are read.
    """
    optimizer = AdamW(weights, config.learning_rate, config.weight_decay)

    def step(rows: Int[np.ndarray, " row"]) -> tuple[Values, Callable[[], None]]:
        own = _Pass(weights, *(view[rows] for view in views))
        found = [term.loss(*own.outputs) for term in terms]

        def update() -> None:
            optimizer.step(
                own.gradient(
                    *(
                        np.sum(
                            [np.float32(term.weight) * of[side] for term, (_, of) in zip(terms, found, strict=True)],
                            axis=0,
                        )
                        for side in (0, 1)
                    )
                )
            )

        return {term.name: term.weight * value for term, (value, _) in zip(terms, found, strict=True)}, update

    return run_steps(step, batches(len(views[0]), config, rng), config=config, on_epoch=on_epoch)
