"""Contrastive losses between two views of the same cells: pure functions of tensors."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that every PyTorch reader expects


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
