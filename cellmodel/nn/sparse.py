"""Sparse products: of matrices that do not change with dense ones that are trained."""

import warnings
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

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
