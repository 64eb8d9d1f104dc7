import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from cellmodel.core import random as seeding
from cellmodel.recipes.scsiameseclu import diffuse, drop_edges, feature_noise


def random_graph(seed, n_cells=12, density=0.3):
    weights = np.random.default_rng(seed).random((n_cells, n_cells))
    upper = np.triu(np.where(weights < density, weights + 0.1, 0), k=1)
    return sp.csr_matrix(upper + upper.T)


def transition(graph):
    weights = graph.toarray() + np.eye(graph.shape[0])
    return sp.csr_matrix(weights / weights.sum(axis=1, keepdims=True))


def test_noise_multiplies_by_draws_around_one():
    features = np.full((400, 50), -2.0, dtype=np.float32)
    noisy = feature_noise(features, deviation=0.1, rng=seeding.generator(0, "noise"))
    factors = noisy / features
    assert noisy.dtype == np.float32
    assert factors.mean() == pytest.approx(1, abs=0.005)
    assert factors.std() == pytest.approx(0.1, abs=0.005)
    np.testing.assert_array_equal(noisy, feature_noise(features, deviation=0.1, rng=seeding.generator(0, "noise")))


def test_the_least_similar_cells_lose_their_edge_first():
    embedding = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [-1.0, 0.0]])
    graph = sp.csr_matrix(np.ones((4, 4)) - np.eye(4))
    left = drop_edges(graph, embedding, share=0.5).toarray()
    links = {(int(row), int(column)) for row, column in zip(*np.nonzero(np.triu(left)), strict=True)}
    assert links == {(0, 1), (1, 2), (2, 3)}  # cosines 1, 0.1 and 0; of the two equal ones the first goes


@settings(deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0, 0.99))
def test_dropping_keeps_weights_symmetry_and_the_stated_number_of_edges(seed, share):
    graph = random_graph(seed)
    left = drop_edges(graph, np.random.default_rng(seed).standard_normal((12, 3)), share=share)
    assert left.nnz == graph.nnz - 2 * int(share * (graph.nnz // 2))
    assert abs(left - left.T).nnz == 0
    kept = left.toarray() > 0
    np.testing.assert_array_equal(left.toarray()[kept], graph.toarray()[kept])


def test_diffusion_approaches_the_dense_inverse():
    steps = transition(random_graph(3))
    exact = 0.2 * np.linalg.inv(np.eye(12) - 0.8 * steps.toarray())
    np.testing.assert_allclose(diffuse(steps, restart=0.2, n_steps=200, n_kept=12).toarray(), exact, atol=1e-12)


@settings(deadline=None)
@given(seed=st.integers(0, 1000), n_kept=st.integers(1, 12))
def test_a_truncated_row_keeps_its_mass_and_its_largest_values(seed, n_kept):
    steps = transition(random_graph(seed))
    found = diffuse(steps, restart=0.3, n_steps=1, n_kept=n_kept).toarray()
    full = 0.7 * steps.toarray() + 0.3 * np.eye(12)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert ((found > 0).sum(axis=1) <= n_kept).all()
    for row, whole in zip(found, full, strict=True):
        assert whole[row > 0].min() >= whole[row == 0].max(initial=0) - 1e-12


def test_of_equal_values_a_truncated_row_keeps_those_of_the_first_cells():
    ring = sum(np.roll(np.eye(6), step, axis=1) for step in (1, 2, 4)) / 3
    found = diffuse(sp.csr_matrix(ring), restart=0.4, n_steps=1, n_kept=3).toarray()
    for cell, row in enumerate(found):
        equal = sorted((cell + step) % 6 for step in (1, 2, 4))
        assert np.flatnonzero(row).tolist() == sorted([cell, *equal[:2]])
