"""The tree of a run: what is written of it, and what it says of noise."""

import logging

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.cluster.hierarchy import is_valid_linkage

import cellmodel as cm
from cellmodel.core.errors import InputUnusable
from cellmodel.io.formats.anndata import read_anndata

PLAIN = {"recipe": "pca-kmeans", "knowledge": "none"}


def counts(n_types, *, n_cells=60, n_genes=400, seed=0):
    """Counts of types that differ in twenty genes each, two and two of them also in forty that they share."""
    rng = np.random.default_rng(seed)
    types = np.repeat(np.arange(n_types), n_cells)
    rates = np.full((n_types, n_genes), 0.4)
    for one in range(n_types):
        rates[one, 20 * one : 20 * one + 20] *= 12
        rates[one, 200 + 40 * (one // 2) : 240 + 40 * (one // 2)] *= 12
    adata = anndata.AnnData(sp.csr_matrix(rng.poisson(rates[types]).astype(np.float32)))
    adata.var_names = [f"GENE{at}" for at in range(n_genes)]
    adata.obs["type"] = types.astype(str)
    return adata


@pytest.fixture(scope="module")
def clustered():
    adata = counts(6)
    cm.tl.cluster(adata, **PLAIN, n_clusters=6)
    return adata


def test_tree_and_levels_are_written_and_survive_a_file(clustered, tmp_path):
    clustered.write_h5ad(tmp_path / "out.h5ad")
    adata = anndata.read_h5ad(tmp_path / "out.h5ad")
    tree, obs = adata.uns["cellmodel"]["tree"], adata.obs
    assert is_valid_linkage(tree["linkage"])
    assert list(tree["levels"]) == [3, 6]
    assert "cellmodel_level_3" not in obs
    assert (obs["cellmodel_level_2"].astype(str) == obs["cellmodel"].astype(str)).all()
    pairs = obs.groupby("cellmodel_level_1", observed=True)["type"].agg(lambda types: "".join(sorted(set(types))))
    assert sorted(pairs) == ["01", "23", "45"]
    splits = tree["splits"]
    assert list(splits["height"]) == sorted(splits["height"], reverse=True)
    assert (splits["support"] > 0.5).all()
    assert (splits["n_cells_left"] + splits["n_cells_right"]).iloc[0] == adata.n_obs


def test_markers_of_both_sides(clustered):
    splits = clustered.uns["cellmodel"]["tree"]["splits"]
    types = clustered.obs.groupby("cellmodel", observed=True)["type"].first()
    pairs = splits[~splits["left"].str.contains("+", regex=False) & ~splits["right"].str.contains("+", regex=False)]
    assert len(pairs) == 3
    for row in pairs.itertuples():
        for side, n_markers, markers in (
            (row.left, row.n_markers_left, row.markers_left),
            (row.right, row.n_markers_right, row.markers_right),
        ):
            own = {f"GENE{20 * int(types[side]) + at}" for at in range(20)}
            assert 15 <= n_markers <= 25
            assert set(markers.split(", ")) <= own


def test_one_cluster_has_no_tree():
    adata = counts(1, n_cells=120)
    cm.tl.cluster(adata, **PLAIN, n_clusters=1)
    assert "tree" not in adata.uns["cellmodel"]
    assert not [name for name in adata.obs if "level" in name]


def test_noise_that_is_cut_has_no_support():
    adata = counts(1, n_cells=300)
    cm.tl.cluster(adata, **PLAIN, n_clusters=4)
    assert (adata.uns["cellmodel"]["tree"]["splits"]["support"] < 0.15).all()


def test_levels_of_an_earlier_run_go():
    adata = counts(6)
    cm.tl.cluster(adata, **PLAIN, n_clusters=6)
    cm.tl.cluster(adata, **PLAIN, n_clusters=2, overwrite=True)
    assert [name for name in adata.obs if "level" in name] == ["cellmodel_level_1"]


@pytest.mark.slow
def test_a_higher_resolution_gives_more_clusters():
    adata = counts(6)
    found = []
    for resolution in (0.5, 4.0, 16.0):
        cm.tl.cluster(adata, **PLAIN, resolution=resolution, overwrite=True)
        record = adata.uns["cellmodel"]
        found.append(adata.obs["cellmodel"].nunique())
        assert f"resolution {resolution:g}" in record["n_clusters"]["method"]
        assert record["params"]["resolution"] == resolution
    assert found[0] < found[1] < found[2]
    assert found[0] == 6
    with pytest.raises(ValueError, match="`n_clusters` and `resolution` each say"):
        cm.tl.cluster(adata, **PLAIN, resolution=1.0, n_clusters=3)
    with pytest.raises(ValueError, match="`resolution` must be a number > 0, got -1"):
        cm.tl.cluster(adata, **PLAIN, resolution=-1)


def test_a_cluster_is_clustered_again_and_the_others_stay():
    adata = counts(6)
    cm.tl.cluster(adata, **PLAIN, n_clusters=3)
    before = adata.obs["cellmodel"].astype(str)
    cm.tl.cluster(adata, **PLAIN, n_clusters=2, within="cellmodel=1", key_added="finer")
    finer = adata.obs["finer"]
    assert list(finer.cat.categories) == ["0", "1.0", "1.1", "2"]
    assert (finer[before != "1"].astype(str) == before[before != "1"]).all()
    assert adata.obs.groupby("finer", observed=True)["type"].nunique().to_dict() == {"0": 2, "1.0": 1, "1.1": 1, "2": 2}
    record = adata.uns["finer"]
    assert record["n_clusters"]["method"] == "cellmodel=1 clustered again: given"
    assert set(record["markers"]["cluster"]) == set(finer.cat.categories)
    splits = record["tree"]["splits"]
    assert ("1.0", "1.1") in set(zip(splits["left"], splits["right"], strict=True))
    assert (adata.obs["cellmodel"].astype(str) == before).all()
    cm.tl.cluster(adata, **PLAIN, n_clusters=4, within="cellmodel=2, 0", overwrite=True)
    assert list(adata.obs["cellmodel"].cat.categories) == ["2,0.0", "2,0.1", "2,0.2", "2,0.3", "1"]


@pytest.mark.parametrize(
    ("within", "message"),
    [
        ("tipe=1", r"has no column 'tipe' in obs .*did you mean 'type'"),
        ("type=9", r"obs\['type'\] has no cluster '9' \(there are: 0, 1"),
        ("small=b", "small=b holds 4 cells, and 10 are needed"),
        ("some=a", r"300 of 360 cells of .* have no some"),
    ],
)
def test_what_cannot_be_clustered_again_is_refused(within, message):
    adata = counts(6)
    adata.obs["small"] = ["b"] * 4 + ["a"] * 356
    adata.obs["some"] = ["a"] * 60 + [None] * 300
    with pytest.raises(InputUnusable, match=message):
        cm.tl.cluster(adata, **PLAIN, within=within)


def test_within_without_a_cluster_is_wrong_usage():
    with pytest.raises(ValueError, match="`within` names a column of obs and its clusters, such as cellmodel=3"):
        cm.tl.cluster(counts(6), **PLAIN, within="type")


@pytest.mark.slow
def test_cells_without_structure_are_clustered_with_a_note(caplog):
    adata = counts(1, n_cells=400)
    adata.obs["all"] = "x"
    with caplog.at_level(logging.INFO, logger="cellmodel"):
        cm.tl.cluster(adata, **PLAIN, within="all=x", resolution=1.5)
    assert len(adata.obs["cellmodel"].cat.categories) > 1
    assert "all=x: the clusters are no better separated than those of data without structure" in caplog.text


@pytest.mark.slow
def test_support_on_real_cells(real_data):
    blood = read_anndata(real_data / "scrna" / "pbmc3k.h5ad")
    cm.tl.cluster(blood, knowledge="none", n_clusters=8)
    b_cells = blood.obs["cellmodel"][blood.obs["cell_type"] == "B"].mode()[0]
    splits = blood.uns["cellmodel"]["tree"]["splits"]
    of_b = splits[(splits["left"] == b_cells) | (splits["right"] == b_cells)]
    assert of_b["support"].item() > 0.7
    lines = read_anndata(real_data / "scrna" / "mixology_celseq2_5cl.h5ad")
    lines.var_names_make_unique()
    for line in lines.obs["cell_type"].unique():
        one = lines[lines.obs["cell_type"] == line].copy()
        cm.tl.cluster(one, knowledge="none", n_clusters=2)
        assert one.uns["cellmodel"]["tree"]["splits"]["support"].item() < 0.3
