"""How much more weight the genes with a term have than chance would deal them: exact moments, then permutations."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

_MAX_STRATA, _STRATUM_GENES = 10, 50  # strata of text length: at most so many, of so many genes or more on average
_NO_DEVIATION = 1e-9  # weights are of order one: a smaller deviation is rounding
_MIN_SKEWNESS = 1e-3  # below it the correction is smaller than its rounding error
_TIE = 1e-9  # scores closer than this are equal: their sums were taken in another order


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TermScores:
    """Scores of all terms in all clusters.

    Parameters
    ----------
    score
        Standard normal under the null hypothesis, to good approximation.
    p_value
        Permutation p value of each term alone.
    p_adjusted
        Permutation p value of the highest score of any term in the cluster.
    """

    score: Float[np.ndarray, "term cluster"]
    p_value: Float[np.ndarray, "term cluster"]
    p_adjusted: Float[np.ndarray, "term cluster"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SumMoments:
    """Moments of each term's sum over shuffles of the texts."""

    mean: Float[np.ndarray, "term cluster"]
    deviation: Float[np.ndarray, "term cluster"]
    skewness: Float[np.ndarray, "term cluster"]

    def score(self, sums: Float[np.ndarray, "term cluster"]) -> Float[np.ndarray, "term cluster"]:
        """Put sums on the normal scale, as a gamma variable with these moments; 0 where nothing can vary."""
        varies = self.deviation > _NO_DEVIATION
        standard = np.divide(sums - self.mean, self.deviation, out=np.zeros_like(sums), where=varies)
        skewness = np.maximum(self.skewness, _MIN_SKEWNESS)
        root = np.cbrt(np.maximum(1 + standard * skewness / 2, 0.0))
        return np.where(varies, (root - 1 + skewness**2 / 36) * 6 / skewness, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TermDeal:
    """Texts to be dealt out anew among genes whose texts hold about as many terms.

    Parameters
    ----------
    carriers
        (term, gene) ones where the text of a gene holds a term.
    strata
        Genes among which texts are dealt out.
    factors
        By which the mean, second and third central moment of a stratum's weights add to those of a term's sum.
    """

    carriers: sp.csr_matrix
    strata: tuple[Int[np.ndarray, " _"], ...]
    factors: Float[np.ndarray, "3 term stratum"]

    def deal(self, rng: np.random.Generator) -> Int[np.ndarray, " gene"]:
        """Deal the texts out: the gene that each text falls to."""
        order = np.arange(self.carriers.shape[1])
        for genes in self.strata:
            order[genes] = rng.permutation(genes)
        return order

    def moments(self, weights: Float[np.ndarray, "gene cluster"]) -> SumMoments:
        """Moments of the sum of a term over all deals."""
        per_stratum = [_central_moments(weights[genes]) for genes in self.strata]
        stacked = np.array(per_stratum).reshape(len(self.strata), 3, weights.shape[1])
        mean, variance, third = (factor @ stacked[:, which] for which, factor in enumerate(self.factors))
        deviation = np.sqrt(variance)
        skewness = np.divide(third, deviation**3, out=np.zeros_like(third), where=deviation > _NO_DEVIATION)
        return SumMoments(mean=mean, deviation=deviation, skewness=skewness)


def score_terms(
    weights: Float[np.ndarray, "gene cluster"],
    presence: sp.csr_matrix,
    *,
    n_permutations: int,
    rng: np.random.Generator,
) -> TermScores:
    r"""Score every term in every cluster by the summed weight of the genes whose text holds it.

    Under the null hypothesis the texts are dealt out anew among genes whose texts hold about as many terms, since long
    texts hold more of every term and belong to well-studied genes. Within such a stratum of *N* genes, the sum over a
    term in *n* texts is a sample without replacement of the *N* weights. It has mean :math:`n\mu`, variance
    :math:`\sigma^2 n (N-n)/(N-1)` :cite:`cochran1977sampling` and third central moment
    :math:`\mu_3 n (N-n)(N-2n) / ((N-1)(N-2))`, with the moments of the weights over the stratum; strata add up. The
    standardised sum is corrected for skewness by the cube root of :cite:`wilson1931chisquare`, so that rare and common
    terms compare. P values are :math:`(1 + \text{hits}) / (1 + n)` :cite:`phipson2010permutation` over shuffles that
    serve all clusters alike; a hit of the adjusted one is a shuffle in which any term of the cluster scores as high
    :cite:`westfall1993resampling`.

    Parameters
    ----------
    weights
        Not negative, of order one.
    presence
        (gene, term) ones where the text of a gene holds a term.
    n_permutations
        Number of shuffles.
    rng
        Draws the shuffles.

    Returns
    -------
    Scores and p values.
    """
    texts = term_deal(presence)
    null = texts.moments(weights)
    score = null.score(texts.carriers @ weights)
    hits, family_hits = np.zeros(score.shape, np.int64), np.zeros(score.shape, np.int64)
    for _ in range(n_permutations if len(score) else 0):
        shuffled = null.score(texts.carriers @ weights[texts.deal(rng)]) + _TIE
        hits += shuffled >= score
        family_hits += shuffled.max(axis=0) >= score
    return TermScores(
        score=score, p_value=(1 + hits) / (1 + n_permutations), p_adjusted=(1 + family_hits) / (1 + n_permutations)
    )


def term_deal(presence: sp.csr_matrix) -> TermDeal:
    """Prepare the deals of :func:`score_terms`, which depend on the texts alone.

    Parameters
    ----------
    presence
        (gene, term) ones where the text of a gene holds a term.
    """
    strata = _length_strata(presence)
    carriers = presence.T.tocsr()
    counts = [np.asarray(carriers[:, genes].sum(axis=1)).ravel() for genes in strata]
    held = np.array(counts).reshape(len(strata), carriers.shape[0]).T  # (term, stratum)
    size = np.array([len(genes) for genes in strata])
    free = held * (size - held) / np.maximum(size - 1, 1)
    factors = np.stack([held, free, free * (size - 2 * held) / np.maximum(size - 2, 1)])
    return TermDeal(carriers=carriers, strata=strata, factors=factors)


def _length_strata(presence: sp.csr_matrix) -> tuple[Int[np.ndarray, " _"], ...]:
    """Genes grouped by the number of terms in their text; equal numbers stay together."""
    n_terms = np.diff(presence.indptr)
    n_strata = min(_MAX_STRATA, max(1, len(n_terms) // _STRATUM_GENES))
    edges = np.quantile(n_terms, np.arange(1, n_strata) / n_strata) if n_strata > 1 else np.empty(0)
    stratum = np.searchsorted(edges, n_terms, side="right")
    return tuple(np.flatnonzero(stratum == which) for which in np.unique(stratum))


def _central_moments(weights: Float[np.ndarray, "gene cluster"]) -> Float[np.ndarray, "3 cluster"]:
    """Mean, and second and third central moments."""
    mean = weights.mean(axis=0)
    spread = weights - mean
    return np.stack([mean, (spread**2).mean(axis=0), (spread**3).mean(axis=0)])
