"""Attribution: exact contributions of genes to semantic distances, beside those of permuted texts."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cellmodel.core.arrays import CellByGene, GeneVectors, Labels
from cellmodel.core.random import permutation_p
from cellmodel.explain.terms import TermScores, TextPermutation
from cellmodel.pp.moments import cluster_moments, overall_mean_and_deviation


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Attribution:
    """How far groups lie from others by their texts, and through which genes."""

    # (gene, group) share of each gene in the distance of its group: a column adds up to that distance
    contributions: Float[np.ndarray, "gene group"]
    # (group,) length of the step from the semantic centroid of the others to that of the group
    distances: Float[np.ndarray, " group"]


def standard_differences(
    expression: CellByGene, clusters: Labels, *, samples: Labels | None = None
) -> Float[np.ndarray, "gene group"]:
    """Mean z-scored expression in each cluster less that in all other cells; 0 where nothing varies.

    ``samples``: replicate of each cell; means are over the replicates then, so that each counts as much.
    """
    inside, rest = cluster_moments(expression, clusters)
    mean, deviation = overall_mean_and_deviation(inside)
    if samples is None:
        step = (inside.mean - rest.mean) * (rest.n_cells > 0)[:, None]
    else:
        step = _step_over_samples(expression, clusters, samples)
    varies = deviation > np.sqrt(len(clusters) * np.finfo(np.float64).eps) * mean
    return np.divide(step, deviation, out=np.zeros_like(step), where=varies).T.copy()


def _step_over_samples(expression: CellByGene, clusters: Labels, samples: Labels) -> Float[np.ndarray, "group gene"]:
    """Mean over the replicates of each cluster less that over the replicates of the others."""
    pairs, groups = np.unique(np.column_stack([clusters, samples]), axis=0, return_inverse=True)
    means = cluster_moments(expression, groups.ravel().astype(np.int64))[0].mean
    of = pairs[:, 0]
    return np.stack([means[of == one].mean(axis=0) - means[of != one].mean(axis=0) for one in np.unique(of)])


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
class AttributionTest(Attribution):
    """An attribution with the texts that the genes have, terms scored by it, and their permutation p values."""

    # (group,) p value of the distance: small where the genes in which a group differs have texts that agree
    distance_p: Float[np.ndarray, " group"]
    # (gene, group) p value of a contribution: small where the text of a gene agrees with those of the others
    gene_p: Float[np.ndarray, "gene group"]
    terms: TermScores  # of the genes whose text holds a term


def test_attribution(
    differences: Float[np.ndarray, "gene group"],
    gene_vectors: GeneVectors,
    *,
    texts: TextPermutation,
    n_permutations: int,
    rng: np.random.Generator,
) -> AttributionTest:
    """Attribute distances to genes, score terms by the contributions, and compare both with permuted texts.

    A permutation gives every gene the text of another that holds about as many terms, with its vector; contributions
    are then computed again, so that a term is not supported by contributions that the same texts have made.
    """
    vectors = gene_vectors.astype(np.float64)
    found = attribute(differences, vectors)
    score = _scores(differences, found, texts)

    def after(order: Int[np.ndarray, " gene"]) -> tuple[np.ndarray, ...]:  # text t is given to gene order[t]
        permuted = differences[order]
        other = attribute(permuted, vectors)
        contributions = np.empty_like(other.contributions)
        contributions[order] = other.contributions
        scores = _scores(permuted, other, texts)
        return other.distances, contributions, scores, scores.max(axis=0, initial=-np.inf)

    statistics = (found.distances, found.contributions, score, score)
    distance_p, gene_p, p_value, p_adjusted = permutation_p(
        statistics, after, draw=lambda: texts.draw(rng), n_permutations=n_permutations
    )
    return AttributionTest(
        contributions=found.contributions,
        distances=found.distances,
        distance_p=distance_p,
        gene_p=gene_p,
        terms=TermScores(score=score, p_value=p_value, p_adjusted=p_adjusted),
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
