"""Evidence between samples: the markers of the tests, contributions that add up, one mean for every sample."""

import numpy as np
import pytest
import scipy.sparse as sp

import cellmodel as cm
from cellmodel.core.errors import InputUnusable
from cellmodel.explain.attribution import standard_differences
from tests.support.demo import demo_cells
from tests.support.in_process import call, call_json

RAISED = ["LYZ", "CST3", "AIF1"]
OPTIONS = {"cluster_key": "bulk_labels", "sample_key": "donor", "condition_key": "stim", "copy": True}


@pytest.fixture(scope="module")
def adata():
    """Demo cells of six donors, three of them stimulated: a few genes of two types are higher there."""
    adata = demo_cells()
    donor = np.arange(adata.n_obs) % 6
    adata.obs["donor"] = [f"d{number}" for number in donor]
    adata.obs["stim"] = np.where(donor % 2, "stim", "ctrl")
    adata = adata[adata.obs["bulk_labels"].isin(["CD14+ Monocyte", "Dendritic", "CD19+ B"])].copy()
    values = adata.X.toarray()
    raised = adata.obs["stim"].eq("stim") & adata.obs["bulk_labels"].eq("CD19+ B")
    for gene in RAISED:
        values[raised.to_numpy(), adata.var_names.get_loc(gene)] += 2.5
    adata.X = sp.csr_matrix(values)
    return adata


@pytest.fixture(scope="module")
def attributed(adata, demo_kb):
    return cm.tl.attribute(adata, demo_kb, **OPTIONS).uns["cellmodel_attribution_conditions"]


def test_markers_are_those_of_the_tests(adata, attributed):
    tested = cm.tl.markers(adata, **OPTIONS).uns["cellmodel_conditions"]["markers"]
    tested = tested[tested["cluster"] == "CD19+ B"].set_index("gene")
    table = attributed["markers"]
    own = table[(table["cluster"] == "CD19+ B") & (table["condition"] == "stim")]
    assert set(own["gene"].head(3)) == set(RAISED)
    genes = own["gene"].head(10)
    for column, of_test in (("t", "statistic"), ("p_value", "p_value"), ("log2_fold_change", "log2_fold_change")):
        np.testing.assert_allclose(own[column].head(10), tested.loc[genes, of_test])


def test_the_reverse_comparison_has_the_other_signs(attributed):
    table = attributed["markers"].query("cluster == 'CD19+ B'")
    up, down = (table[table["condition"] == condition].set_index("gene")["t"] for condition in ("stim", "ctrl"))
    both = up.index.intersection(down.index)
    np.testing.assert_allclose(up[both], -down[both])
    assert set(attributed["groups"]["against"]) == {"stim", "ctrl"}


def test_contributions_add_up_to_the_distance(attributed):
    keys = ["cluster", "condition"]
    total = attributed["contributions"].groupby(keys)["contribution"].sum()
    np.testing.assert_allclose(total, attributed["groups"].set_index(keys)["distance"].loc[total.index])
    assert any("means of log expression" in note for note in attributed["notes"])


def test_differences_are_between_means_of_samples():
    rng = np.random.default_rng(0)
    dense = rng.exponential(size=(50, 4))
    clusters, samples = rng.integers(0, 2, 50), rng.integers(0, 3, 50)
    found = standard_differences(sp.csr_matrix(dense), clusters, samples=samples)
    of_sample = np.array([
        [dense[(clusters == side) & (samples == sample)].mean(axis=0) for sample in range(3)] for side in (0, 1)
    ])  # fmt: skip
    step = (of_sample[1] - of_sample[0]).mean(axis=0) / dense.std(axis=0)
    np.testing.assert_allclose(found, np.column_stack([-step, step]))


def test_clusters_are_explained_inside_each_sample(adata, demo_kb):
    found = cm.tl.attribute(adata, demo_kb, cluster_key="bulk_labels", sample_key="donor", copy=True)
    groups = found.uns["cellmodel_attribution"]["groups"]
    assert groups["cluster"].tolist() == ["CD14+ Monocyte", "CD19+ B", "Dendritic"]
    assert set(groups["against"]) == {"rest"}


def test_the_command_prints_notes_and_refuses_what_does_not_go_together(adata, demo_home, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    words = ["attribute", tmp_path / "cells.h5ad", "--kb", "demo", "--home", demo_home, "--cluster-key", "bulk_labels"]
    words += ["--permutations", 5, "-o", tmp_path / "a.h5ad", "--overwrite"]
    by_sample = [*words, "--sample-key", "donor", "--condition-key", "stim"]
    content = call_json("cellmodel", *by_sample, "--cluster", "CD19+ B")
    assert {group["cluster"] for group in content["groups"]} == {"CD19+ B"}
    assert any("is the reference of 'stim'" in note for note in content["notes"])
    assert call("cellmodel", *by_sample, "--cluster", "CD19 B")[0] == 3
    code, _, err = call("cellmodel", *words, "--reference", "ctrl")
    assert (code, "go with --sample-key" in err) == (2, True)
    code, _, err = call("cellmodel", *words, "--sample-key", "donor", "--between", "Dendritic", "CD19+ B")
    assert (code, "compared by their cells" in err) == (2, True)


def test_one_sample_a_side_has_themes_and_no_significant_markers(adata, demo_kb):
    two = adata[adata.obs["donor"].isin(["d0", "d1"])].copy()
    found = cm.tl.attribute(two, demo_kb, **OPTIONS).uns["cellmodel_attribution_conditions"]
    assert found["markers"]["p_value"].isna().all()
    assert any("so no p values" in note for note in found["notes"])
    with pytest.raises(InputUnusable, match="nothing can be compared in AnnData in memory"):
        cm.tl.attribute(adata, demo_kb, **OPTIONS | {"sample_key": "stim", "condition_key": "bulk_labels"})
