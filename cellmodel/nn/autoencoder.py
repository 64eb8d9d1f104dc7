"""A plain autoencoder."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

SLOPE = 0.2  # of LeakyReLU below zero


class Autoencoder(nn.Module):
    """Fully connected encoder and its mirror image, LeakyReLU between layers, none at either end.

    Parameters
    ----------
    dims
        Widths from the input to the latent space, both included; at least two.
    """

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = _chain(dims)
        self.decoder = _chain(dims[::-1])

    def encode(self, features: Float[Tensor, "cell feature"]) -> Float[Tensor, "cell dim"]:
        """Features → latent."""
        return self.encoder(features)

    def forward(
        self, features: Float[Tensor, "cell feature"]
    ) -> tuple[Float[Tensor, "cell dim"], Float[Tensor, "cell feature"]]:
        """Features → latent and reconstruction."""
        z = self.encoder(features)
        return z, self.decoder(z)


def _chain(dims: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(dims):
        layers += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers[:-1])
