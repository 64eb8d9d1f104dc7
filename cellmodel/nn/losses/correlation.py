"""Cross-correlation between two views of the same cells, over cells and over dimensions: near the identity is good."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def cell_correlation(view: Float[Tensor, "cell dim"], other: Float[Tensor, "cell dim"]) -> Float[Tensor, ""]:
    r"""Squared distance of the cosines between two views of a mini-batch from the identity.

    .. math:: \tfrac{1}{n} \sum_i (C_{ii} - 1)^2 + \tfrac{1}{n^2 - n} \sum_{i \neq j} C_{ij}^2,
              \quad C_{ij} = \cos(u_i, v_j)

    Parameters
    ----------
    view, other
        At least two cells; the matrix is dense in them, so pass a mini-batch.

    Returns
    -------
    No unit, 0 to 5.
    """
    return _distance_from_identity(F.normalize(view, dim=1) @ F.normalize(other, dim=1).T)


def latent_correlation(
    view: Float[Tensor, "cell dim"],
    other: Float[Tensor, "cell dim"],
    *,
    assignment: Float[Tensor, "cell cluster"],
) -> Float[Tensor, ""]:
    r"""Take the same distance between the dimensions of two views, each read out as its mean in each soft cluster.

    Row *a* of the readout :math:`R = Z^T q / \sum_i q_i` (dim, cluster) is centred and scaled to length one;
    :math:`C = R_u R_v^T`.

    Parameters
    ----------
    assignment
        Current soft assignment, rows that sum to one, a constant here. The published code averages contiguous rows
        of the data instead.

    Returns
    -------
    No unit, 0 to 5.
    """
    weights = assignment / assignment.sum(dim=0)  # (cell, cluster)
    readout, other_readout = (_unit_centred(z.T @ weights) for z in (view, other))
    return _distance_from_identity(readout @ other_readout.T)


def _unit_centred(rows: Float[Tensor, "row column"]) -> Float[Tensor, "row column"]:
    return F.normalize(rows - rows.mean(dim=1, keepdim=True), dim=1)


def _distance_from_identity(correlation: Float[Tensor, "row row"]) -> Float[Tensor, ""]:
    size = len(correlation)
    diagonal = torch.diagonal(correlation)
    off_diagonal = correlation.square().sum() - diagonal.square().sum()
    return (diagonal - 1).square().mean() + off_diagonal / (size * (size - 1))
