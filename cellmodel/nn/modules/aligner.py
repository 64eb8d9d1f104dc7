"""Two projection heads that bring the expression view and the text view of a cell into one space."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class CrossModalAligner(nn.Module):
    """Projection heads for the two views of a cell.

    The text head is linear, so that a gene's text or a free query, which lies far from the mean of a cell's genes, is
    projected in the same way as the cells; the expression head adds a small non-linear part to a linear one.

    ``expression_dim``, ``text_dim``: dimensions of the views. ``joint_dim``: dimension of the joint space.
    """

    def __init__(self, *, expression_dim: int, text_dim: int, joint_dim: int = 64) -> None:
        super().__init__()
        self.expression_linear = nn.Linear(expression_dim, joint_dim)
        self.expression_residual = nn.Sequential(
            nn.Linear(expression_dim, 2 * joint_dim), nn.GELU(), nn.Linear(2 * joint_dim, joint_dim)
        )
        self.text = nn.Linear(text_dim, joint_dim, bias=False)

    def forward(
        self, expression: Float[Tensor, "cell expr_dim"], text: Float[Tensor, "cell text_dim"]
    ) -> tuple[Float[Tensor, "cell joint"], Float[Tensor, "cell joint"]]:
        """Project both views; rows are not normalised."""
        return self.expression_linear(expression) + self.expression_residual(expression), self.text(text)


class Projector(nn.Module):
    """Linear map that starts as the identity, with a small non-linear part beside it.

    ``dim``: length of the features, before and after. ``hidden``: width of the non-linear part.
    """

    def __init__(self, *, dim: int, hidden: int = 64) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        last = nn.Linear(hidden, dim)
        self.residual = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), last)
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(dim))
            self.linear.bias.zero_()
            last.weight.mul_(0.1)

    def forward(self, features: Float[Tensor, "cell dim"]) -> Float[Tensor, "cell dim"]:
        """Project features; rows are not normalised."""
        return self.linear(features) + self.residual(features)
