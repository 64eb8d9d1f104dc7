"""Pseudobulk: sums by a double loop, expressed genes, TMM factors that see through a few genes that differ."""

import numpy as np
import pytest
import scipy.sparse as sp

from cellmodel.explain.samples.pseudobulk import Libraries, sum_by_group, tmm_factors

SIDE = np.array([True, True, False, False])


@pytest.fixture
def counts():
    return np.random.default_rng(0).poisson(0.7, (60, 5)).astype(np.float32)


def libraries(values, *, is_counts=True):
    values = np.asarray(values, dtype=np.float64)
    n_cells = np.full(values.shape[1], 10)
    return Libraries(values=values, n_expressing=values, n_cells=n_cells, is_counts=is_counts)


def test_sums_are_those_of_a_loop(counts):
    rng = np.random.default_rng(1)
    labels, units = rng.integers(-1, 3, 60), rng.integers(0, 4, 60)
    bulk = sum_by_group(sp.csr_matrix(counts), labels, units, n_clusters=3, is_counts=True)
    for cluster in range(3):
        own, rest = (bulk.of(np.arange(4), cluster, rest=rest) for rest in (False, True))
        for unit in range(4):
            inside = (labels == cluster) & (units == unit)
            outside = (labels >= 0) & (labels != cluster) & (units == unit)
            np.testing.assert_allclose(own.values[:, unit], counts[inside].sum(axis=0))
            np.testing.assert_allclose(rest.values[:, unit], counts[outside].sum(axis=0))
            np.testing.assert_allclose(own.n_expressing[:, unit], (counts[inside] > 0).sum(axis=0))
            assert (own.n_cells[unit], rest.n_cells[unit]) == (inside.sum(), outside.sum())


def test_tmm_sees_through_genes_that_differ():
    rng = np.random.default_rng(2)
    base = rng.lognormal(4, 1, 2000)
    values = rng.poisson(base[:, None] * np.array([1.0, 1.0, 2.0, 2.0])).astype(float)
    values[:60, 2:] *= 20  # of half of the libraries these are most counts, and leave the others fewer
    sizes = values.sum(axis=0)
    factors = tmm_factors(values, sizes)
    assert np.prod(factors) == pytest.approx(1.0)
    effective = sizes * factors
    np.testing.assert_allclose(effective / effective[0], [1, 1, 2, 2], rtol=0.03)
    assert abs(sizes[2] / sizes[0] - 2) > 0.5


def test_equal_libraries_have_factors_of_one():
    values = np.random.default_rng(3).poisson(20, (300, 1)) * np.ones((1, 4))
    np.testing.assert_allclose(tmm_factors(values, values.sum(axis=0)), 1.0)


@pytest.mark.parametrize(
    ("n_a_side", "n_enough"),
    [(2, 2), (15, 14)],  # of 15: 10 and .7 of the other 5, 13.5
)
def test_a_gene_needs_ten_counts_in_as_many_libraries_as_a_side_has_or_of_many_in_a_share(n_a_side, n_enough):
    side, filled = np.repeat([True, False], n_a_side), np.arange(2 * n_a_side)
    values = np.array([
        10 * (filled < n_enough), 10 * (filled < n_enough - 1), np.full(len(side), 9), 10 * (filled >= n_a_side)
    ])  # fmt: skip
    filler = 1000 - values.sum(axis=0)  # all libraries are of one size
    assert libraries([*values, filler]).expressed(side).tolist() == [True, False, False, True, True]


def test_a_library_of_the_smaller_side_decides_what_is_enough():
    deep = np.array([1.0, 1.0, 100.0, 100.0])
    values = np.array([[10, 10, 0, 0], [0, 0, 900, 900], 1000 * deep])
    assert libraries(values).expressed(SIDE).tolist() == [True, False, True]


def test_log_counts_per_million_do_not_depend_on_depth():
    values = np.array([[100, 200, 400, 100], [900, 1800, 3600, 900], [0, 0, 0, 50]])
    found = libraries(values).log_expression(SIDE, np.array([True, True, False]))
    np.testing.assert_allclose(found[:, 0], found[:, 1], atol=1e-9)
    np.testing.assert_allclose(found[0, 0], np.log2(1e5), atol=0.1)


def test_means_of_log_expression_are_in_units_of_log_2():
    found = libraries([[10 * np.log(8)] * 4], is_counts=False).log_expression(SIDE, np.array([True]))
    np.testing.assert_allclose(found, 3.0)
