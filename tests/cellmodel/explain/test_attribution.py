import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from cellmodel.explain.attribution import attribute, gene_contributions, semantic_direction, standard_differences
from cellmodel.text.paths import expression_weighted


def random_case(seed: int, *, n_genes: int = 30, n_dims: int = 7) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "gene_weights_cluster": rng.gamma(0.5, size=n_genes),
        "gene_weights_rest": rng.gamma(0.5, size=n_genes),
        "gene_vectors": rng.standard_normal((n_genes, n_dims)),
    }


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_contributions_add_up_to_the_distance_of_the_centroids(seed):
    rng = np.random.default_rng(seed)
    cell_weights, gene_vectors = rng.gamma(0.5, size=(40, 30)), rng.standard_normal((30, 7))
    inside = np.arange(40) < 15
    semantic = cell_weights @ gene_vectors  # path 1 of each cell
    step = semantic[inside].mean(axis=0) - semantic[~inside].mean(axis=0)
    case = {
        "gene_weights_cluster": cell_weights[inside].mean(axis=0),
        "gene_weights_rest": cell_weights[~inside].mean(axis=0),
        "gene_vectors": gene_vectors,
    }
    direction = semantic_direction(**case)
    assert np.linalg.norm(direction) == pytest.approx(1.0)
    np.testing.assert_allclose(direction * np.linalg.norm(step), step, rtol=1e-9, atol=1e-12)
    contributions = gene_contributions(**case, direction=direction)
    assert contributions.sum() == pytest.approx(np.linalg.norm(step), rel=1e-12)
    assert gene_contributions(**case, direction=step).sum() == pytest.approx(step @ step, rel=1e-12)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_contributions_follow_a_double_loop_along_any_direction(seed):
    case = random_case(seed)
    direction = np.random.default_rng(seed + 1).standard_normal(7)
    contributions = gene_contributions(**case, direction=direction)
    for gene in range(30):
        dot = 0.0
        for dim in range(7):
            dot += case["gene_vectors"][gene, dim] * direction[dim]
        weight = case["gene_weights_cluster"][gene] - case["gene_weights_rest"][gene]
        assert contributions[gene] == pytest.approx(weight * dot, abs=1e-12)
    centroids = [case[name] @ case["gene_vectors"] for name in ("gene_weights_cluster", "gene_weights_rest")]
    assert contributions.sum() == pytest.approx((centroids[0] - centroids[1]) @ direction, abs=1e-9)


def test_gene_without_text_or_with_equal_weights_contributes_nothing():
    case = random_case(3)
    case["gene_vectors"][4] = 0.0
    case["gene_weights_rest"][5] = case["gene_weights_cluster"][5]
    contributions = gene_contributions(**case, direction=semantic_direction(**case))
    assert contributions[[4, 5]].tolist() == [0.0, 0.0]
    assert np.count_nonzero(contributions) == 28


def test_single_precision_vectors_are_summed_in_double():
    case = random_case(4, n_genes=2000)
    case["gene_vectors"] = case["gene_vectors"].astype(np.float32)
    direction = semantic_direction(**case)
    step = (case["gene_weights_cluster"] - case["gene_weights_rest"]) @ case["gene_vectors"].astype(np.float64)
    total = gene_contributions(**case, direction=direction).sum()
    assert total == pytest.approx(np.linalg.norm(step), rel=1e-12)


def test_equal_centroids_have_no_direction_and_no_contributions():
    case = random_case(5)
    case["gene_weights_rest"] = case["gene_weights_cluster"].copy()
    direction = semantic_direction(**case)
    assert not direction.any()
    assert not gene_contributions(**case, direction=direction).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gene_weights_cluster": np.full(30, np.nan)}, "cluster weights hold NaN"),
        ({"gene_vectors": np.full((30, 7), np.inf)}, "gene vectors hold NaN or infinity"),
        ({"direction": np.full(7, np.nan)}, "must hold 7 finite values"),
    ],
)
def test_unusable_input_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        gene_contributions(**(random_case(6) | {"direction": np.ones(7)} | change))


@pytest.mark.parametrize(("name", "value"), [("gene_weights_rest", np.ones(29)), ("direction", np.ones(6))])
def test_shapes_that_do_not_fit_are_refused(name, value):
    with pytest.raises((ValueError, TypeError), match=name):  # TypeError where the shape types are checked at run time
        gene_contributions(**(random_case(6) | {"direction": np.ones(7), name: value}))


def random_cells(seed: int) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.5, size=(60, 25)) * (rng.random((60, 25)) < 0.6)
    values[:, 3] = 1.7  # does not vary
    vectors = rng.standard_normal((25, 6)).astype(np.float32)
    return sp.csr_matrix(values.astype(np.float32)), np.arange(60) % 3, vectors


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_all_groups_at_once_agree_with_one_group_at_a_time_and_with_path_1_of_the_cells(seed):
    expression, clusters, vectors = random_cells(seed)
    differences = standard_differences(expression, clusters)
    found = attribute(differences, vectors)
    places = expression_weighted(expression, vectors).astype(np.float64)
    for group in range(3):
        step = places[clusters == group].mean(axis=0) - places[clusters != group].mean(axis=0)
        assert found.distances[group] == pytest.approx(np.linalg.norm(step), rel=1e-3)  # from float32
        assert found.contributions[:, group].sum() == pytest.approx(found.distances[group], rel=1e-12)
        case = {
            "gene_weights_cluster": differences[:, group],
            "gene_weights_rest": np.zeros(25),
            "gene_vectors": vectors.astype(np.float64),
        }
        single = gene_contributions(**case, direction=semantic_direction(**case))
        np.testing.assert_allclose(found.contributions[:, group], single, atol=1e-12)


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
