"""What the rivals share: they read the genes of each cell alone, by fully connected layers, and new cells likewise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cellmodel.core.arrays import CellByGene, Embedding, row_ranges
from cellmodel.nn.modules import dense_layers, weights_of, with_weights
from cellmodel.pp.moments import column_moments
from cellmodel.recipes.base import NewCells, Representation

HIGHEST: Final = 10.0  # standard deviations, as scanpy limits scaled values


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScaledGenes:
    """Expression with each gene at mean 0 and variance 1, of which some cells at a time are dense."""

    expression: CellByGene
    mean: Float[np.ndarray, " gene"]
    scale: Float[np.ndarray, " gene"]
    columns: Int[np.ndarray, " column"]  # gene of each column; genes without one are at their mean

    @classmethod
    def of(cls, expression: CellByGene) -> "ScaledGenes":
        """Scale by the moments of these cells; a gene without variance stays at 0."""
        mean, deviation = column_moments(expression)
        scale = np.where(deviation > 0, deviation, 1.0)
        return cls(expression=expression, mean=mean, scale=scale, columns=np.arange(len(mean)))

    def __len__(self) -> int:
        """Count the cells."""
        return int(self.expression.shape[0])

    def __getitem__(self, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row gene"]:
        """Give the values of some cells."""
        values = np.zeros((len(rows), len(self.mean)), dtype=np.float32)
        own = self.expression[rows].toarray()
        values[:, self.columns] = (own - self.mean[self.columns]) / self.scale[self.columns]
        return np.minimum(values, HIGHEST)


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
    state = {"mean": genes.mean, "scale": genes.scale, **weights_of(encoder)}
    return Representation(z=z, z_expr=z, z_text=None, features=z, state=state, **more)


def embed(cells: NewCells, state: Mapping[str, np.ndarray], *, dims: tuple[int, ...]) -> Representation:
    """Place new cells by the trained encoder, whose layers have the widths ``dims``; a missing gene is at its mean."""
    genes = ScaledGenes(
        expression=cells.expression, mean=state["mean"], scale=state["scale"], columns=np.flatnonzero(cells.has_gene)
    )
    z = encode(with_weights(dense_layers((len(genes.mean), *dims)), state), genes).numpy()
    return Representation(z=z, z_expr=z, z_text=None, features=z)
