"""Trainable modules of recipes: autoencoders, projection heads, sparse products; similarity of cells by layer."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

SLOPE = 0.2  # of LeakyReLU below zero
LEAKY = partial(nn.LeakyReLU, SLOPE, inplace=True)  # seven times as quick; nothing else reads what it is given


class Autoencoder(nn.Module):
    """Fully connected encoder of these widths and its mirror image, LeakyReLU between layers, none at either end."""

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = dense_layers(dims)
        self.decoder = dense_layers(dims[::-1])


def dense_layers(dims: tuple[int, ...]) -> nn.Sequential:
    """Fully connected layers of these widths, the input's first, with LeakyReLU between them."""
    first, *others = (nn.Linear(before, after) for before, after in pairwise(dims))
    return nn.Sequential(first, *(layer for linear in others for layer in (LEAKY(), linear)))


class Projector(nn.Module):
    """Linear map that starts as the identity, with a small non-linear part beside it."""

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
        """Project features; rows are not normalized."""
        return self.linear(features) + self.residual(features)


class StructuredAligner(nn.Module):
    """The trainable parts of scLLM-DSC.

    Both views are encoded to one latent space and averaged there; expression is decoded from the average. Encoders and
    decoder are each a linear map plus a network: the linear maps begin where the caller says, so that training starts
    from a known embedding and the network adds what is not linear. The projection heads serve the contrast alone: it
    spreads cells evenly, which takes away the distances between types.

    ``expression_map``, ``text_map``: (feature, dim) first linear maps of the views into the latent space; no
    ``text_map`` where there is no text. Expression is decoded by the transpose of its map. ``hidden_dim``: width of the
    networks' hidden layers. ``joint_dim``: width of the projections. ``n_clusters``: number of centers in the latent
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
        self.centers = nn.Parameter(torch.zeros(n_clusters, dim))
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
        ``z_text`` (cell, dim); their mean ``z``, which without text is ``z_expr``; the ``decoded`` expression; with
        text and a sample ``projected_expr`` and ``projected_text`` (sample, joint), rows not normalized.
        """
        z_expr = self.expression_linear(expression) + self.expression.encoder(expression)
        outputs = {"z_expr": z_expr, "z": z_expr}
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


class CountDecoder(nn.Module):
    """Latent → log mean, log dispersion and dropout logits of the counts."""

    def __init__(self, *, dim: int, n_genes: int, hidden: int = 128) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(dim, hidden), LEAKY())
        self.log_mean = nn.Linear(hidden, n_genes)
        self.log_dispersion = nn.Linear(hidden, n_genes)
        self.dropout_logits = nn.Linear(hidden, n_genes)

    def forward(self, z: Float[Tensor, "cell dim"]) -> dict[str, Float[Tensor, "cell gene"]]:
        """Decode a mini-batch; the keys are those of the likelihood's arguments."""
        hidden = self.hidden(z)
        return {
            "log_mean": self.log_mean(hidden),
            "log_dispersion": self.log_dispersion(hidden),
            "dropout_logits": self.dropout_logits(hidden),
        }


def weights_of(model: nn.Module, *, but: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Arrays of a trained model, to be kept; without the parts whose names begin with one of ``but``."""
    tensors = model.state_dict().items()
    return {name: tensor.cpu().numpy().copy() for name, tensor in tensors if not name.startswith(but)}


def with_weights(model: nn.Module, state: Mapping[str, np.ndarray], *, but: tuple[str, ...] = ()) -> nn.Module:
    """Give a model the arrays that :func:`weights_of` took, among others in ``state``; parts left out stay."""
    names = [name for name in model.state_dict() if not name.startswith(but)]
    model.load_state_dict({name: torch.from_numpy(np.array(state[name])) for name in names}, strict=False)
    return model


_TRANSPOSED: Final = WeakIdKeyDictionary()


def sparse_product(matrix: Tensor, dense: Float[Tensor, "column dim"]) -> Float[Tensor, "row dim"]:
    """Multiply a matrix without a gradient and a dense one; of a CSR matrix the transpose is made once for all steps.

    PyTorch would sort its entries by column again for every gradient.
    """
    if matrix.layout != torch.sparse_csr:
        return matrix @ dense
    product: Tensor = _Product.apply(matrix, dense)  # type: ignore[no-untyped-call]  # PyTorch leaves it untyped
    return product


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, dense: Tensor) -> Tensor:
        """Multiply."""
        ctx.matrix = matrix
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Multiply by the transpose."""
        return None, _transposed(ctx.matrix) @ gradient


def _transposed(matrix: Tensor) -> Tensor:
    """Transpose a CSR matrix; the result is kept as long as the matrix is."""
    if matrix not in _TRANSPOSED:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
            _TRANSPOSED[matrix] = matrix.t().to_sparse_csr()
    transposed: Tensor = _TRANSPOSED[matrix]
    return transposed


_OF_GENES = "genes"  # part of a model whose layers pass messages between genes, not cells


def mean_cosine(z: Float[Tensor, "cell dim"]) -> float:
    """Mean cosine of all pairs of different cells, by the sum of unit rows; NaN for fewer than two cells.

    1 where all cells point in one direction; near 0 for centered features.
    """
    units = F.normalize(z.double(), dim=1)
    total, n_cells = units.sum(dim=0), len(z)
    with_self = float(total @ total) - float(units.square().sum())
    return with_self / (n_cells * (n_cells - 1)) if n_cells > 1 else float("nan")


@contextmanager
def layer_similarities(n_cells: int) -> Iterator[dict[str, float]]:
    """Fill a dictionary with the mean cosine between cells after each layer that passes messages between them.

    The recipe runs inside the block and need not know: layers are those of PyTorch Geometric, named by the model that
    holds them, in the order of the pass; what counts is the last pass over all cells without gradients, which gives the
    embedding. The dictionary is filled when the block ends, and stays empty for recipes without such layers.
    """
    found: dict[str, float] = {}
    last: dict[nn.Module, float] = {}
    called: dict[nn.Module, None] = {}

    def after(module: nn.Module, _: Any, output: Any) -> None:
        called[module] = None
        passes_messages = any(kind.__name__ == "MessagePassing" for kind in type(module).__mro__)
        if torch.is_grad_enabled() or not passes_messages:  # of PyTorch Geometric, which is imported where it is used
            return
        if output.ndim == 2 and len(output) == n_cells:  # noqa: PLR2004 - a matrix
            last[module] = mean_cosine(output)

    handle = nn.modules.module.register_module_forward_hook(after)
    try:
        yield found
    finally:
        handle.remove()
    names = _names(called)
    found |= {names[module]: value for module, value in last.items() if _OF_GENES not in names[module].split(".")}


def _names(called: dict[nn.Module, None]) -> dict[nn.Module, str]:
    """Name of each module in the largest model that holds it."""
    names: dict[nn.Module, str] = {}
    for root in called:
        for name, module in root.named_modules():
            if len(name) >= len(names.get(module, "")):
                names[module] = name
    return names
