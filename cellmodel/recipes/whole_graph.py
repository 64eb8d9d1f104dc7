"""What recipes that train on the whole graph share: an order of the cells of its own, and sparse propagation."""

import warnings
from dataclasses import replace
from typing import Final

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Int
from torch import Tensor

from cellmodel.core.arrays import CellGraph, Embedding, content_order
from cellmodel.recipes.base import CellViews

BY_CELL: Final = ("expression", "pcs", "smoothed", "depth", "text", "counts")  # first axis is the cell
BY_PAIR: Final = ("graph", "knn", "spatial")  # both axes are


def in_content_order(views: CellViews) -> tuple[CellViews, Int[np.ndarray, " cell"]]:
    """Sort the cells by their principal components, so that random draws follow the cells and not their positions.

    Returns the views in that order, and the position of each of the original cells in it: ``sorted[places]`` is the
    original order. Equal cells may change places with one another.
    """
    order = content_order(views.pcs)
    ordered = {name: getattr(views, name)[order] for name in BY_CELL if getattr(views, name) is not None}
    ordered |= {name: getattr(views, name)[order][:, order] for name in BY_PAIR if getattr(views, name) is not None}
    paths = None if views.text_paths is None else (views.text_paths[0][order], views.text_paths[1][order])
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return replace(views, **ordered, text_paths=paths), places


def standardised(features: Embedding) -> Embedding:
    """Centre the features and scale them by one common factor, so that directions keep their relative length."""
    centred = features - features.mean(axis=0)
    return (centred / max(float(centred.std(axis=0).max()), 1e-12)).astype(np.float32)


def symmetric_propagation(graph: CellGraph) -> CellGraph:
    r"""Weights with the cell itself at 1, over the square roots of both degrees: :math:`D^{-1/2} (A + I) D^{-1/2}`."""
    weights = (graph + sp.identity(graph.shape[0], format="csr")).tocsr()
    scale = sp.diags(1 / np.sqrt(np.asarray(weights.sum(axis=1)).ravel()))
    return (scale @ weights @ scale).tocsr()


def csr_tensor(matrix: sp.csr_matrix) -> Tensor:
    """Float32 CSR tensor of a sparse matrix."""
    matrix = matrix.tocsr()
    matrix.sort_indices()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int64)),
            torch.from_numpy(matrix.indices.astype(np.int64)),
            torch.from_numpy(matrix.data.astype(np.float32)),
            size=matrix.shape,
            check_invariants=True,
        )
