"""The tree of a run: what is written of it, and what it says of noise."""

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.cluster.hierarchy import is_valid_linkage

import cellmodel as cm

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
