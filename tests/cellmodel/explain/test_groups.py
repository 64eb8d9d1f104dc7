import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.explain.groups import clustered
from cellmodel.io.cells import cells_from_anndata


def cells_with(column, *, n_genes=4):
    counts = np.random.default_rng(0).poisson(3, (len(column), n_genes)).astype(np.float32)
    counts[:, -1] = 0
    adata = ad.AnnData(sp.csr_matrix(counts))
    adata.var_names = [f"G{gene}" for gene in range(n_genes)]
    adata.obs["group"] = column
    adata.obs_names = [f"cell{cell}" for cell in range(len(column))]
    return cells_from_anndata(adata)


def take(column):
    return clustered(cells_with(column), None, RunConfig(), cluster_key="group")


def test_names_follow_the_categories_or_the_alphabet_with_numbers_as_numbers():
    by_category = pd.Categorical(["b", "a", "b"], categories=["b", "unused", "a"])
    assert take(by_category).names == ("b", "a")
    assert take(["10", "9", "9", "x2", "x10"]).names == ("9", "10", "x2", "x10")
    assert take(["T", "mono", "B cell", "T"]).names == ("B cell", "T", "mono")


def test_integers_that_missing_values_made_floats_are_integers_again():
    assert take([1.0, 0.0, np.nan, 1.0]).names == ("0", "1")
    assert take([1.5, 0.0, 1.5]).names == ("0.0", "1.5")


def test_a_missing_column_is_answered_with_those_that_look_like_clusters():
    cells = cells_with(["a", "b", "a", "b"])
    cells.adata.obs["score"], cells.adata.obs["one"] = [0.1, 0.2, 0.1, 0.2], "same"
    cells.adata.obs["number"] = [0.0, 1.0, np.nan, 0.0]
    with pytest.raises(InputUnusable, match=r"\(those that look like clusters: group, number\)"):
        clustered(cells, None, RunConfig(), cluster_key="other")


def test_cells_without_a_cluster_are_left_out_with_a_warning_and_rows_say_which_are_kept(caplog):
    found = take(["b", None, "a", "b"])
    assert found.rows.tolist() == [0, 2, 3]
    assert [found.names[label] for label in found.labels] == ["b", "a", "b"]
    assert found.expression.shape == (3, 3)
    assert found.gene_names == ("G0", "G1", "G2")  # the last gene is in no cell
    assert "1 of 4 cells have no group and are left out" in caplog.text


def test_a_missing_column_and_a_single_cluster_are_refused():
    with pytest.raises(InputUnusable, match=r"no column 'other' in obs \(it has: group\); run `cellmodel cluster`"):
        clustered(cells_with(["a", "b"]), None, RunConfig(), cluster_key="other")
    with pytest.raises(InputUnusable, match="holds 1 cluster"):
        take(["a", "a"])
