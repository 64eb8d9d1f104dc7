"""Contrastive losses between two views of the same cells: pure functions of tensors."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def info_nce(
    anchor: Float[Tensor, "cell dim"], positive: Float[Tensor, "cell dim"], *, temperature: float
) -> Float[Tensor, ""]:
    r"""Symmetric InfoNCE between two views of the same cells :cite:`oord2018cpc` (eq. 4), :cite:`radford2021clip`.

    .. math:: -\frac{1}{2n}\sum_i \Big(\log\frac{e^{s_{ii}/\tau}}{\sum_j e^{s_{ij}/\tau}}
              + \log\frac{e^{s_{ii}/\tau}}{\sum_j e^{s_{ji}/\tau}}\Big), \quad s_{ij} = \cos(a_i, p_j)

    Parameters
    ----------
    anchor, positive
        The views, not yet normalised; row *i* of both is cell *i*.
    temperature
        :math:`\tau > 0`, no unit.

    Returns
    -------
    Mean loss in nats; log(n_cells) when all similarities tie.

    Raises
    ------
    ValueError
        If ``temperature`` is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    logits = F.normalize(anchor, dim=1) @ F.normalize(positive, dim=1).T / temperature  # (cell, cell)
    same_cell = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, same_cell) + F.cross_entropy(logits.T, same_cell)) / 2


def variance_hinge(view: Float[Tensor, "cell dim"], *, target: float = 1.0) -> Float[Tensor, ""]:
    r"""Keep each dimension of a view spread over the cells :cite:`bardes2022vicreg` (eq. 1).

    .. math:: \frac{1}{d}\sum_k \max\big(0, \gamma - \sqrt{\mathrm{Var}_k + \epsilon}\big)

    Parameters
    ----------
    view
        Un-normalised projections: after L2 normalisation the loss could not reach zero.
    target
        :math:`\gamma`, the standard deviation asked for.
    """
    deviation = torch.sqrt(view.var(dim=0) + 1e-4)
    return F.relu(target - deviation).mean()


def sup_con(
    views: Float[Tensor, "view dim"], classes: Int[Tensor, " view"], *, temperature: float
) -> Float[Tensor, ""]:
    r"""Supervised contrastive loss :cite:`khosla2020supcon` (eq. 2): the mean over positives stands outside the log.

    .. math:: -\frac{1}{|A|}\sum_{i \in A} \frac{1}{|P(i)|} \sum_{p \in P(i)}
              \log\frac{e^{s_{ip}/\tau}}{\sum_{a \ne i} e^{s_{ia}/\tau}}, \quad s_{ij} = \cos(v_i, v_j)

    Parameters
    ----------
    views
        One row a view of a cell, not yet normalised; several views of one cell carry its class.
    classes
        Class of each row. A row whose class no other row has is no anchor, but still pushes others away.
    temperature
        :math:`\tau > 0`, no unit.

    Returns
    -------
    Mean loss in nats over the anchors; 0 where there is none.

    Raises
    ------
    ValueError
        If ``temperature`` is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    unit = F.normalize(views, dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    logits = (unit @ unit.T / temperature).masked_fill(itself, float("-inf"))  # (view, view)
    log_share = logits - torch.logsumexp(logits, dim=1, keepdim=True)
    is_positive = (classes[:, None] == classes[None, :]) & ~itself
    n_positives = is_positive.sum(dim=1)
    per_anchor = log_share.masked_fill(~is_positive, 0.0).sum(dim=1) / n_positives.clamp(min=1)
    return -per_anchor.sum() / (n_positives > 0).sum().clamp(min=1)
