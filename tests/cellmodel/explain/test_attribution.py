import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from cellmodel.explain.attribution import attribute, standard_differences
from tests.support.text_paths import fitted_map


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_contributions_follow_a_double_loop_along_the_step_of_the_centroids_and_add_up_to_its_length(seed):
    rng = np.random.default_rng(seed)
    differences, vectors = rng.normal(size=(30, 2)), rng.standard_normal((30, 7)).astype(np.float32)
    differences[:, 1] = 0.0  # a group that does not differ
    differences[5], vectors[4] = 0.0, 0.0  # a gene of equal weights, and one without text
    step = sum(differences[gene, 0] * vectors[gene].astype(np.float64) for gene in range(30))
    length = np.linalg.norm(step)
    found = attribute(differences, vectors)
    assert found.distances.tolist() == pytest.approx([length, 0.0], rel=1e-12)
    assert found.contributions[:, 0].sum() == pytest.approx(length, rel=1e-12)
    for gene in range(30):
        along = sum(float(vectors[gene, dim]) * step[dim] / length for dim in range(7))
        assert found.contributions[gene, 0] == pytest.approx(differences[gene, 0] * along, abs=1e-12)
    assert not found.contributions[[4, 5]].any()
    assert not found.contributions[:, 1].any()


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
