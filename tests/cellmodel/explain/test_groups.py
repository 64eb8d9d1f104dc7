"""Which cells belong to which group, and which are compared with which."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.explain.groups import ClusteredCells, clustered, compare_clusters, compare_conditions
from cellmodel.io.cells import cells_from_anndata

CLUSTERS = ["a"] * 8 + ["b"] * 6 + ["c"] * 2
CONDITIONS = ["x", "y"] * 4 + ["x"] * 5 + ["y"] + ["x", None]


def take(column, *, key: str = "group", **columns) -> ClusteredCells:
    """Group cells by a column of obs; the last of four genes is in no cell."""
    counts = np.random.default_rng(0).poisson(3, (len(column), 4)).astype(np.float32)
    counts[:, -1] = 0
    obs = pd.DataFrame({"group": column} | columns, index=[f"cell{cell}" for cell in range(len(column))])
    adata = ad.AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"G{gene}" for gene in range(4)]))
    return clustered(cells_from_anndata(adata), None, RunConfig(), cluster_key=key)


@pytest.mark.parametrize(
    ("column", "names"),
    [
        (pd.Categorical(["b", "a", "b"], categories=["b", "unused", "a"]), ("b", "a")),
        (["10", "9", "9", "x2", "x10"], ("9", "10", "x2", "x10")),
        (["T", "mono", "B cell", "T"], ("B cell", "T", "mono")),
        ([1.0, 0.0, np.nan, 1.0], ("0", "1")),  # integers that missing values made floats
        ([1.5, 0.0, 1.5], ("0.0", "1.5")),
    ],
    ids=["categories", "numbers", "alphabet", "integers", "floats"],
)
def test_names_follow_the_categories_or_the_alphabet_with_numbers_as_numbers(column, names):
    assert take(column).names == names


def test_cells_without_a_cluster_are_left_out_with_a_warning_and_rows_say_which_are_kept(caplog):
    found = take(["b", None, "a", "b"])
    assert found.rows.tolist() == [0, 2, 3]
    assert [found.names[label] for label in found.labels] == ["b", "a", "b"]
    assert (found.expression.shape, found.gene_names) == ((3, 3), ("G0", "G1", "G2"))
    assert "1 of 4 cells have no group and are left out" in caplog.text


def test_a_missing_column_is_answered_with_those_that_look_like_clusters_and_a_single_cluster_is_refused():
    with pytest.raises(InputUnusable, match=r"no column 'other' in obs \(it has: group\); run `cellmodel cluster`"):
        take(["a", "b"], key="other")
    more = {"score": [0.1, 0.2, 0.1, 0.2], "one": "same", "number": [0.0, 1.0, np.nan, 0.0]}
    with pytest.raises(InputUnusable, match=r"\(those that look like clusters: group, number\)"):
        take(["a", "b", "a", "b"], key="other", **more)
    with pytest.raises(InputUnusable, match="holds 1 cluster"):
        take(["a", "a"])


def cells(conditions=CONDITIONS) -> ClusteredCells:
    return take(CLUSTERS, stim=conditions)


def told(comparisons):
    return [
        (one.cluster, one.condition, one.against, one.n_cells, one.n_against)
        for comparison in comparisons
        for one in comparison.contrasts
    ]


def test_each_cluster_is_compared_with_all_other_cells_and_small_ones_are_left_out_with_a_warning(caplog):
    found = compare_clusters(cells())
    assert told(found) == [("a", "", "rest", 8, 8), ("b", "", "rest", 6, 10)]
    assert len(found[0].rows) == 16  # the small cluster still belongs to the rest of the others
    assert "cluster 'c': 2 cells, 14 on the other side; left out" in caplog.text


def test_of_two_clusters_the_other_is_the_rest_unless_both_are_named():
    two = take(CLUSTERS[:14])
    assert told(compare_clusters(two)) == [("a", "", "rest", 8, 6), ("b", "", "rest", 6, 8)]


def test_two_clusters_are_compared_with_one_another_alone():
    (found,) = compare_clusters(cells(), between=("b", "a"))
    assert told([found]) == [("b", "", "a", 6, 8), ("a", "", "b", 8, 6)]
    assert found.rows.tolist() == list(range(14))
    assert found.labels.tolist() == [1] * 8 + [0] * 6  # group 0 is the first that was named


def test_conditions_are_compared_inside_each_cluster_that_has_enough_cells_of_both(caplog):
    found = compare_conditions(cells(), condition_key="stim")
    assert told(found) == [("a", "x", "y", 4, 4), ("a", "y", "x", 4, 4)]
    assert found[0].rows[found[0].labels == 1].tolist() == [1, 3, 5, 7]
    assert "'y' in cluster 'b': 1 cells, 5 on the other side; left out" in caplog.text
    assert told(compare_conditions(cells(), condition_key="stim", cluster="a")) == told(found)


def test_one_of_three_conditions_is_compared_with_the_two_others():
    conditions = ["x"] * 3 + ["y"] * 3 + ["z"] * 2 + ["x"] * 8
    found = compare_conditions(cells(conditions), condition_key="stim", cluster="a")
    assert told(found) == [("a", "x", "rest", 3, 5), ("a", "y", "rest", 3, 5)]


@pytest.mark.parametrize(
    ("compare", "options", "why"),
    [
        (compare_clusters, {"between": ("a", "d")}, r"no cluster 'd' \(there are: a, b, c\)"),
        (compare_clusters, {"between": ("a", "a")}, "'a' is compared with itself"),
        (compare_clusters, {"between": ("a", "c")}, "no group with 3 cells or more on both sides"),
        (compare_conditions, {"condition_key": "stin"}, r"no column 'stin' in obs \(it has: group, stim"),
        (compare_conditions, {"condition_key": "stim", "cluster": "A"}, "there is no cluster 'A'"),
        (compare_conditions, {"condition_key": "stim", "cluster": "b"}, "no group with 3 cells"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(compare, options, why):
    with pytest.raises(InputUnusable, match=why):
        compare(cells(), **options)


def test_a_single_condition_is_refused():
    with pytest.raises(InputUnusable, match="holds 1 condition; two are needed"):
        compare_conditions(cells(["x"] * 16), condition_key="stim")
