import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from cellmodel.core.errors import InputUnusable
from cellmodel.pp.features import principal_components
from cellmodel.pp.moments import detected_genes, highly_variable
from cellmodel.pp.normalize import normalize_log1p
from tests.support import oracles, strategies


def poisson_counts(seed, *, n_cells=120, n_genes=400):
    rng = np.random.default_rng(seed)
    depth = rng.lognormal(0, 0.4, (n_cells, 1))
    program = 1 + 4 * (rng.random((3, n_genes)) < 0.1)
    mean = rng.gamma(0.4, 2.0, n_genes) * depth * program[rng.integers(0, 3, n_cells)]
    return sp.csr_matrix(rng.poisson(mean).astype(np.float32))


@given(counts=strategies.counts())
def test_normalizing_equals_the_definition_and_leaves_zeros_and_the_input(counts):
    before = counts.copy()
    expression = normalize_log1p(counts)
    assert not np.shares_memory(expression.data, counts.data)
    assert (counts != before).nnz == 0
    np.testing.assert_allclose(expression.toarray(), oracles.normalize_by_loops(counts), rtol=1e-5)
    assert expression.dtype == np.float32
    assert np.array_equal(expression.toarray() == 0, counts.toarray() == 0)


@given(counts=strategies.counts(), min_cells=st.integers(0, 5))
def test_detected_genes_are_counted_by_cells_above_zero_stored_or_not(counts, min_cells):
    dense = counts.toarray()
    expected = [sum(value > 0 for value in column) >= min_cells for column in dense.T]
    stored = sp.csr_matrix(np.ones(dense.shape))
    stored.data[:] = dense.ravel()
    for matrix in (counts, stored):
        assert detected_genes(matrix, min_cells=min_cells).tolist() == expected


@pytest.mark.parametrize(("seed", "n_top"), [(0, 50), (1, 200), (2, 5), (3, 399)])
def test_highly_variable_equals_scanpy(seed, n_top):
    sc = pytest.importorskip("scanpy")
    from anndata import AnnData

    present = sp.diags((np.arange(400) != 7).astype(np.float32))  # gene 7 is in no cell
    expression = normalize_log1p((poisson_counts(seed) @ present).tocsr()).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Scanpy's and AnnData's own
        table = sc.pp.highly_variable_genes(AnnData(expression), flavor="seurat", n_top_genes=n_top, inplace=False)
    chosen = highly_variable(expression, n_top=n_top)
    assert chosen.tolist() == np.flatnonzero(table["highly_variable"]).tolist()


@settings(deadline=None)
@given(order=st.permutations(range(40)), seed=st.integers(0, 5))
def test_highly_variable_does_not_see_the_order_of_genes_or_cells(order, seed):
    expression = normalize_log1p(poisson_counts(seed, n_cells=60, n_genes=40)).astype(np.float64)
    chosen = highly_variable(expression, n_top=10)
    permuted = highly_variable(expression[::-1][:, order], n_top=10)
    assert sorted(order[column] for column in permuted) == chosen.tolist()


def test_no_more_genes_than_asked_for_are_all_kept_and_genes_that_do_not_vary_are_refused():
    same = sp.csr_matrix(np.tile([1.0, 0.0, 2.0], (5, 1)))
    assert highly_variable(same, n_top=3).tolist() == [0, 1, 2]
    with pytest.raises(InputUnusable, match="none of 3 genes varies"):
        highly_variable(same, n_top=2)


@pytest.mark.parametrize("shape", [(80, 50), (50, 80)])
def test_leading_components_equal_the_full_svd(shape):
    rng = np.random.default_rng(0)
    dense = rng.random((shape[0], 5)) @ (rng.random((5, shape[1])) * [[16], [8], [4], [2], [1]]) + 3
    dense += 0.01 * rng.random(shape)
    scores, again = (principal_components(sp.csr_matrix(dense), n_components=4) for _ in range(2))
    assert scores.tobytes() == again.tobytes()
    expected = oracles.principal_components_by_full_svd(dense, 4)
    signs = np.sign((scores * expected).sum(axis=0))
    np.testing.assert_allclose(scores * signs, expected, atol=1e-3)


@settings(deadline=None)
@given(order=st.permutations(range(30)))
def test_permuting_the_cells_permutes_the_components(order):
    expression = normalize_log1p(poisson_counts(1, n_cells=30, n_genes=60))
    straight = principal_components(expression, n_components=5)
    permuted = principal_components(expression[order], n_components=5)
    np.testing.assert_allclose(permuted, straight[order], atol=1e-4)


@pytest.mark.parametrize(("shape", "n_found"), [((1, 5), 1), ((2, 5), 1), ((6, 3), 3), ((5, 200), 4), ((100, 1), 1)])
def test_fewer_components_where_cells_or_genes_are_few(shape, n_found):
    dense = np.random.default_rng(0).random(shape)
    scores = principal_components(sp.csr_matrix(dense))
    assert scores.shape == (shape[0], n_found)
    centered = dense - dense.mean(axis=0)
    np.testing.assert_allclose((scores.astype(float) ** 2).sum(), (centered**2).sum(), rtol=1e-5)


def test_cells_that_are_all_equal_have_components_of_zero():
    scores = principal_components(sp.csr_matrix(np.tile([1.0, 2.0, 3.0], (8, 1))))
    np.testing.assert_allclose(scores, 0, atol=1e-6)
