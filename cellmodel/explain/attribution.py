"""Contributions of genes to semantic distances: exact, since the expression-weighted text view is linear in genes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cellmodel.core.arrays import CellByGene, GeneVectors, Labels
from cellmodel.explain.permutations import permutation_p
from cellmodel.explain.terms import TextPermutation
from cellmodel.pp.moments import GroupMoments, cluster_moments


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Attribution:
    """How far groups lie from others by their texts, and through which genes."""

    # (gene, group) share of each gene in the distance of its group: a column adds up to that distance
    contributions: Float[np.ndarray, "gene group"]
    # (group,) length of the step from the semantic centroid of the others to that of the group
    distances: Float[np.ndarray, " group"]


def standard_differences(expression: CellByGene, clusters: Labels) -> Float[np.ndarray, "gene group"]:
    """Mean z-scored expression in each cluster less that in all other cells, in standard deviations over all cells.

    ``expression``: (cell, gene) log-normalised. 0 for a gene that does not vary, and where there is no rest.
    """
    inside, rest = cluster_moments(expression, clusters)
    mean, deviation = overall_mean_and_deviation(inside)
    step = (inside.mean - rest.mean) * (rest.n_cells > 0)[:, None]
    varies = deviation > np.sqrt(len(clusters) * np.finfo(np.float64).eps) * mean
    return np.divide(step, deviation, out=np.zeros_like(step), where=varies).T.copy()


def overall_mean_and_deviation(inside: GroupMoments) -> tuple[Float[np.ndarray, " gene"], Float[np.ndarray, " gene"]]:
    """Mean and standard deviation (divisor n) over all cells, from the moments inside each cluster."""
    n_cells = inside.n_cells.sum()
    mean = inside.n_cells @ inside.mean / n_cells
    within = (inside.n_cells - 1) @ inside.variance
    between = inside.n_cells @ (inside.mean - mean) ** 2
    return mean, np.sqrt((within + between) / n_cells)


def attribute(differences: Float[np.ndarray, "gene group"], gene_vectors: GeneVectors) -> Attribution:
    r"""Attribute the semantic distance of every group to genes.

    .. math:: c_j = \big(\bar w_j^{\text{group}} - \bar w_j^{\text{others}}\big)\; g_j \cdot \text{direction}

    The expression-weighted text view places a cell at :math:`\sum_j w_{ij} g_j`, and the direction is the unit step
    between the two centroids: nothing is approximated, and the contributions add up to the distance.

    ``differences``: mean weight of each gene in the group less that in the others.
    """
    vectors = gene_vectors.astype(np.float64)
    steps = differences.T @ vectors  # (group, dim)
    distances = np.linalg.norm(steps, axis=1)
    directions = np.divide(steps, distances[:, None], out=np.zeros_like(steps), where=distances[:, None] > 0)
    return Attribution(contributions=differences * (vectors @ directions.T), distances=distances)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judged:
    """An attribution, terms scored by it, and their permutation p values."""

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
    texts: TextPermutation,
    n_permutations: int,
    rng: np.random.Generator,
) -> Judged:
    """Attribute distances to genes, score terms by the contributions, and compare both with permuted texts.

    A permutation gives every gene the text of another whose text holds about as many terms, and the vector of that
    text with it; distances, contributions and scores are then computed again, so that a term is not supported by
    contributions that the same texts have made. The permutations serve all groups alike.
    """
    vectors = gene_vectors.astype(np.float64)
    found = attribute(differences, vectors)
    score = _scores(differences, found, texts)

    def draw() -> tuple[np.ndarray, ...]:
        order = texts.draw(rng)  # text t is given to gene order[t]
        permuted = differences[order]
        other = attribute(permuted, vectors)
        contributions = np.empty_like(other.contributions)
        contributions[order] = other.contributions
        scores = _scores(permuted, other, texts)
        return other.distances, contributions, scores, scores.max(axis=0, initial=-np.inf)

    statistics = (found.distances, found.contributions, score, score)
    distance_p, gene_p, p_value, p_adjusted = permutation_p(statistics, draw, n_permutations=n_permutations)
    return Judged(
        attribution=found,
        distance_p=distance_p,
        gene_p=gene_p,
        score=score,
        p_value=p_value,
        p_adjusted=p_adjusted,
    )


def theme_weights(differences: Float[np.ndarray, "gene group"], found: Attribution) -> Float[np.ndarray, "gene group"]:
    """Weights of genes in a theme: square roots of the contributions of upregulated genes, else 0.

    A contribution grows with the square of a difference; its root does not let a single gene make a theme.
    """
    is_carrier = (differences > 0) & (found.contributions > 0)
    return np.sqrt(np.where(is_carrier, found.contributions, 0.0))


def _scores(
    differences: Float[np.ndarray, "gene group"], found: Attribution, texts: TextPermutation
) -> Float[np.ndarray, "term group"]:
    weights = theme_weights(differences, found)
    return texts.moments(weights).score(texts.carriers @ weights)
