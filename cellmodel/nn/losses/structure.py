"""Losses that tie an embedding to the cells' graph: pure functions, sparse throughout."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def normalised_cut(
    z: Float[Tensor, "cell dim"], propagation: Tensor, *, one_hop: float, orthogonality: float
) -> Float[Tensor, ""]:
    r"""Relaxed normalised cut over the graph and its two-hop, with orthogonal columns :cite:`shi2000ncut`.

    .. math:: -\tfrac{1}{d} \mathrm{tr}(\bar z^T L \bar z) + \tfrac{\eta}{d} \lVert \bar z^T \bar z - I \rVert_F^2,
              \quad L = \omega A + (1 - \omega) A^2

    where the columns of :math:`\bar z` have length one. The square is never formed: it is applied twice.

    Parameters
    ----------
    propagation
        A: sparse, symmetric (cell, cell), weights divided by the square roots of both cells' degrees.
    one_hop
        :math:`\omega`, the share of the graph itself.
    orthogonality
        :math:`\eta`, weight of the second term.

    Returns
    -------
    No unit; at least -1, which the leading eigenvector alone attains.
    """
    columns = F.normalize(z, dim=0)
    once = propagation @ columns
    linked = one_hop * once + (1 - one_hop) * (propagation @ once)
    gram = columns.T @ columns  # (dim, dim)
    identity = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return (orthogonality * (gram - identity).square().sum() - (columns * linked).sum()) / z.shape[1]


def jensen_shannon(logits: Float[Tensor, "cell dim"], other_logits: Float[Tensor, "cell dim"]) -> Float[Tensor, ""]:
    r"""Mean Jensen-Shannon divergence between the softmax of paired rows :cite:`lin1991divergence` (eq. 4.1).

    .. math:: \tfrac12 KL(P \| M) + \tfrac12 KL(Q \| M), \quad M = (P + Q) / 2

    With an embedding and its propagation over the graph as the rows, this is the propagation regulariser of
    scSiameseClu, whose published code has probabilities where logarithms are due.

    Returns
    -------
    Nats, 0 to log 2.
    """
    log_p, log_q = F.log_softmax(logits, dim=1), F.log_softmax(other_logits, dim=1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).sum(dim=1).mean() / 2


def edge_reconstruction(
    z: Float[Tensor, "cell dim"], *, edges: Int[Tensor, "2 edge"], others: Int[Tensor, "2 pair"]
) -> Float[Tensor, ""]:
    r"""Squared error of the links :math:`\sigma(z_i \cdot z_j)` read from an embedding: 1 on edges, else 0.

    The two kinds count the same; a mean over all pairs would be one over the zeros alone.

    Parameters
    ----------
    edges
        A sample of the graph's edges.
    others
        A sample of pairs of cells that the graph does not link.

    Returns
    -------
    No unit, 0 to 1.
    """
    linked, unlinked = (torch.sigmoid((z[rows] * z[columns]).sum(dim=1)) for rows, columns in (edges, others))
    return ((1 - linked).square().mean() + unlinked.square().mean()) / 2
