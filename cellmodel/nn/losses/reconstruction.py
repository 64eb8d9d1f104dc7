"""Reconstruction: squared error of features, and the likelihood of raw counts."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def squared_error(
    reconstructed: Float[Tensor, "cell dim"],
    original: Float[Tensor, "cell dim"],
    *,
    mask: Bool[Tensor, "cell dim"] | None = None,
) -> Float[Tensor, ""]:
    """Mean squared error, over all entries or over those that a mask marks.

    Raises
    ------
    ValueError
        If the mask marks no entry.
    """
    if mask is None:
        return F.mse_loss(reconstructed, original)
    if not bool(mask.any()):
        raise ValueError(f"mask marks 0 of {mask.numel()} entries; at least one is needed")
    return F.mse_loss(reconstructed[mask], original[mask])


def zinb_nll(
    counts: Float[Tensor, "cell gene"],
    *,
    log_mean: Float[Tensor, "cell gene"],
    log_dispersion: Float[Tensor, "cell gene"] | Float[Tensor, " gene"],
    dropout_logits: Float[Tensor, "cell gene"],
    log_size_factors: Float[Tensor, " cell"],
) -> Float[Tensor, ""]:
    r"""Negative log-likelihood of counts under a zero-inflated negative binomial :cite:`eraslan2019dca`.

    .. math:: \pi \delta_0 + (1 - \pi) NB(\mu s_i, \theta), \quad
              NB(x) = \frac{\Gamma(x + \theta)}{\Gamma(\theta) x!}
              \Big(\frac{\theta}{\theta + \mu}\Big)^\theta \Big(\frac{\mu}{\theta + \mu}\Big)^x

    All of it is taken in logarithms (lgamma, softplus, log-sigmoid), so nothing is clipped. scSiameseClu's published
    code puts it on principal components, with a mean that gets no gradient.

    Parameters
    ----------
    counts
        Raw, not negative.
    log_mean, log_dispersion
        :math:`\log \mu` of a cell of size factor one, and :math:`\log \theta`.
    dropout_logits
        :math:`\pi = \sigma(\cdot)`.
    log_size_factors
        Of each cell: log of its depth over the mean depth.

    Returns
    -------
    Mean over cells and genes, in nats.
    """
    log_mu = log_mean + log_size_factors[:, None]
    log_theta = log_dispersion.expand_as(log_mu)
    theta = log_theta.exp()
    log_ratio = log_mu - log_theta
    log_stay = -theta * F.softplus(log_ratio)  # θ log(θ / (θ + μ)): the binomial's own zero
    log_nb = (
        torch.lgamma(counts + theta)
        - torch.lgamma(theta)
        - torch.lgamma(counts + 1)
        + log_stay
        - counts * F.softplus(-log_ratio)
    )
    log_drop, log_keep = F.logsigmoid(dropout_logits), F.logsigmoid(-dropout_logits)
    log_likelihood = torch.where(counts == 0, torch.logaddexp(log_drop, log_keep + log_stay), log_keep + log_nb)
    return -log_likelihood.mean()
