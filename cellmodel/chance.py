"""What chance would give: distances, contributions and themes with the genes' texts and vectors dealt out anew."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cellmodel.attribution import Attribution, attribute
from cellmodel.term_scores import TermDeal
from cellmodel.types import GeneVectors

_TIE = 1e-9  # of a value of order one: sums taken in another order are equal


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judged:
    """An attribution, terms scored by it, and how often chance reaches as far.

    Parameters
    ----------
    attribution
        Distances and contributions with the texts that the genes have.
    distance_p
        (group,) p value of the distance: small where the genes in which a group differs have texts that agree.
    gene_p
        (gene, group) p value of a contribution: small where the text of a gene agrees with those of the others.
    score
        (term, group) normal score of the genes whose text holds a term.
    p_value, p_adjusted
        (term, group) p value of that score, for the term alone and for the highest score of any term in the group.
    """

    attribution: Attribution
    distance_p: Float[np.ndarray, " group"]
    gene_p: Float[np.ndarray, "gene group"]
    score: Float[np.ndarray, "term group"]
    p_value: Float[np.ndarray, "term group"]
    p_adjusted: Float[np.ndarray, "term group"]


def judge(
    differences: Float[np.ndarray, "gene group"],
    gene_vectors: GeneVectors,
    *,
    texts: TermDeal,
    n_permutations: int,
    rng: np.random.Generator,
) -> Judged:
    """Attribute distances to genes, score terms by the contributions, and compare both with chance.

    A deal gives every gene the text of another whose text holds about as many terms, and the vector of that text with
    it; distances, contributions and scores are then worked out anew. So a term is not held up by contributions that
    the same texts have made. P values are (1 + hits) / (1 + n) :cite:`phipson2010permutation`, those over all terms by
    the highest score of a deal :cite:`westfall1993resampling`.

    Parameters
    ----------
    differences
        As for ``attribute``.
    gene_vectors
        (gene, dim) in the same order.
    texts
        The terms of the same genes, ready to be dealt out.
    n_permutations
        Number of deals, which serve all groups alike.
    rng
        Draws them.

    Raises
    ------
    ValueError
        If there is no deal.
    """
    if n_permutations < 1:
        raise ValueError(f"n_permutations must be >= 1, got {n_permutations}")
    vectors = gene_vectors.astype(np.float64)
    found = attribute(differences, vectors)
    score = _scores(differences, found, texts)
    distance_hits, gene_hits = np.zeros(len(found.distances), np.int64), np.zeros(differences.shape, np.int64)
    hits, family_hits = np.zeros(score.shape, np.int64), np.zeros(score.shape, np.int64)
    for _ in range(n_permutations):
        order = texts.deal(rng)  # text t falls to gene order[t]
        dealt = differences[order]
        other = attribute(dealt, vectors)
        distance_hits += other.distances >= found.distances - _TIE
        gene_hits[order] += other.contributions >= found.contributions[order] - _TIE
        if len(score):
            other_score = _scores(dealt, other, texts) + _TIE
            hits += other_score >= score
            family_hits += other_score.max(axis=0) >= score
    return Judged(
        attribution=found,
        distance_p=(1 + distance_hits) / (1 + n_permutations),
        gene_p=(1 + gene_hits) / (1 + n_permutations),
        score=score,
        p_value=(1 + hits) / (1 + n_permutations),
        p_adjusted=(1 + family_hits) / (1 + n_permutations),
    )


def leading_weights(
    differences: Float[np.ndarray, "gene group"], found: Attribution
) -> Float[np.ndarray, "gene group"]:
    """Weights of genes in a theme: square roots of the contributions of those in which a group leads, else 0.

    A contribution grows with the square of a difference; its root is of the order of the difference, so that no single
    gene makes a theme.
    """
    leads = (differences > 0) & (found.contributions > 0)
    return np.sqrt(np.where(leads, found.contributions, 0.0))


def _scores(
    differences: Float[np.ndarray, "gene group"], found: Attribution, texts: TermDeal
) -> Float[np.ndarray, "term group"]:
    weights = leading_weights(differences, found)
    return texts.moments(weights).score(texts.carriers @ weights)
