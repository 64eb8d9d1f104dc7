"""Graphs as data of PyTorch Geometric, their sub-graphs, and the sparse tensors that its layers take."""

import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Generic, TypeVar

import scipy.sparse as sp
import torch
from jaxtyping import Int
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import from_scipy_sparse_matrix, scatter, to_torch_csr_tensor

from cellmodel.core.arrays import CellGraph

Read = TypeVar("Read")


def relate_cells(**relations: CellGraph) -> HeteroData:
    """Cells, and relations between them by name.

    Row *i* of a relation holds the weights of the cells that cell *i* takes values from; as always in PyTorch
    Geometric, row 0 of its ``edge_index`` holds these, and row 1 the cell.
    """
    graph = HeteroData()
    for name, matrix in relations.items():
        places, weights = from_scipy_sparse_matrix(matrix)
        graph["cell"].num_nodes = matrix.shape[0]
        graph["cell", name, "cell"].edge_index = places.flip(0)
        graph["cell", name, "cell"].edge_weight = weights
    return graph


class CellGraphs(Generic[Read]):
    """What is read of a graph of cells: of all, kept once it is made, or of the sub-graph of the cells of a batch."""

    def __init__(self, graph: HeteroData, read: Callable[[HeteroData], Read]) -> None:
        self._graph = graph
        self._read = read

    @cached_property
    def whole(self) -> Read:
        """Read of all cells."""
        return self._read(self._graph)

    def of(self, cells: Int[Tensor, " cell"]) -> Read:
        """Read of some cells, by position and sorted, and of the edges between them."""
        if len(cells) == self._graph["cell"].num_nodes:
            return self.whole
        return self._read(self._graph.subgraph({"cell": cells.cpu()}))


def propagation(graph: HeteroData, relation: str) -> Tensor:
    r"""Weights with the cell itself at 1, over the square roots of both degrees: :math:`D^{-1/2} (A + I) D^{-1/2}`.

    Degrees are sums of rows, so that a cell from which nothing is taken changes no other.
    """
    edges, n_cells = graph["cell", relation, "cell"], graph["cell"].num_nodes
    places, weights = gcn_norm(edges.edge_index, edges.edge_weight.double(), n_cells)
    return _csr(places.flip(0), weights, shape=(n_cells, n_cells))


def mean_propagation(graph: HeteroData, relation: str) -> Tensor:
    """Weights over the sum of those of a cell."""
    edges, n_cells = graph["cell", relation, "cell"], graph["cell"].num_nodes
    weights, cells = edges.edge_weight.double(), edges.edge_index[1]
    totals = scatter(weights, cells, dim_size=n_cells)
    return _csr(edges.edge_index.flip(0), weights / totals[cells], shape=(n_cells, n_cells))


def symmetric_propagation(graph: CellGraph) -> Tensor:
    """Propagation over one relation alone, of cells or of genes; as :func:`propagation`."""
    return propagation(relate_cells(linked=graph), "linked")


def csr_tensor(matrix: sp.csr_matrix) -> Tensor:
    """Float32 CSR tensor of a sparse matrix."""
    matrix = matrix.tocsr()
    matrix.sort_indices()
    return _csr(*from_scipy_sparse_matrix(matrix), shape=matrix.shape, is_coalesced=True)


def _csr(places: Tensor, values: Tensor, *, shape: tuple[int, int], is_coalesced: bool = False) -> Tensor:
    is_checked = torch.sparse.check_sparse_tensor_invariants()  # type: ignore[no-untyped-call]  # of PyTorch
    with warnings.catch_warnings(), is_checked:
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
        return to_torch_csr_tensor(places, values.float(), size=shape, is_coalesced=is_coalesced)
