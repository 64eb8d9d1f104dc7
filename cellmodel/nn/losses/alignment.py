"""Losses that bring the soft assignments and the directions of two views of the same cells together.

All take logits or un-normalised vectors, work in the log domain, and never hold a (cell, cell) matrix: neighbours come
as edges, other cells as a sample.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

_RATIO_FLOOR = 1e-3  # nats added to both sides of the neighbourhood ratio: 1 where all cells are alike, never 0 / 0


def symmetric_kl(logits: Float[Tensor, "row dim"], other_logits: Float[Tensor, "row dim"]) -> Float[Tensor, " row"]:
    r"""Mean of the two Kullback-Leibler divergences between the softmax distributions of paired rows.

    .. math:: \tfrac{1}{2}\big(KL(P \| Q) + KL(Q \| P)\big) = \tfrac{1}{2} \sum_k (p_k - q_k)(\log p_k - \log q_k)

    No term of the right side is negative, so the value is at least 0, and 0 only where the two are equal.
    """
    return _symmetric_kl_of_logs(F.log_softmax(logits, dim=1), F.log_softmax(other_logits, dim=1))


def distribution_alignment(
    logits: Float[Tensor, "cell dim"], other_logits: Float[Tensor, "cell dim"]
) -> Float[Tensor, ""]:
    """Symmetric divergence between two views: of their mean distributions over all cells, plus the mean over cells.

    Returns
    -------
    Nats, at least 0; 0 where the views' distributions agree in every cell.
    """
    logs, other_logs = F.log_softmax(logits, dim=1), F.log_softmax(other_logits, dim=1)
    log_n = torch.log(torch.full((), float(len(logits)), dtype=logits.dtype, device=logits.device))
    overall, other_overall = (torch.logsumexp(view, dim=0, keepdim=True) - log_n for view in (logs, other_logs))
    return (_symmetric_kl_of_logs(overall, other_overall) + _symmetric_kl_of_logs(logs, other_logs).mean()).squeeze()


def neighbourhood_contrast(
    logits: Float[Tensor, "cell dim"],
    other_logits: Float[Tensor, "cell dim"],
    *,
    edges: Int[Tensor, "2 edge"],
    others: Int[Tensor, "cell sample"],
) -> Float[Tensor, ""]:
    r"""How far a cell lies from its neighbours in the other view, as a share of how far it lies from other cells.

    .. math:: \frac{1}{n} \sum_i \frac{\epsilon + \frac{1}{1 + |N_i|} \sum_{j \in N_i \cup \{i\}} D(P_i, Q_j)}
              {\epsilon + \frac{1}{|O_i|} \sum_{j \in O_i} D(P_i, Q_j)}

    with D the symmetric divergence of :func:`symmetric_kl` and a floor of a thousandth of a nat.

    Parameters
    ----------
    edges
        Row 0 the cell, row 1 its neighbour; the cell itself is added here.
    others
        A sample of other cells for each cell.

    Returns
    -------
    No unit, above 0; 1 where neighbours are no nearer than others.
    """
    logs, other_logs = F.log_softmax(logits, dim=1), F.log_softmax(other_logits, dim=1)
    n_cells, n_sampled = others.shape
    by_source = edges[:, torch.argsort(edges[0], stable=True)]
    n_linked = torch.bincount(edges[0], minlength=n_cells)
    to_self = _symmetric_kl_of_logs(logs, other_logs)
    near = (to_self + _summed_kl(logs, other_logs, targets=by_source[1], n_targets=n_linked)) / (1 + n_linked)
    n_others = torch.full_like(n_linked, n_sampled)
    far = _summed_kl(logs, other_logs, targets=others.reshape(-1), n_targets=n_others) / n_sampled
    return ((near + _RATIO_FLOOR) / (far + _RATIO_FLOOR)).mean()


def cross_view_consistency(
    view: Float[Tensor, "cell dim"],
    other: Float[Tensor, "cell dim"],
    *,
    edges: Int[Tensor, "2 edge"],
    pairs: Int[Tensor, "2 pair"],
) -> Float[Tensor, ""]:
    r"""Squared error of the cosines between two views against the graph: 1 for a cell and its neighbours, else 0.

    .. math:: \frac{1}{2} \Big( \mathrm{mean}_{(i, j) \in E \cup I} (1 - \cos(u_i, v_j))^2
              + \mathrm{mean}_{(i, j) \in S} \cos(u_i, v_j)^2 \Big)

    The mean over all pairs of cells would be one over the zeros alone; the two kinds count the same here.

    Parameters
    ----------
    edges
        E: row 0 the cell, row 1 its neighbour; each cell with itself is added here.
    pairs
        S: a sample of pairs of different cells, in the same layout.

    Returns
    -------
    No unit, 0 to 2.5.
    """
    units, other_units = F.normalize(view, dim=1), F.normalize(other, dim=1)
    itself = torch.arange(len(view), device=edges.device).expand(2, -1)
    linked = torch.cat([edges, itself], dim=1)
    near, far = ((units[rows] * other_units[columns]).sum(dim=1) for rows, columns in (linked, pairs))
    return ((1 - near).square().mean() + far.square().mean()) / 2


def _symmetric_kl_of_logs(
    logs: Float[Tensor, "row dim"], other_logs: Float[Tensor, "row dim"]
) -> Float[Tensor, " row"]:
    return ((logs.exp() - other_logs.exp()) * (logs - other_logs)).sum(dim=1) / 2


def _summed_kl(
    logs: Float[Tensor, "cell dim"],
    other_logs: Float[Tensor, "cell dim"],
    *,
    targets: Int[Tensor, " target"],
    n_targets: Int[Tensor, " cell"],
) -> Float[Tensor, " cell"]:
    """Sum of a cell's divergences to its targets, from sums over these, so that nothing is held for each pair.

    ``targets`` are listed cell by cell, ``n_targets`` of them for each. Rounding may leave about 1e-6 of either sign
    where all are equal.
    """
    own, other = logs.exp(), other_logs.exp()
    inner = (other * other_logs).sum(dim=1, keepdim=True)
    starts = torch.cumsum(n_targets, dim=0) - n_targets
    table = torch.cat([other, other_logs, inner], dim=1)
    dim = own.shape[1]
    sums = F.embedding_bag(targets, table, starts, mode="sum")
    crossed = own * sums[:, dim : 2 * dim] + logs * sums[:, :dim]
    return (n_targets * (own * logs).sum(dim=1) + sums[:, 2 * dim] - crossed.sum(dim=1)) / 2
