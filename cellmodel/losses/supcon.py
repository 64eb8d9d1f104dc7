"""Contrastive loss with labels: cells of one class are pulled together, all others pushed apart."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that every PyTorch reader expects


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
