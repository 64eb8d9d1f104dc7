"""Axis names and array aliases of cellmodel: axes are cell, gene, dim, edge, neighbor, cluster."""

from collections.abc import Iterator
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

CellByGene: TypeAlias = sp.csr_matrix  # (cell, gene): counts or expression
CellGraph: TypeAlias = sp.csr_matrix  # (cell, cell): sparse weights, zero diagonal
Embedding: TypeAlias = Float[np.ndarray, "cell dim"]
GeneVectors: TypeAlias = Float[np.ndarray, "gene dim"]
Labels: TypeAlias = Int[np.ndarray, " cell"]  # clusters that we found, 0 .. k-1, never an annotator's


@runtime_checkable
class CellBlocks(Protocol):
    """A matrix of cells by genes of which some cells at a time are in memory."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and of genes."""

    def blocks(self) -> Iterator[CellByGene]:
        """Give the cells in their order, some at a time."""
