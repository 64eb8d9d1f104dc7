"""Which genes pull a cluster along a semantic direction: exact, because path 1 is linear in the gene vectors."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cellmodel.core.types import CellByGene, GeneVectors, Labels
from cellmodel.explain.terms import TermDeal
from cellmodel.pp.moments import cluster_moments


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Attribution:
    """How far groups lie from others by their texts, and through which genes."""

    # (gene, group) share of each gene in the distance of its group: a column adds up to that distance
    contributions: Float[np.ndarray, "gene group"]
    # (group,) length of the step from the semantic centroid of the others to that of the group
    distances: Float[np.ndarray, " group"]


def standard_differences(expression: CellByGene, clusters: Labels) -> Float[np.ndarray, "gene group"]:
    """Mean z-scored expression in each cluster less that in all other cells: the weights of path 1, group by group.

    ``expression``: (cell, gene) log-normalised. ``clusters``: one label per cell, 0 .. k-1, each used at least once.
    Returns in standard deviations over all these cells; 0 for a gene that does not vary, and where there is no rest.
    Raises ``ValueError`` if labels or values are unusable (see ``cluster_moments``).
    """
    inside, rest = cluster_moments(expression, clusters)
    mean = inside.n_cells @ inside.mean / len(clusters)
    within = np.maximum(inside.n_cells - 1, 0) @ inside.variance
    between = inside.n_cells @ (inside.mean - mean) ** 2
    deviation = np.sqrt((within + between) / len(clusters))  # (gene,)
    step = (inside.mean - rest.mean) * (rest.n_cells > 0)[:, None]
    varies = deviation > np.sqrt(len(clusters) * np.finfo(np.float64).eps) * mean
    return np.divide(step, deviation, out=np.zeros_like(step), where=varies).T.copy()


def attribute(differences: Float[np.ndarray, "gene group"], gene_vectors: GeneVectors) -> Attribution:
    """Attribute the semantic distance of every group to genes: ``gene_contributions`` along ``semantic_direction``.

    ``differences``: mean weight of each gene in the group less that in the others. ``gene_vectors``: (gene, dim) in the
    same order.
    """
    vectors = gene_vectors.astype(np.float64)
    steps = differences.T @ vectors  # (group, dim)
    distances = np.linalg.norm(steps, axis=1)
    directions = np.divide(steps, distances[:, None], out=np.zeros_like(steps), where=distances[:, None] > 0)
    return Attribution(contributions=differences * (vectors @ directions.T), distances=distances)


def semantic_direction(
    *,
    gene_weights_cluster: Float[np.ndarray, " gene"],
    gene_weights_rest: Float[np.ndarray, " gene"],
    gene_vectors: Float[np.ndarray, "gene dim"],
) -> Float[np.ndarray, " dim"]:
    r"""Return the unit vector from the semantic centroid of the rest to that of a cluster.

    Path 1 places a cell at :math:`\sum_j w_{ij} g_j`, so the centroid of a group is :math:`\sum_j \bar w_j g_j`.

    ``gene_weights_cluster``, ``gene_weights_rest``: mean weight of each gene over the cells of the cluster and over all
    other cells. ``gene_vectors``: vector of each gene, in the same order; a gene without text has a row of zeros.
    Returns direction of length 1 in double precision; all zeros if the centroids coincide. Raises ``ValueError`` if the
    three do not describe the same genes, or a value is not finite.
    """
    difference = _difference(gene_weights_cluster, gene_weights_rest, gene_vectors=gene_vectors)
    step: Float[np.ndarray, " dim"] = difference @ gene_vectors.astype(np.float64)
    length = float(np.linalg.norm(step))
    return step / length if length > 0 else step


def gene_contributions(
    *,
    gene_weights_cluster: Float[np.ndarray, " gene"],
    gene_weights_rest: Float[np.ndarray, " gene"],
    gene_vectors: Float[np.ndarray, "gene dim"],
    direction: Float[np.ndarray, " dim"],
) -> Float[np.ndarray, " gene"]:
    r"""Share of each gene in how far a cluster lies from the rest along a direction.

    .. math:: c_j = \big(\bar w_j^{\text{cluster}} - \bar w_j^{\text{rest}}\big)\; g_j \cdot \text{direction}

    Nothing is approximated: the sum over genes is the difference of the two centroids projected on the direction, and
    along ``semantic_direction`` it is the distance of the centroids.

    ``gene_weights_cluster``, ``gene_weights_rest``, ``gene_vectors``: as for ``semantic_direction``. ``direction``: any
    direction in the space of the gene vectors: that of the cluster, or the vector of a word. Returns contribution of
    each gene, signed, in units of weight times length of a gene vector. Raises ``ValueError`` if the shapes do not fit,
    or a value is not finite.
    """
    difference = _difference(gene_weights_cluster, gene_weights_rest, gene_vectors=gene_vectors)
    if direction.shape != gene_vectors.shape[1:] or not np.isfinite(direction).all():
        raise ValueError(
            f"direction of shape {direction.shape} must hold {gene_vectors.shape[1]} finite values, one per dimension"
        )
    contributions: Float[np.ndarray, " gene"] = difference * (gene_vectors.astype(np.float64) @ direction)
    return contributions


def _difference(
    cluster: Float[np.ndarray, " gene"],
    rest: Float[np.ndarray, " gene"],
    *,
    gene_vectors: Float[np.ndarray, "gene dim"],
) -> Float[np.ndarray, " gene"]:
    """Mean weight in the cluster less mean weight in the rest, checked against the vectors."""
    if not cluster.shape == rest.shape == gene_vectors.shape[:1]:
        raise ValueError(
            f"gene_weights_cluster of {len(cluster)} genes, gene_weights_rest of {len(rest)} and gene_vectors of "
            f"{len(gene_vectors)} must be of the same genes"
        )
    for name, values in (("cluster weights", cluster), ("rest weights", rest), ("gene vectors", gene_vectors)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} hold NaN or infinity; give a gene without text a vector of zeros")
    return cluster.astype(np.float64) - rest.astype(np.float64)


_TIE = 1e-9  # of a value of order one: sums taken in another order are equal


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judged:
    """An attribution, terms scored by it, and how often chance reaches as far."""

    attribution: Attribution  # distances and contributions with the texts that the genes have
    # (group,) p value of the distance: small where the genes in which a group differs have texts that agree
    distance_p: Float[np.ndarray, " group"]
    # (gene, group) p value of a contribution: small where the text of a gene agrees with those of the others
    gene_p: Float[np.ndarray, "gene group"]
    score: Float[np.ndarray, "term group"]  # (term, group) normal score of the genes whose text holds a term
    # p_value, p_adjusted: (term, group) p value of that score, for the term alone and for the highest score of any term
    # in the group
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

    ``differences``: as for ``attribute``. ``gene_vectors``: (gene, dim) in the same order. ``texts``: the terms of the
    same genes, ready to be dealt out. ``n_permutations``: number of deals, which serve all groups alike. ``rng``: draws
    them. Raises ``ValueError`` if there is no deal.
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
