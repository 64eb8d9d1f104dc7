from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from cellmodel.core.arrays import unit_rows
from cellmodel.pp.normalize import rank_genes, rank_weights
from cellmodel.pp.text.align import fit_whitening
from cellmodel.pp.text.view import mix_paths
from tests.support.text_paths import fitted_map


def random_cells(seed, n_cells=7, n_genes=9):
    rng = np.random.default_rng(seed)
    dense = rng.poisson(1.0, (n_cells, n_genes)).astype(np.float32)
    return sp.csr_matrix(np.log1p(dense)), rng.standard_normal((n_genes, 4)).astype(np.float32)


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_path_1_is_the_mean_of_vectors_weighted_by_z_scores(seed):
    expression, vectors = random_cells(seed)
    dense = expression.toarray().astype(np.float64)
    expected = np.zeros((7, 4))
    for gene in range(9):
        column = dense[:, gene]
        if column.std() > 0:
            for cell in range(7):
                expected[cell] += (column[cell] - column.mean()) / column.std() * vectors[gene]
    np.testing.assert_allclose(fitted_map(expression, vectors).paths(expression, n_top=5)[0], expected, atol=1e-4)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_ranks_go_from_the_highest_expression_and_ties_to_the_rarer_gene(seed, n_top):
    expression, _ = random_cells(seed)
    dense = expression.toarray()
    mean = dense.mean(axis=0)
    for cell, genes in enumerate(rank_genes(expression, n_top=n_top, mean=mean)):
        assert len(genes) == min(n_top, (dense[cell] > 0).sum())
        for first, second in pairwise(genes):
            assert dense[cell, first] >= dense[cell, second]
            if dense[cell, first] == dense[cell, second]:
                assert mean[first] <= mean[second] + 1e-6


def test_rank_weights_sum_to_one_and_fall_with_rank():
    expression, _ = random_cells(3)
    mean = expression.toarray().mean(axis=0)
    weights = rank_weights(expression, n_top=4, mean=mean)
    np.testing.assert_allclose(np.asarray(weights.sum(axis=1)).ravel(), 1.0, rtol=1e-6)
    for cell, genes in enumerate(rank_genes(expression, n_top=4, mean=mean)):
        row = np.asarray(weights[cell, genes].todense()).ravel()
        assert (np.diff(row) < 0).all()
        np.testing.assert_allclose(row[0] / row[-1], np.log2(len(genes) + 1), rtol=1e-5)


def test_a_cell_without_expression_lies_at_the_center_and_gives_no_nan():
    expression = sp.csr_matrix(np.array([[0, 0, 0], [1, 2, 0], [0, 1, 3]], dtype=np.float32))
    vectors = np.eye(3, dtype=np.float32)
    mixed = mix_paths(*fitted_map(expression, vectors).paths(expression, n_top=2), path1_weight=0.5)
    assert np.isfinite(mixed).all()


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_whitened_vectors_have_unit_covariance(seed):
    vectors = np.random.default_rng(seed).standard_normal((50, 6)) @ np.diag([9, 5, 3, 1, 0.5, 0.1])
    whitened = fit_whitening(vectors, rank=4)(vectors)
    np.testing.assert_allclose(whitened.T @ whitened / 50, np.eye(4), atol=1e-4)
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-5)


def test_whitening_keeps_no_more_directions_than_the_vectors_span():
    vectors = np.outer(np.arange(5.0), [1.0, 2.0, 3.0])
    assert fit_whitening(vectors, rank=3).components.shape == (3, 1)
    with pytest.raises(ValueError, match="3 gene vectors are all equal"):
        fit_whitening(np.ones((3, 2)), rank=2)


def test_both_paths_weigh_as_told_whatever_their_scale():
    path1, path2 = np.array([[1000.0, 0.0]]), np.array([[0.0, 0.001]])
    np.testing.assert_allclose(mix_paths(path1, path2, path1_weight=0.5), [[0.5**0.5, 0.5**0.5]])
    np.testing.assert_allclose(mix_paths(path1, path2, path1_weight=1.0), [[1.0, 0.0]])


def test_unit_rows_leaves_zero_rows_alone():
    np.testing.assert_allclose(unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0.0, 0.0]])
