"""Labels absent, present or shuffled: the results are the same bytes."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

import cellmodel as cm
from cellmodel.core.config import RunConfig, TrainingConfig
from cellmodel.io.cells import cells_from_anndata
from cellmodel.recipes.graph_training import BY_CELL, BY_PAIR
from cellmodel.recipes.registry import BUILT_IN, find_recipe
from cellmodel.tl._run.pipeline import prepare
from tests.support.demo import variable_demo_cells


@pytest.fixture(scope="module")
def kb(demo_kb):
    return demo_kb


@pytest.fixture(scope="module")
def cells():
    return variable_demo_cells()


def result_bytes(adata):
    words = adata.uns["cellmodel"]["words"]
    return (
        adata.obs["cellmodel"].astype(str).str.cat(sep=","),
        adata.obs["cellmodel_confidence"].to_numpy().tobytes(),
        adata.obsm["X_cellmodel"].tobytes(),
        adata.obsm.get("X_cellmodel_text", np.empty(0)).tobytes(),
        adata.obsm.get("X_cellmodel_joint", np.empty(0)).tobytes(),
        adata.uns["cellmodel"]["history"].to_csv(),
        words.to_csv(),
        adata.uns["cellmodel"]["markers"].to_csv(),
    )


@pytest.fixture(scope="module")
def some_cells(cells):
    """Fewer of them, for recipes that are trained."""
    return cells[::8].copy()


FEW_EPOCHS = RunConfig(training=TrainingConfig(epochs=20))
IN_THE_QUICK_RUN = {"fused", "pca-kmeans", "scllm-dsc"}
RECIPES = [
    recipe if recipe in IN_THE_QUICK_RUN else pytest.param(recipe, marks=pytest.mark.slow) for recipe in BUILT_IN
]


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
        cm.tl.cluster(adata, kb, recipe=recipe, n_clusters=5, config=FEW_EPOCHS)
        found.append(result_bytes(adata))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("recipe", ["fused", pytest.param("scllm-dsc", marks=pytest.mark.slow), *RECIPES[2:]])
def test_permuting_the_cells_permutes_what_a_recipe_makes_of_them(some_cells, kb, recipe):
    views = prepare(cells_from_anndata(some_cells.copy()), kb, RunConfig(recipe=recipe, n_clusters=5)).views
    order = np.random.default_rng(1).permutation(some_cells.n_obs)
    straight, permuted = (find_recipe(recipe).represent(each, 0) for each in (views, reordered(views, order)))
    joint = ("z_joint",) if straight.z_joint is not None else ()
    for name in ("z", "features", *joint):
        before, after = getattr(straight, name)[order], getattr(permuted, name)
        assert np.abs(before - after).max() < 0.02 * before.std(), name


def reordered(views, order):
    by_cell = {name: getattr(views, name)[order] for name in BY_CELL if getattr(views, name) is not None}
    by_pair = {name: getattr(views, name)[order][:, order] for name in BY_PAIR if getattr(views, name) is not None}
    return replace(views, **by_cell, **by_pair, text_paths=tuple(path[order] for path in views.text_paths))


@pytest.mark.slow
def test_permuting_the_cells_permutes_the_result_up_to_rounding(some_cells, kb):
    order = np.random.default_rng(1).permutation(some_cells.n_obs)
    straight, permuted = some_cells.copy(), some_cells[order].copy()
    for adata in (straight, permuted):
        cm.tl.cluster(adata, kb, n_clusters=5)
    assert adjusted_rand_score(straight.obs["cellmodel"].to_numpy()[order], permuted.obs["cellmodel"]) > 0.99
    difference = np.abs(straight.obsm["X_cellmodel_expr"][order] - permuted.obsm["X_cellmodel_expr"])
    assert difference.max() < 1e-2 * straight.obsm["X_cellmodel_expr"].std()


def test_copy_leaves_the_input_alone(cells, kb):
    before = set(cells.obsm)
    result = cm.tl.embed(cells, kb, copy=True)
    assert set(cells.obsm) == before
    assert "X_cellmodel" in result.obsm
    assert cm.tl.embed(cells.copy(), kb) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "knowledge",
    ["shuffled", pytest.param("random", marks=pytest.mark.slow), pytest.param("none", marks=pytest.mark.slow)],
)
def test_knowledge_changes_the_text_view_and_never_the_embedding_or_clusters_of_fused(some_cells, kb, knowledge):
    real, control = some_cells.copy(), some_cells.copy()
    cm.tl.cluster(real, kb)
    cm.tl.cluster(control, kb, knowledge=knowledge)
    assert (real.obs["cellmodel"] == control.obs["cellmodel"]).all()
    np.testing.assert_array_equal(real.obsm["X_cellmodel"], control.obsm["X_cellmodel"])
    if knowledge == "none":
        assert not {"X_cellmodel_text", "X_cellmodel_joint"} & set(control.obsm)
    else:
        assert not np.allclose(real.obsm["X_cellmodel_text"], control.obsm["X_cellmodel_text"], atol=0.05)
