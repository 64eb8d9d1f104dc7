"""What the rivals share: they read the genes of each cell alone, by fully connected layers, and new cells likewise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cellmodel.core import random as seeding
from cellmodel.core.arrays import CellByGene, Embedding, row_ranges
from cellmodel.nn.modules import weights_of, with_weights
from cellmodel.nn.train import Forward, TrainConfig, find_device, fit
from cellmodel.pp.moments import column_moments, highly_variable
from cellmodel.recipes.base import CellViews, NewCells, Representation
from cellmodel.recipes.graph_training import in_content_order

HIGHEST: Final = 10.0  # standard deviations, as scanpy limits scaled values


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScaledGenes:
    """Expression with each gene at mean 0 and variance 1, of which some cells at a time are dense."""

    expression: CellByGene
    mean: Float[np.ndarray, " gene"]
    scale: Float[np.ndarray, " gene"]
    columns: Int[np.ndarray, " column"]  # gene of each column; genes without one are at their mean
    kept: Int[np.ndarray, " kept"]  # genes that are given

    @classmethod
    def of(cls, expression: CellByGene, *, n_top: int | None = None) -> "ScaledGenes":
        """Scale by the moments of these cells; a gene without variance stays at 0.

        ``n_top``: how many of the genes are given, the most variable ones; None gives all.
        """
        mean, deviation = column_moments(expression)
        scale = np.where(deviation > 0, deviation, 1.0)
        kept = highly_variable(expression, n_top=n_top or len(mean))
        return cls(expression=expression, mean=mean, scale=scale, columns=np.arange(len(mean)), kept=kept)

    def __len__(self) -> int:
        """Count the cells."""
        return int(self.expression.shape[0])

    def __getitem__(self, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row kept"]:
        """Give the values of some cells."""
        values = np.zeros((len(rows), len(self.mean)), dtype=np.float32)
        own = self.expression[rows].toarray()
        values[:, self.columns] = (own - self.mean[self.columns]) / self.scale[self.columns]
        return np.minimum(values[:, self.kept], HIGHEST)


def dense_layers(
    dims: tuple[int, ...],
    *,
    activation: Callable[[], nn.Module],
    norm: Callable[[int], nn.Module] | None = None,
    last: Callable[[], nn.Module] | None = None,
) -> nn.Sequential:
    """Fully connected layers of these widths, the input's first, with an activation between them.

    ``norm``: before each activation, of so many dimensions. ``last``: after the last layer.
    """
    layers: list[nn.Module] = [nn.Linear(dims[0], dims[1])]
    for before, after in pairwise(dims[1:]):
        layers += [norm(before)] if norm else []
        layers += [activation(), nn.Linear(before, after)]
    return nn.Sequential(*layers, *([last()] if last else []))


def train_on_genes(
    make: Callable[[int], nn.Module],
    loss: Forward,
    *,
    views: CellViews,
    seed: int,
    config: TrainConfig,
    encoder_of: Callable[[Any], nn.Module],
    n_top: int,
) -> Representation:
    """Train a model of scaled genes, which ``make`` gives for so many of them, and embed the cells by its encoder.

    ``n_top``: how many of the genes it reads, the most variable ones.
    """
    ordered, places = in_content_order(views, reads=("pcs", "expression"))
    genes = ScaledGenes.of(ordered.expression, n_top=n_top)
    with seeding.scope(seed):
        model = make(len(genes.kept)).to(find_device(views.device))
        encoder = encoder_of(model)
        history = fit(
            model,
            loss,
            views={"genes": genes},
            config=config.changed(views.training),
            rng=seeding.generator(seed, "batches"),
        )
    return represented(encoder, genes, places, history=history)


@torch.no_grad()
def encode(encoder: nn.Module, genes: ScaledGenes) -> Tensor:
    """Embed all cells, some at a time, without what is random in training."""
    was_training, device = encoder.training, next(encoder.parameters()).device
    encoder.eval()
    blocks = (genes[np.arange(*ends)] for ends in row_ranges(len(genes)))
    z = torch.cat([encoder(torch.from_numpy(block).to(device)) for block in blocks])
    encoder.train(was_training)
    return z


def represented(
    encoder: nn.Module, genes: ScaledGenes, places: Int[np.ndarray, " cell"], **more: Any
) -> Representation:
    """Give the cells in the order before, and what new cells need."""
    z: Embedding = encode(encoder, genes).cpu().numpy()[places]
    state = {"mean": genes.mean, "scale": genes.scale, "kept": genes.kept, **weights_of(encoder)}
    return Representation(z=z, z_expr=z, z_text=None, features=z, state=state, **more)


def embed(
    cells: NewCells, state: Mapping[str, np.ndarray], *, make: Callable[[tuple[int, ...]], nn.Module]
) -> Representation:
    """Place new cells by the trained encoder, which ``make`` gives for widths; a missing gene is at its mean."""
    genes = ScaledGenes(
        expression=cells.expression,
        columns=np.flatnonzero(cells.has_gene),
        **{name: state[name] for name in ("mean", "scale", "kept")},
    )
    widths = tuple(len(values) for values in state.values() if values.ndim == 2)
    z = encode(with_weights(make((len(genes.kept), *widths)), state), genes).numpy()
    return Representation(z=z, z_expr=z, z_text=None, features=z)
