"""Weights of genes, and scores by them, against plain dense arithmetic."""

import numpy as np
import pytest
import scipy.sparse as sp

from cellmodel.annotate.cell_types import (
    cell_scores,
    cluster_profiles,
    gene_texts,
    standard_profiles,
    standard_weights,
    text_weights,
    type_nearness,
    widened_weights,
)
from cellmodel.core.errors import AlignmentTooLow


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def expression_of(rng, n_cells=60, n_genes=40):
    return sp.csr_matrix(np.log1p(rng.poisson(rng.uniform(0.05, 3, n_genes), (n_cells, n_genes))).astype(np.float32))


def test_text_weights_are_the_standardized_cosines_of_the_nearest_genes(rng):
    genes, queries, center = rng.normal(size=(30, 6)), rng.normal(size=(3, 6)), rng.normal(size=6)
    has_vector = np.arange(30) % 5 != 0
    found = text_weights(queries, gene_texts(genes, has_vector=has_vector), center=center, n_top=4).toarray()
    mean = genes[has_vector].mean(axis=0)
    for query, row in zip(queries, found, strict=True):
        cosines = np.full(30, -np.inf)
        for gene in np.flatnonzero(has_vector):
            a, b = query - center, genes[gene] - mean
            cosines[gene] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        nearest = np.argsort(-cosines)[:4]
        assert set(np.flatnonzero(row)) == set(nearest)
        known = cosines[has_vector]
        expected = (cosines[nearest] - known.mean()) / known.std()
        np.testing.assert_allclose(row[nearest] / row[nearest[0]], expected / expected[0], rtol=1e-9)


def test_standard_weights_deviate_from_their_mean_by_length_one_and_a_constant_row_is_zero(rng):
    dense = rng.uniform(size=(4, 12)) * (rng.uniform(size=(4, 12)) < 0.5)
    dense[2] = 0.7
    found = standard_weights(sp.csr_matrix(dense)).toarray()
    lengths = np.linalg.norm(found - found.mean(axis=1, keepdims=True), axis=1)
    np.testing.assert_allclose(lengths, [1, 1, 0, 1], atol=1e-9)


def test_the_score_is_a_correlation_and_has_standard_deviation_one_when_genes_are_dealt_out(rng):
    profile, weight = rng.normal(size=200), np.zeros(200)
    weight[:20] = rng.uniform(size=20)
    standard, weights = standard_profiles(profile[None]), standard_weights(sp.csr_matrix(weight[None]))
    score = (weights @ standard.T)[0, 0]
    assert score == pytest.approx(np.corrcoef(profile, weight)[0, 1] * np.sqrt(200))
    dealt = [(weights @ standard[:, rng.permutation(200)].T)[0, 0] for _ in range(3000)]
    assert np.mean(dealt) == pytest.approx(0, abs=0.06)
    assert np.std(dealt) == pytest.approx(1, abs=0.05)


def test_cells_are_scored_as_dense_arithmetic_scores_them(rng):
    values = expression_of(rng, n_cells=150).toarray()
    values[:, 3] = np.eye(1, 150)[0] * 3  # more than ten standard deviations above the mean of its gene
    values[:, 7] = 0.0
    expression = sp.csr_matrix(values)
    weights = standard_weights(sp.random(5, 40, density=0.2, random_state=1, format="csr"))
    dense = expression.toarray().astype(np.float64)
    deviation = dense.std(axis=0)
    values = np.where(deviation > 0, (dense - dense.mean(axis=0)) / np.where(deviation > 0, deviation, 1), 0)
    expected = standard_profiles(np.minimum(values, 10.0)) @ weights.toarray().T
    np.testing.assert_allclose(cell_scores(expression, weights), expected, rtol=1e-4, atol=1e-4)


def test_profiles_are_clipped_mean_differences_in_standard_deviations(rng):
    expression, clusters = expression_of(rng), np.repeat([0, 1, 2], [3, 27, 30])
    dense = expression.toarray().astype(np.float64)
    values = (dense - dense.mean(axis=0)) / dense.std(axis=0)
    expected = np.clip([values[clusters == cluster].mean(axis=0) for cluster in range(3)], -2, 2)
    np.testing.assert_allclose(cluster_profiles(expression, clusters), expected, atol=1e-6)


def test_balanced_profiles_are_those_of_as_many_cells_a_cluster_whatever_its_size(rng):
    few = expression_of(rng, n_cells=60)
    clusters = np.repeat([0, 1, 2], 20)
    many = sp.vstack([few[:20]] * 9 + [few[20:]]).tocsr()
    of_many = np.concatenate([np.zeros(180, dtype=int), clusters[20:]])
    profiles = cluster_profiles(few, clusters, balanced=True)
    np.testing.assert_allclose(cluster_profiles(many, of_many, balanced=True), profiles, atol=0.03)
    np.testing.assert_allclose(profiles, cluster_profiles(few, clusters), atol=0.1)
    assert np.abs(cluster_profiles(many, of_many) - profiles).max() > 0.2


def test_a_query_means_the_type_whose_words_it_has_and_no_type_if_it_is_far_from_all(rng):
    table = rng.normal(size=(30, 16))
    table[:, -1] = 0
    nearness = type_nearness(np.stack([table[4], 100 * np.eye(16)[-1]]), table)
    assert nearness[0].argmax() == 4
    assert nearness[0, 4] == pytest.approx(1)
    assert np.count_nonzero(nearness[0] > 0.5) == 1
    assert not nearness[1].any()


def test_markers_of_a_type_that_is_meant_outweigh_the_text_and_others_leave_it_as_it_is(rng):
    text = standard_weights(sp.csr_matrix(np.eye(2, 10)))
    markers = standard_weights(sp.csr_matrix(np.eye(3, 10, k=5)))
    widened = widened_weights(text, markers, np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])).toarray()
    assert widened[0, 6] == pytest.approx(2 * widened[0, 0])
    assert np.count_nonzero(widened[0]) == 2
    np.testing.assert_allclose(widened[1], text.toarray()[1])


def test_one_gene_with_a_text_is_too_few(rng):
    with pytest.raises(AlignmentTooLow, match="1 gene of the cells has a vector"):
        gene_texts(np.eye(3, 2), has_vector=np.arange(3) == 0)
