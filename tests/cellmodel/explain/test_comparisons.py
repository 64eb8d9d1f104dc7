"""Which cells are compared with which."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.explain.groups import ClusteredCells, clustered, compare_clusters, compare_conditions
from cellmodel.io.cells import cells_from_anndata

CLUSTERS = ["a"] * 8 + ["b"] * 6 + ["c"] * 2
CONDITIONS = ["x", "y"] * 4 + ["x"] * 5 + ["y"] + ["x", None]


def cells(conditions=CONDITIONS) -> ClusteredCells:
    counts = np.random.default_rng(0).poisson(3, (len(CLUSTERS), 5)).astype(np.float32)
    adata = ad.AnnData(sp.csr_matrix(counts))
    adata.obs_names = [f"cell{cell}" for cell in range(len(CLUSTERS))]
    adata.obs["group"], adata.obs["stim"] = CLUSTERS, conditions
    return clustered(cells_from_anndata(adata), None, RunConfig(), cluster_key="group")


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
    found = cells()
    two = clustered(cells_from_anndata(found.cells.adata[:14].copy()), None, RunConfig(), cluster_key="group")
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
    ("call", "why"),
    [
        (lambda found: compare_clusters(found, between=("a", "d")), r"no cluster 'd' \(there are: a, b, c\)"),
        (lambda found: compare_clusters(found, between=("a", "a")), "'a' is compared with itself"),
        (lambda found: compare_clusters(found, between=("a", "c")), "no group with 3 cells or more on both sides"),
        (
            lambda found: compare_conditions(found, condition_key="stin"),
            r"no column 'stin' in obs \(it has: group, stim",
        ),
        (lambda found: compare_conditions(found, condition_key="stim", cluster="A"), "there is no cluster 'A'"),
        (lambda found: compare_conditions(found, condition_key="stim", cluster="b"), "no group with 3 cells"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(call, why):
    with pytest.raises(InputUnusable, match=why):
        call(cells())


def test_a_single_condition_is_refused_and_a_near_miss_is_named():
    with pytest.raises(InputUnusable, match="holds 1 condition; two are needed"):
        compare_conditions(cells(["x"] * 16), condition_key="stim")
    found = cells()
    object.__setattr__(found, "names", ("CD14 monocyte", "b", "c"))
    with pytest.raises(InputUnusable, match=r"did you mean 'CD14 monocyte'\?"):
        compare_clusters(found, between=("b", "CD14 monocytes"))
