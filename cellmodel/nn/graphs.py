"""Graphs as the sparse tensors that the layers of PyTorch Geometric take."""

import warnings

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import from_scipy_sparse_matrix, to_torch_csr_tensor

from cellmodel.core.arrays import CellGraph


def csr_tensor(matrix: sp.csr_matrix) -> Tensor:
    """Float32 CSR tensor of a sparse matrix."""
    matrix = matrix.tocsr()
    matrix.sort_indices()
    return _csr(*from_scipy_sparse_matrix(matrix), shape=matrix.shape, is_coalesced=True)


def symmetric_propagation(graph: CellGraph) -> Tensor:
    r"""Weights with the cell itself at 1, over the square roots of both degrees: :math:`D^{-1/2} (A + I) D^{-1/2}`.

    Degrees are sums of rows, so that a cell from which nothing is taken changes no other.
    """
    links = from_scipy_sparse_matrix(graph.astype(np.float64))
    edges, weights = gcn_norm(*links, graph.shape[0], flow="target_to_source")
    return _csr(edges, weights, shape=graph.shape)


def _csr(places: Tensor, values: Tensor, *, shape: tuple[int, int], is_coalesced: bool = False) -> Tensor:
    is_checked = torch.sparse.check_sparse_tensor_invariants()  # type: ignore[no-untyped-call]  # of PyTorch
    with warnings.catch_warnings(), is_checked:
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
        return to_torch_csr_tensor(places, values.float(), size=shape, is_coalesced=is_coalesced)
