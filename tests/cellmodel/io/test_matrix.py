"""Kinds of values, told from real cells and from what normalization makes of them."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from cellmodel.io.formats.anndata import read_anndata
from cellmodel.io.matrix import ValueKind, decide_kind, inspect_values
from tests.support.demo import variable_demo_cells

COUNT_SETS = [
    "scrna/baron_cross_species_350", "scrna/baron_mouse", "scrna/darmanis", "scrna/kang_ctrl_stim_12261_hvg",
    "scrna/kang_ifnb_2800", "scrna/mixology_celseq2_5cl", "scrna/paul15_2660", "scrna/pbmc3k", "scrna/pbmc_facs",
    "scrna/pollen", "scrna/segerstolpe_hvg2000", "scrna/zeisel_1464x1000", "spatial/dlpfc_151673",
    "spatial/her2st_H1", "bad/no_gene_names", "bad/duplicate_var_names",
]  # fmt: skip
LINEAR_SETS = ["scrna/usoskin_150", "bad/not_counts_rpkm"]


def draw_counts(seed, n_cells=40, n_genes=60):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.5, 3.0, (n_cells, 1))
    return sp.csr_matrix(rng.poisson(depth * rng.gamma(0.5, 2.0, n_genes)) + np.eye(n_cells, n_genes))


def per_cell(counts, total):
    return sp.csr_matrix(sp.diags(total / np.asarray(counts.sum(axis=1)).ravel()) @ counts)


def notes_on(matrix, kind="auto"):
    notes = []
    decide_kind(inspect_values(matrix), declared_kind=kind, where="X of cells.h5ad", notes=notes, hint=lambda: "")
    return " ".join(notes)


@pytest.mark.parametrize("name", COUNT_SETS)
def test_real_counts_are_counts(real_data, name):
    matrix = sp.csr_matrix(read_anndata(real_data / f"{name}.h5ad").X)
    assert inspect_values(matrix).kind == ValueKind.COUNTS
    assert "doubtful" not in notes_on(matrix)
    logged = per_cell(matrix[:300], 1e4).log1p()
    assert inspect_values(logged).kind == ValueKind.LOG1P
    assert inspect_values(logged[:, :100]).kind == ValueKind.LOG1P


def test_log2_values_rounded_or_not_are_doubted_and_the_option_is_named():
    rng = np.random.default_rng(0)
    linear = rng.lognormal(rng.normal(6, 3, 200), 0.5, (50, 200))
    logged = np.log2(1 + 1e6 * linear / linear.sum(axis=1, keepdims=True))
    assert logged.max() > 15
    for values in (sp.csr_matrix(logged), sp.csr_matrix(np.rint(logged))):
        assert "doubtful as" in notes_on(values)
        assert 'values="log1p"' in notes_on(values)
        assert "doubtful" not in notes_on(values, "log1p")
    assert "doubtful" not in notes_on(sp.csr_matrix(np.log1p(linear))) + notes_on(draw_counts(0))


@pytest.mark.parametrize("name", LINEAR_SETS)
def test_real_values_per_million_are_linear(real_data, name):
    assert inspect_values(sp.csr_matrix(read_anndata(real_data / f"{name}.h5ad").X)).kind == ValueKind.LINEAR


def test_scaled_x_and_the_logarithms_of_a_few_genes_are_told_apart():
    adata = variable_demo_cells()
    assert inspect_values(sp.csr_matrix(adata.X)).kind == ValueKind.SCALED
    raw = sp.csr_matrix(adata.raw.X)
    assert inspect_values(raw).kind == ValueKind.LOG1P
    back = np.asarray(raw.expm1().sum(axis=1)).ravel()
    assert back.std() / back.mean() > 0.1  # 765 of the genes: the totals are no longer one total


@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(["float32", "float64", "int32", "int64"]))
def test_counts_keep_their_kind_in_any_dtype_and_their_logarithm_is_log1p(seed, dtype):
    counts = draw_counts(seed)
    assert inspect_values(counts.astype(dtype)).kind == ValueKind.COUNTS
    assert inspect_values(counts.log1p()).kind == ValueKind.LOG1P
    assert inspect_values(per_cell(counts, 1e4).log1p()).kind == ValueKind.LOG1P


@given(seed=st.integers(0, 2**32 - 1), total=st.sampled_from([1.0, 100.0, 1e4, 1e6]))
def test_counts_divided_by_their_total_are_linear(seed, total):
    assert inspect_values(per_cell(draw_counts(seed), total)).kind == ValueKind.LINEAR


@given(seed=st.integers(0, 2**32 - 1))
def test_figures_equal_those_of_the_dense_matrix_whatever_is_stored(seed):
    counts = draw_counts(seed)
    dense, report = counts.toarray(), inspect_values(counts)
    assert (report.minimum, report.maximum) == (dense.min(), dense.max())
    assert report.share_zero == pytest.approx((dense == 0).mean())
    assert report.median_total == pytest.approx(np.median(dense.sum(axis=1)))
    assert (report.share_integer, report.n_not_finite) == (1.0, 0)
    with_zeros = sp.csr_matrix(np.ones(dense.shape))
    with_zeros.data[:] = dense.ravel()
    assert inspect_values(with_zeros) == report


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted_and_left_out_of_the_range(value):
    counts = draw_counts(0).astype(np.float32)
    top = counts.max()
    counts.data[[0, 5, 9]] = value
    report = inspect_values(counts)
    assert report.n_not_finite == 3
    assert 0 <= report.maximum <= top


def test_one_negative_value_is_scaled_and_nothing_but_zeros_are_counts():
    counts = draw_counts(0)
    counts.data[0] = -0.5
    assert inspect_values(counts).kind == ValueKind.SCALED
    report = inspect_values(sp.csr_matrix((5, 4), dtype=np.float32))
    assert (report.kind, report.maximum, report.share_zero) == (ValueKind.COUNTS, 0.0, 1.0)
