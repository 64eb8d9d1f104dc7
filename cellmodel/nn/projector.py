"""A projection that starts as the identity: a contrastive objective bends the features, it does not replace them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Projector(nn.Module):
    """Linear map that starts as the identity, with a small non-linear part beside it.

    Parameters
    ----------
    dim
        Length of the features, before and after.
    hidden
        Width of the non-linear part.
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
