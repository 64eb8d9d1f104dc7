import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from cellmodel.explain.markers import MarkerTable, rank_markers

N_CELLS, N_GENES = 60, 12
NAMES = [f"g{gene}" for gene in range(50)]


def log_expression(seed: int, *, n_cells: int = N_CELLS, n_genes: int = N_GENES) -> sp.csr_matrix:
    """Sparse log1p counts with gene means that differ."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.6, 2.0, n_genes), (n_cells, n_genes))
    return sp.csr_matrix(np.log1p(counts.astype(np.float32)))


def three_clusters(seed: int, *, n_cells: int = N_CELLS) -> np.ndarray:
    """Labels 0, 1, 2, each with at least two cells."""
    rest = np.random.default_rng(seed).integers(0, 3, n_cells - 6)
    return np.concatenate([np.repeat([0, 1, 2], 2), rest])


def rank_all(expression: sp.csr_matrix, clusters: np.ndarray) -> tuple[MarkerTable, ...]:
    n_genes = expression.shape[1]
    return rank_markers(expression, clusters, gene_names=NAMES[:n_genes], n_top=n_genes)


def by_gene(table: MarkerTable, field: str) -> np.ndarray:
    return np.array([getattr(m, field) for m in sorted(table.markers, key=lambda m: m.gene)])


def numbers(tables: tuple[MarkerTable, ...]) -> np.ndarray:
    fields = ("t", "p_value", "p_adjusted", "log2_fold_change", "fraction_in", "fraction_out", "mean_in", "mean_out")
    return np.array([[getattr(m, field) for field in fields] for table in tables for m in table.markers])


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_t_and_p_are_those_of_scipy(seed):
    expression, clusters = log_expression(seed), three_clusters(seed)
    dense = expression.toarray().astype(np.float64)
    for table in rank_all(expression, clusters):
        inside = clusters == table.cluster
        varies = (dense[inside].var(axis=0) > 0) | (dense[~inside].var(axis=0) > 0)
        expected = ttest_ind(dense[inside][:, varies], dense[~inside][:, varies], equal_var=False)
        np.testing.assert_allclose(by_gene(table, "t")[varies], expected.statistic, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(by_gene(table, "p_value")[varies], expected.pvalue, rtol=1e-9, atol=1e-12)


def test_means_fractions_fold_changes_and_bh_follow_a_double_loop():
    expression, clusters = log_expression(1), three_clusters(1)
    dense = expression.toarray().astype(np.float64)
    for table in rank_all(expression, clusters):
        p_values = by_gene(table, "p_value")
        for marker in table.markers:
            inside = [dense[cell, marker.gene] for cell in range(N_CELLS) if clusters[cell] == table.cluster]
            rest = [dense[cell, marker.gene] for cell in range(N_CELLS) if clusters[cell] != table.cluster]
            assert marker.mean_in == pytest.approx(sum(inside) / len(inside))
            assert marker.mean_out == pytest.approx(sum(rest) / len(rest))
            assert marker.fraction_in == pytest.approx(sum(value > 0 for value in inside) / len(inside))
            assert marker.fraction_out == pytest.approx(sum(value > 0 for value in rest) / len(rest))
            ratio = (np.mean(np.expm1(inside)) + 1) / (np.mean(np.expm1(rest)) + 1)
            assert marker.log2_fold_change == pytest.approx(np.log2(ratio))
            no_smaller = [p * N_GENES / np.sum(p_values <= p) for p in p_values if p >= marker.p_value]
            assert marker.p_adjusted == pytest.approx(min([1.0, *no_smaller]))


def test_t_and_p_agree_with_scanpy_to_single_precision():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scanpy and its dependencies
        sc = pytest.importorskip("scanpy")
        from anndata import AnnData

        expression, clusters = log_expression(2, n_cells=200, n_genes=50), three_clusters(2, n_cells=200)
        cells = AnnData(expression.copy())
        cells.var_names = NAMES
        cells.obs["cluster"] = pd.Categorical(clusters.astype(str))
        sc.tl.rank_genes_groups(cells, "cluster", method="t-test")
        frames = [sc.get.rank_genes_groups_df(cells, str(cluster)).set_index("names") for cluster in range(3)]
    for table, frame in zip(rank_all(expression, clusters), frames, strict=True):
        theirs = frame.loc[NAMES]
        np.testing.assert_allclose(by_gene(table, "t"), theirs["scores"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(by_gene(table, "p_value"), theirs["pvals"], rtol=1e-4)
        np.testing.assert_allclose(by_gene(table, "p_adjusted"), theirs["pvals_adj"], rtol=1e-4)


def test_constant_genes_have_no_t_unless_the_constants_differ():
    clusters = np.repeat([0, 1], 50)
    values = np.zeros((100, 4), np.float32)
    values[:, 1] = 0.7  # not a binary fraction: sums round
    values[:50, 2] = 0.7
    values[:, 3] = np.linspace(0, 1, 100)
    absent, same, marker, rising = sorted(rank_all(sp.csr_matrix(values), clusters)[0].markers, key=lambda m: m.gene)
    for gene in (absent, same):
        assert (gene.t, gene.p_value, gene.p_adjusted, gene.log2_fold_change) == (0.0, 1.0, 1.0, 0.0)
    assert marker.t > 1e6
    assert np.isfinite(marker.t)
    assert marker.p_value == 0.0
    assert rising.t < 0


def test_cluster_of_one_cell_is_not_tested_nor_is_its_rest_but_ordered_by_fold_change():
    expression = log_expression(4)
    clusters = np.r_[2, np.arange(N_CELLS - 1) % 2]
    table = rank_all(expression, clusters)[2]
    assert (table.n_cells, table.is_tested) == (1, False)
    assert {(m.t, m.p_value, m.p_adjusted) for m in table.markers} == {(0.0, 1.0, 1.0)}
    changes = [m.log2_fold_change for m in table.markers]
    assert changes == sorted(changes, reverse=True)
    assert changes[0] > 0
    assert np.isfinite(numbers((table,))).all()
    assert not any(table.is_tested for table in rank_all(expression, np.r_[1, np.zeros(N_CELLS - 1, np.int64)]))


def test_single_cluster_has_no_markers():
    (table,) = rank_all(log_expression(5), np.zeros(N_CELLS, np.int64))
    assert table == MarkerTable(cluster=0, n_cells=N_CELLS, is_tested=False, markers=())


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_clusters=st.integers(2, 20))
def test_every_number_is_finite_for_sparse_data_and_tiny_clusters(seed, n_clusters):
    rng = np.random.default_rng(seed)
    expression = sp.random(24, 8, density=0.1, format="csr", rng=rng, dtype=np.float32)
    clusters = rng.permutation(np.r_[np.arange(n_clusters), rng.integers(0, n_clusters, 24 - n_clusters)])
    assert np.isfinite(numbers(rank_all(expression, clusters))).all()


@settings(deadline=None)
@given(order=st.permutations(range(N_CELLS)), new_name=st.permutations(range(3)))
def test_order_of_cells_and_names_of_clusters_do_not_matter(order, new_name):
    expression, clusters = log_expression(6), three_clusters(6)
    expected, renamed = rank_all(expression, clusters), rank_all(expression[order], np.array(new_name)[clusters[order]])
    found = tuple(renamed[new] for new in new_name)
    assert [[m.gene for m in t.markers] for t in found] == [[m.gene for m in t.markers] for t in expected]
    np.testing.assert_allclose(numbers(found), numbers(expected), rtol=1e-9, atol=1e-13)


def test_cells_beyond_one_block_are_counted():
    n_cells = 70_000
    clusters = np.arange(n_cells) % 2
    expression = sp.csr_matrix(np.where(clusters == 1, 2.0, 1.0)[:, None] * [[1.0, 0.0]])
    first = rank_all(expression, clusters)[1].markers[0]
    assert (first.mean_in, first.mean_out, first.fraction_in) == (2.0, 1.0, 1.0)


def test_input_is_left_alone_and_stored_zeros_do_not_count():
    expression = sp.csr_matrix(([0.0, 1.0, 2.0], [0, 0, 0], [0, 1, 2, 3, 3]), shape=(4, 1), dtype=np.float32)
    (marker,) = rank_all(expression, np.array([0, 0, 1, 1]))[0].markers
    assert (marker.fraction_in, marker.fraction_out) == (0.5, 0.5)
    assert expression.nnz == 3


def test_only_the_top_is_kept():
    expression, clusters = log_expression(8), three_clusters(8)
    top = rank_markers(expression, clusters, gene_names=NAMES[:N_GENES], n_top=3)
    assert [table.markers for table in top] == [table.markers[:3] for table in rank_all(expression, clusters)]


def test_unusable_input_is_refused():
    expression, clusters = log_expression(9), three_clusters(9)
    with pytest.raises(ValueError, match="1 gene names for 12 genes"):
        rank_markers(expression, clusters, gene_names=["a"], n_top=5)
    with pytest.raises(ValueError, match="n_top must be >= 1, got 0"):
        rank_markers(expression, clusters, gene_names=NAMES[:N_GENES], n_top=0)


def test_a_specific_gene_leads_one_that_all_cells_express_much():
    clusters = np.repeat([0, 1, 2, 3], 25)
    rng = np.random.default_rng(0)
    housekeeping = rng.normal(6.0, 0.05, 100) + 0.3 * (clusters == 0)  # the higher t: it hardly varies
    specific = np.maximum(rng.normal(0.0, 0.3, 100) + (clusters == 0), 0)
    expression = sp.csr_matrix(np.column_stack([housekeeping, specific]))

    def leading(**order):
        return rank_markers(expression, clusters, gene_names=("RPS12", "CD3D"), **order)[0].markers[0].name

    assert (leading(order="t"), leading()) == ("RPS12", "CD3D")
