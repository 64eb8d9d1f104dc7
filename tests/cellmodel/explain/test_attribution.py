import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from cellmodel.explain.attribution import attribute, standard_differences
from tests.support.text_paths import fitted_map


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_contributions_add_up_to_the_distance_of_the_centroids(seed):
    rng = np.random.default_rng(seed)
    cell_weights, gene_vectors = rng.gamma(0.5, size=(40, 30)), rng.standard_normal((30, 7))
    inside = np.arange(40) < 15
    semantic = cell_weights @ gene_vectors  # text view of each cell
    step = semantic[inside].mean(axis=0) - semantic[~inside].mean(axis=0)
    difference = cell_weights[inside].mean(axis=0) - cell_weights[~inside].mean(axis=0)
    found = attribute(difference[:, None], gene_vectors)
    assert found.distances[0] == pytest.approx(np.linalg.norm(step), rel=1e-12)
    assert found.contributions.sum() == pytest.approx(np.linalg.norm(step), rel=1e-12)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_contributions_follow_a_double_loop_along_the_direction_of_the_step(seed):
    rng = np.random.default_rng(seed)
    difference, vectors = rng.normal(size=30), rng.standard_normal((30, 7))
    step = sum(difference[gene] * vectors[gene] for gene in range(30))
    found = attribute(difference[:, None], vectors).contributions[:, 0]
    for gene in range(30):
        dot = 0.0
        for dim in range(7):
            dot += vectors[gene, dim] * step[dim] / np.linalg.norm(step)
        assert found[gene] == pytest.approx(difference[gene] * dot, abs=1e-12)


def test_gene_without_text_or_with_equal_weights_contributes_nothing():
    rng = np.random.default_rng(3)
    difference, vectors = rng.normal(size=(30, 1)), rng.standard_normal((30, 7))
    difference[5], vectors[4] = 0.0, 0.0
    contributions = attribute(difference, vectors).contributions[:, 0]
    assert contributions[[4, 5]].tolist() == [0.0, 0.0]
    assert np.count_nonzero(contributions) == 28


def test_single_precision_vectors_are_summed_in_double():
    rng = np.random.default_rng(4)
    difference, vectors = rng.normal(size=(2000, 1)), rng.standard_normal((2000, 7)).astype(np.float32)
    step = difference[:, 0] @ vectors.astype(np.float64)
    assert attribute(difference, vectors).contributions.sum() == pytest.approx(np.linalg.norm(step), rel=1e-12)


def random_cells(seed: int) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.5, size=(60, 25)) * (rng.random((60, 25)) < 0.6)
    values[:, 3] = 1.7  # does not vary
    vectors = rng.standard_normal((25, 6)).astype(np.float32)
    return sp.csr_matrix(values.astype(np.float32)), np.arange(60) % 3, vectors


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_all_groups_at_once_agree_with_the_text_view_of_the_cells(seed):
    expression, clusters, vectors = random_cells(seed)
    differences = standard_differences(expression, clusters)
    found = attribute(differences, vectors)
    places = fitted_map(expression, vectors).paths(expression, n_top=5)[0].astype(np.float64)
    for group in range(3):
        step = places[clusters == group].mean(axis=0) - places[clusters != group].mean(axis=0)
        assert found.distances[group] == pytest.approx(np.linalg.norm(step), rel=1e-3)  # from float32
        assert found.contributions[:, group].sum() == pytest.approx(found.distances[group], rel=1e-12)


def test_differences_are_those_of_z_scores_and_0_where_nothing_varies():
    expression, clusters, _ = random_cells(1)
    dense = expression.toarray().astype(np.float64)
    deviation = dense.std(axis=0)
    differences = standard_differences(expression, clusters)
    assert differences[3].tolist() == [0.0, 0.0, 0.0]
    for gene in set(range(25)) - {3}:
        z = (dense[:, gene] - dense[:, gene].mean()) / deviation[gene]
        for group in range(3):
            expected = z[clusters == group].mean() - z[clusters != group].mean()
            assert differences[gene, group] == pytest.approx(expected, abs=1e-9)
    assert not standard_differences(expression, np.zeros(60, np.int64)).any()


def test_group_that_does_not_differ_has_no_distance_and_no_contributions():
    found = attribute(np.zeros((25, 2)), random_cells(2)[2])
    assert found.distances.tolist() == [0.0, 0.0]
    assert not found.contributions.any()
