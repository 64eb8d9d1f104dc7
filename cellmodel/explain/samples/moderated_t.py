"""Moderated t statistics: linear models of many genes, their variances shrunk towards a trend by empirical Bayes."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float
from scipy.linalg import orth

ALIKE: Final = "samples do not vary within a condition, so no p values: are some of them copies of others?"
RANK: Final = 1e-9  # singular values of columns below this share of the largest are 0
_SPLINE_DF: Final = 4  # coefficients of the trend, its intercept among them
_MOST_KNOT_SHARE: Final = 10  # genes for each coefficient of the trend at least
_LEAST_VARIANCE: Final = 1e-5  # of the median: below it a variance is that of values that are equal by chance
_ROUNDING: Final = 1e-24  # of the sum of squares
_FEW: Final = 3  # variances from which something is learned of their distribution
_LEAST_TRIGAMMA: Final = 1e-10  # below it the degrees of freedom are as good as infinite


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Effects:
    """One effect in every gene, by least squares."""

    estimate: Float[np.ndarray, " gene"]
    error: float  # standard error of the estimate in units of the residual standard deviation
    variance: Float[np.ndarray, " gene"]  # residual variance; 0 where no degree of freedom is left
    df: int  # residual degrees of freedom

    @property
    def are_exact(self) -> bool:
        """Whether more than half of the genes do not vary beyond the effect, so that no variance can be learned."""
        return float(np.median(self.variance)) == 0.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ModeratedT:
    """Moderated t statistics of one effect."""

    estimate: Float[np.ndarray, " gene"]
    t: Float[np.ndarray, " gene"]
    p_value: Float[np.ndarray, " gene"]  # two-sided
    df: int  # residual degrees of freedom of a gene
    prior_df: float  # degrees of freedom that the other genes lend to each; infinite where all vary as the trend says


def fit_effects(
    values: Float[np.ndarray, "gene unit"],
    effect: Float[np.ndarray, " unit"],
    nuisance: Float[np.ndarray, "unit column"],
) -> Effects:
    """Regress every gene on an effect and nuisance columns; ``ValueError`` if these determine the effect."""
    basis = orth(nuisance, rcond=RANK)
    own = effect - basis @ (basis.T @ effect)
    size = float(own @ own)
    if size <= 1e-9 * float(effect @ effect):
        raise ValueError("the effect is a combination of the nuisance columns")
    residual = values - (values @ basis) @ basis.T
    estimate = residual @ own / size
    df = len(effect) - basis.shape[1] - 1
    rest = ((residual - np.outer(estimate, own)) ** 2).sum(axis=1)
    rest[rest <= _ROUNDING * (values**2).sum(axis=1)] = 0.0
    return Effects(estimate=estimate, error=size**-0.5, variance=rest / df if df else np.zeros_like(rest), df=df)


def moderate(effects: Effects, *, trend: Float[np.ndarray, " gene"] | None = None) -> ModeratedT:
    r"""Moderated t statistics :cite:`smyth2004limma`, the prior variance a spline of ``trend`` :cite:`law2014voom`.

    .. math:: \tilde s_g^2 = \frac{d_0 s_0^2(a_g) + d\, s_g^2}{d_0 + d}, \quad
              \tilde t_g = \frac{\hat\beta_g}{\tilde s_g \sqrt v} \sim t_{d_0 + d}

    ``trend``: mean expression :math:`a_g` of each gene; one prior variance for all if None. Raises ``ValueError``
    without a residual degree of freedom.
    """
    from scipy.special import stdtr

    if effects.df < 1:
        raise ValueError("there is no residual degree of freedom, so no variance")
    least = _LEAST_VARIANCE * max(float(np.median(effects.variance)), np.finfo(np.float64).tiny)
    variance = np.maximum(effects.variance, least)
    prior_df, prior = prior_of(variance, effects.df, trend=trend)
    share = 1.0 if np.isinf(prior_df) else prior_df / (prior_df + effects.df)
    posterior = share * prior + (1 - share) * variance
    t = effects.estimate / (np.sqrt(posterior) * effects.error)
    df = min(prior_df + effects.df, float(effects.df * len(variance)))  # no more than all genes have together
    p_value = 2 * stdtr(df, -np.abs(t))
    return ModeratedT(estimate=effects.estimate, t=t, p_value=p_value, df=effects.df, prior_df=prior_df)


def prior_of(
    variance: Float[np.ndarray, " gene"], df: int, *, trend: Float[np.ndarray, " gene"] | None = None
) -> tuple[float, Float[np.ndarray, " gene"]]:
    r"""Estimate degrees of freedom and value of the prior variance from log variances :cite:`smyth2004limma` (6.2).

    With :math:`s_g^2 \sim s_0^2 F_{d, d_0}`, :math:`e_g = \log s_g^2 - \psi(d/2) + \log(d/2)` has the mean
    :math:`\log s_0^2 - \psi(d_0/2) + \log(d_0/2)` and the variance :math:`\psi'(d/2) + \psi'(d_0/2)`.
    """
    from scipy.special import digamma, polygamma

    if len(variance) < _FEW:
        return 0.0, variance
    e = np.log(variance) - digamma(df / 2) + np.log(df / 2)
    columns = _spline(trend) if trend is not None else np.ones((len(e), 1))
    basis = orth(columns, rcond=RANK)
    mean = basis @ (basis.T @ e)
    spread = float(((e - mean) ** 2).sum() / (len(e) - basis.shape[1]) - polygamma(1, df / 2))
    if spread <= 0:
        return np.inf, np.exp(mean)
    prior_df = 2 * _inverse_trigamma(spread)
    return prior_df, np.exp(mean + digamma(prior_df / 2) - np.log(prior_df / 2))


def _inverse_trigamma(value: float) -> float:
    """Solve trigamma(y) = value, which lies between 1 / y and 1 / y + 1 / y^2."""
    from scipy.optimize import brentq
    from scipy.special import polygamma

    value = max(value, _LEAST_TRIGAMMA)
    return float(brentq(lambda y: polygamma(1, y) - value, 1 / value, (1 + np.sqrt(1 + 4 * value)) / (2 * value)))


def _spline(values: Float[np.ndarray, " gene"]) -> Float[np.ndarray, "gene column"]:
    """Give a natural cubic spline basis with knots at quantiles :cite:`hastie2009elements` (5.4, 5.5)."""
    n_columns = min(_SPLINE_DF, len(values) // _MOST_KNOT_SHARE, len(np.unique(values)))
    if n_columns < 2:  # noqa: PLR2004 - no slope
        return np.ones((len(values), 1))
    knots = np.quantile(values, np.linspace(0, 1, n_columns))
    x, knots = (values - knots[0]) / (knots[-1] - knots[0]), (knots - knots[0]) / (knots[-1] - knots[0])
    knots = np.unique(knots)

    def bend(knot: float) -> np.ndarray:
        return (np.clip(x - knot, 0, None) ** 3 - np.clip(x - knots[-1], 0, None) ** 3) / (knots[-1] - knot)

    bends = [bend(knot) - bend(knots[-2]) for knot in knots[:-2]]
    return np.column_stack([np.ones_like(x), x, *bends])
