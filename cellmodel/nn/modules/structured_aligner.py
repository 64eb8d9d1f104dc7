"""Encoders of expression and text that share one latent space, and the projections in which they are contrasted."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cellmodel.nn.modules.autoencoder import Autoencoder


class StructuredAligner(nn.Module):
    """The trainable parts of scLLM-DSC.

    Both views are encoded to one latent space and averaged there; expression is decoded from the average. Encoders and
    decoder are each a linear map plus a network: the linear maps begin where the caller says, so that training starts
    from a known embedding and the network adds what is not linear. The projection heads serve the contrast alone: it
    spreads cells evenly, which takes away the distances between types.

    ``expression_map``, ``text_map``: (feature, dim) first linear maps of the views into the latent space; no
    ``text_map`` where there is no text. Expression is decoded by the transpose of its map. ``hidden_dim``: width of the
    networks' hidden layers. ``joint_dim``: width of the projections. ``n_clusters``: number of centres in the latent
    space; they lie at the origin until they are set.
    """

    def __init__(
        self,
        *,
        expression_map: Float[Tensor, "feature dim"],
        text_map: Float[Tensor, "text_dim dim"] | None,
        hidden_dim: int,
        joint_dim: int,
        n_clusters: int,
    ) -> None:
        super().__init__()
        n_features, dim = expression_map.shape
        self.expression = Autoencoder((n_features, hidden_dim, dim))
        self.expression_linear = _linear(expression_map)
        self.decoder_linear = _linear(expression_map.T)
        self.centres = nn.Parameter(torch.zeros(n_clusters, dim))
        self.text: nn.Module | None = None
        if text_map is not None:
            self.text = Autoencoder((len(text_map), hidden_dim, dim)).encoder
            self.text_linear = _linear(text_map)
            self.expression_head = _head(dim, joint_dim)
            self.text_head = _head(dim, joint_dim)

    def forward(
        self,
        expression: Float[Tensor, "cell feature"],
        text: Float[Tensor, "cell text_dim"] | None,
        contrasted: Int[Tensor, " sample"] | None = None,
    ) -> dict[str, Tensor]:
        """Encode, fuse, decode, and project a sample.

        ``contrasted``: rows of the cells to project; None for none of them. Returns ``z_expr`` and, with text,
        ``z_text`` (cell, dim); their mean ``z``, which without text is ``z_expr``; the ``decoded`` expression; the
        ``centres`` (cluster, dim); with text and a sample ``projected_expr`` and ``projected_text`` (sample, joint),
        rows not normalised.
        """
        z_expr = self.expression_linear(expression) + self.expression.encode(expression)
        outputs = {"z_expr": z_expr, "z": z_expr, "centres": self.centres}
        if self.text is not None:
            z_text = self.text_linear(text) + self.text(text)
            outputs |= {"z_text": z_text, "z": (z_expr + z_text) / 2}
            if contrasted is not None:
                outputs["projected_expr"] = self.expression_head(z_expr[contrasted])
                outputs["projected_text"] = self.text_head(z_text[contrasted])
        return outputs | {"decoded": self.decoder_linear(outputs["z"]) + self.expression.decoder(outputs["z"])}


def _linear(first: Float[Tensor, "feature dim"]) -> nn.Linear:
    """Linear map without an offset that begins as the one given."""
    layer = nn.Linear(len(first), first.shape[1], bias=False)
    layer.weight = nn.Parameter(first.T.clone())
    return layer


def _head(dim: int, joint_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, joint_dim), nn.ReLU(), nn.Linear(joint_dim, joint_dim))
