"""Labels absent, present or shuffled: the results are the same bytes."""

import numpy as np
import pytest

import cellmodel as cm
import genekb
from cellmodel.demo import find_demo_cells
from cellmodel.readers import read_anndata
from cellmodel.recipes.registry import RECIPES


@pytest.fixture(scope="module")
def kb(tmp_path_factory):
    config = genekb.BuildConfig(name="demo", models=("lsa-32",))
    return genekb.open(genekb.build(genekb.read_demo_table(), config, home=tmp_path_factory.mktemp("home")).folder)


@pytest.fixture(scope="module")
def cells():
    return read_anndata(find_demo_cells())


def result_bytes(adata):
    words = adata.uns["cellmodel"]["words"]
    return (
        adata.obs["cellmodel"].astype(str).str.cat(sep=","),
        adata.obs["cellmodel_confidence"].to_numpy().tobytes(),
        adata.obsm["X_cellmodel"].tobytes(),
        adata.obsm.get("X_cellmodel_text", np.empty(0)).tobytes(),
        adata.uns["cellmodel"]["history"].to_csv(),
        words.to_csv(),
        adata.uns["cellmodel"]["markers"].to_csv(),
    )


@pytest.fixture(scope="module")
def some_cells(cells):
    """Fewer of them, for recipes that are trained."""
    return cells[::4].copy()


@pytest.mark.parametrize("recipe", RECIPES)
def test_labels_change_no_byte(some_cells, kb, recipe):
    cells = some_cells
    absent, present, shuffled = cells.copy(), cells.copy(), cells.copy()
    absent.obs = absent.obs[[]]
    absent.uns.clear()
    order = np.random.default_rng(0).permutation(cells.n_obs)
    for key in ("bulk_labels", "louvain", "phase"):
        shuffled.obs[key] = cells.obs[key].to_numpy()[order]
    found = []
    for adata in (absent, present, shuffled):
        cm.tl.cluster(adata, kb, recipe=recipe, n_clusters=5)
        found.append(result_bytes(adata))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("recipe", RECIPES)
def test_permuting_the_cells_permutes_the_embedding(some_cells, kb, recipe):
    order = np.random.default_rng(1).permutation(some_cells.n_obs)
    straight, permuted = some_cells.copy(), some_cells[order].copy()
    for adata in (straight, permuted):
        cm.tl.embed(adata, kb, recipe=recipe)
    for key, tolerance in (("X_cellmodel_expr", 1e-2), ("X_cellmodel", 0.05)):
        difference = np.abs(straight.obsm[key][order] - permuted.obsm[key])
        assert difference.mean() < tolerance * straight.obsm[key].std(), key


def test_copy_leaves_the_input_alone(cells, kb):
    before = set(cells.obsm)
    result = cm.tl.embed(cells, kb, copy=True)
    assert set(cells.obsm) == before
    assert "X_cellmodel" in result.obsm
    assert cm.tl.embed(cells.copy(), kb) is None


@pytest.mark.parametrize("knowledge", ["shuffled", "random", "none"])
def test_knowledge_changes_the_text_view_and_never_the_clusters_of_fused(cells, kb, knowledge):
    real, control = cells.copy(), cells.copy()
    cm.tl.cluster(real, kb)
    cm.tl.cluster(control, kb, knowledge=knowledge)
    assert (real.obs["cellmodel"] == control.obs["cellmodel"]).all()
    if knowledge == "none":
        assert "X_cellmodel_text" not in control.obsm
    else:
        assert not np.allclose(real.obsm["X_cellmodel_text"], control.obsm["X_cellmodel_text"], atol=0.05)
