"""A fitted model: kept, read back, refused where it does not belong, and right about cells that it never saw."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

import genekb
from cellmodel.core.config import RunConfig, SemanticsConfig, SpatialConfig
from cellmodel.core.errors import AlignmentTooLow, InputUnusable, LineageMismatch
from cellmodel.io.cells import cells_from_anndata
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.recipes.registry import find_recipe, plugins, recipe_names
from cellmodel.tl._run.pipeline import run
from cellmodel.tl.model.fitted import check_can_predict, fit_model, load_model, predict, save_model
from genekb.builder.update import add_encoders
from genekb.encoders import load_encoder
from tests.support.demo import demo_cells, demo_file
from tests.support.grids import mostly_slow
from tests.support.in_process import call, call_json

GRAPH_RECIPES = ("scllm-dsc", "scsiameseclu", "scrcl", "scrcl-text")
SLOW = [pytest.param(recipe, marks=pytest.mark.slow) for recipe in GRAPH_RECIPES[1:]]
RECIPES = ("fused", "lowsample", "pca-kmeans", "pca-leiden", "genept-w", "genept-s", *GRAPH_RECIPES)


@pytest.fixture(scope="module")
def home(demo_home):
    return demo_home


@pytest.fixture(scope="module")
def kb(demo_kb):
    return demo_kb


@pytest.fixture(scope="module")
def halves():
    """Cells to fit to and others to predict: the demo's, dealt out."""
    adata = demo_cells()
    order = np.random.default_rng(0).permutation(adata.n_obs)
    return adata[order[:400]].copy(), adata[order[400:]].copy()


@pytest.fixture(scope="module")
def fitted(halves, kb):
    cells = cells_from_anndata(halves[0].copy())
    result = run(cells, kb, RunConfig(n_words=0))
    return fit_model(cells, result), result


@pytest.fixture(scope="module")
def fit(halves, kb):
    """Fit a recipe to the first half, once."""

    @cache
    def fit(recipe):
        cells = cells_from_anndata(halves[0].copy())
        result = run(cells, kb, RunConfig(recipe=recipe, n_words=0, n_clusters=None if recipe == "pca-leiden" else 6))
        return fit_model(cells, result), result

    return fit


def test_every_built_in_recipe_is_tried_here():
    assert set(recipe_names()) - set(plugins()) == set(RECIPES)


@pytest.mark.parametrize(
    "recipe",
    mostly_slow(RECIPES, "fused", "pca-kmeans", "scllm-dsc"),
)
def test_fitted_cells_keep_their_clusters_and_places(fit, halves, kb, recipe):
    model, result = fit(recipe)
    found = predict(model, cells_from_anndata(halves[0].copy()), kb)
    assert (found.labels == result.labels).mean() > 0.95
    spread = result.representation.z.std()
    assert np.abs(found.representation.z - result.representation.z).mean() < 0.25 * spread
    assert found.share_genes == 1


def test_components_of_fitted_cells_are_found_again(fitted, halves, kb):
    model, result = fitted
    found = predict(model, cells_from_anndata(halves[0].copy()), kb)
    leading = np.abs(result.features.pcs[:, :10]).max()
    projected = (result.features.expression - model.mean) @ model.components
    np.testing.assert_allclose(np.asarray(projected)[:, :10], result.features.pcs[:, :10], atol=1e-3 * leading)
    np.testing.assert_allclose(found.representation.z_text, result.representation.z_text, atol=1e-3)


def test_new_cells_get_the_clusters_that_they_have_among_all_cells(fitted, halves, kb):
    model, _ = fitted
    new = cells_from_anndata(halves[1].copy())
    found = predict(model, new, kb)
    alone = run(new, kb, RunConfig(n_words=0, n_clusters=int(model.labels.max()) + 1))
    assert adjusted_rand_score(found.labels, alone.labels) > 0.6
    truth = halves[1].obs["bulk_labels"].astype(str)
    assert adjusted_rand_score(truth, found.labels) > 0.8 * adjusted_rand_score(truth, alone.labels)


@pytest.mark.parametrize("recipe", mostly_slow(GRAPH_RECIPES, "scllm-dsc"))
def test_new_cells_are_placed_by_type_as_well_as_by_the_default_recipe(fit, halves, kb, recipe):
    new, truth = cells_from_anndata(halves[1].copy()), halves[1].obs["bulk_labels"].astype(str)
    scores = [adjusted_mutual_info_score(truth, predict(fit(name)[0], new, kb).labels) for name in ("fused", recipe)]
    assert scores[1] > scores[0] - 0.1


@pytest.mark.parametrize("recipe", mostly_slow(["fused", *GRAPH_RECIPES], "fused", "scllm-dsc"))
def test_a_cell_is_placed_alike_alone_and_among_others(fit, halves, kb, recipe):
    model, _ = fit(recipe)
    together = predict(model, cells_from_anndata(halves[1].copy()), kb)
    alone = predict(model, cells_from_anndata(halves[1][7:8].copy()), kb)
    assert alone.labels[0] == together.labels[7]
    np.testing.assert_allclose(alone.representation.z[0], together.representation.z[7], atol=1e-5)


@pytest.mark.parametrize("recipe", ["fused", GRAPH_RECIPES[0], *SLOW])
def test_a_model_read_back_predicts_the_same_bytes(fit, halves, kb, tmp_path, recipe):
    model, _ = fit(recipe)
    save_model(model, tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["arrays.safetensors", "model.json"]
    again = load_model(tmp_path / "model")
    new = cells_from_anndata(halves[1].copy())
    first, second = predict(model, new, kb), predict(again, new, kb)
    assert again.config == model.config
    assert (first.labels == second.labels).all()
    assert first.representation.z.tobytes() == second.representation.z.tobytes()


@pytest.mark.parametrize("recipe", ["fused", GRAPH_RECIPES[0], *SLOW])
@pytest.mark.parametrize(("share", "works"), [(0.7, True), (0.4, False)])
def test_missing_genes_are_taken_at_their_mean_up_to_a_limit(fit, halves, kb, recipe, share, works):
    model, _ = fit(recipe)
    rng = np.random.default_rng(1)
    kept = rng.permutation(halves[1].n_vars)[: int(share * halves[1].n_vars)]
    cells = cells_from_anndata(halves[1][:, kept].copy())
    if not works:
        with pytest.raises(AlignmentTooLow, match="genes of the model"):
            predict(model, cells, kb)
        return
    found = predict(model, cells, kb)
    whole = predict(model, cells_from_anndata(halves[1].copy()), kb)
    assert 0.6 < found.share_genes < 0.8
    assert adjusted_rand_score(found.labels, whole.labels) > 0.6


def test_another_store_is_refused(fitted, halves, tmp_path):
    config = genekb.BuildConfig(name="demo", models=("hash-32",))
    other = genekb.open(genekb.build(genekb.read_demo_table(), config, home=tmp_path).folder)
    new = cells_from_anndata(halves[1].copy())
    with pytest.raises(LineageMismatch, match="fitted with store demo"):
        predict(fitted[0], new, other)
    with pytest.raises(LineageMismatch, match=f"none was given; give kb=.{fitted[0].lineage.store_id[-16:]}"):
        predict(fitted[0], new, None)


@pytest.mark.parametrize("is_older", [False, True], ids=["today's model", "one without a content id"])
def test_a_store_that_gained_an_encoder_opens_the_model(fitted, halves, kb, home, tmp_path, monkeypatch, is_older):
    monkeypatch.setenv("GENEKB_HOME", str(home))
    longer = genekb.open(add_encoders(kb, ["hash-8"], load=load_encoder, home=tmp_path).folder)
    model = replace(fitted[0], lineage=replace(fitted[0].lineage, content_id="")) if is_older else fitted[0]
    save_model(model, tmp_path / "model")
    cells = cells_from_anndata(halves[1].copy())
    found = predict(load_model(tmp_path / "model"), cells, longer)
    assert (found.labels == predict(model, cells, kb).labels).all()


def simulated(n_cells=400, n_genes=200, n_types=4):
    """Counts of types of cells, each with some genes of its own."""
    rng = np.random.default_rng(0)
    types = rng.integers(0, n_types, n_cells)
    rates = rng.gamma(1.0, 1.0, n_genes) * np.where(rng.random((n_types, n_genes)) < 0.15, 6.0, 1.0)
    return AnnData(sp.csr_matrix(rng.poisson(rates[types]).astype(np.float32))), types


@pytest.mark.parametrize("recipe", mostly_slow(["scllm-dsc", "scsiameseclu", "scrcl"], "scllm-dsc"))
def test_without_knowledge_held_out_cells_get_the_cluster_of_their_type(recipe):
    adata, types = simulated()
    adata.var_names = [f"gene {row}" for row in range(adata.n_vars)]
    cells, new = cells_from_anndata(adata[:200].copy()), cells_from_anndata(adata[200:].copy())
    result = run(cells, None, RunConfig(recipe=recipe, knowledge="none", n_words=0, n_clusters=4))
    found = predict(fit_model(cells, result), new, None)
    assert adjusted_rand_score(types[200:], found.labels) > 0.95
    assert found.representation.z_text is None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"recipe": replace(find_recipe("scrcl"), name="own", embed=None)}, "'own' has no way to place new cells; use"),
        (
            {"recipe": "scrcl", "spatial": SpatialConfig()},
            "fitted with spatial=True cannot place cells of other tissue",
        ),
        ({"recipe": "fused", "semantics": SemanticsConfig(sentences="encoded")}, "sentences=.encoded. cannot place"),
    ],
)
def test_what_cannot_place_new_cells_says_so(settings, says):
    with pytest.raises(InputUnusable, match=says):
        check_can_predict(RunConfig(**settings))


def test_a_spatial_model_is_refused_before_any_work(home, tmp_path):
    args = ["cluster", demo_file(), "--kb", "demo", "--home", home, "--recipe", "scrcl", "--spatial"]
    code, _, err = call("cellmodel", *args, "-o", tmp_path / "o.h5ad", "--save-model", tmp_path / "model")
    assert (code, "cannot place cells of other tissue" in err) == (3, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_commands_fit_keep_and_predict(kb, home, halves, tmp_path):
    halves[0].write_h5ad(tmp_path / "first.h5ad")
    halves[1].write_h5ad(tmp_path / "second.h5ad")
    shared = ["--kb", "demo", "--home", home]
    model = tmp_path / "model"
    made = call_json(
        "cellmodel", "cluster", tmp_path / "first.h5ad", *shared, "-o", tmp_path / "a.h5ad", "--save-model", model
    )
    told = call_json(
        "cellmodel", "predict", tmp_path / "second.h5ad", *shared, "--model", model, "-o", tmp_path / "b.h5ad"
    )
    assert [row["n_fitted"] for row in told["clusters"]] == [row["n_cells"] for row in made["clusters"]]
    written = read_anndata(tmp_path / "b.h5ad")
    assert written.obs["cellmodel"].value_counts().to_dict() == {
        row["cluster"]: row["n_cells"] for row in told["clusters"]
    }
    for key in ("X_cellmodel", "X_cellmodel_joint"):
        fitted = read_anndata(tmp_path / "a.h5ad").obsm[key]
        assert written.obsm[key].shape == (halves[1].n_obs, fitted.shape[1])
    assert written.uns["cellmodel"]["store_id"] == kb.store_id
    again = ["predict", tmp_path / "second.h5ad", *shared, "--model", model, "-o", tmp_path / "b.h5ad"]
    assert call("cellmodel", *again)[0] == 3
    assert call("cellmodel", *again, "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("fitted_by", "named"), [("scllm-dsc", "fused"), ("fused", "scllm-dsc"), ("scrcl", "pca-kmeans")]
)
def test_a_description_that_names_another_recipe_is_damage(fit, halves, kb, fitted_by, named):
    model, _ = fit(fitted_by)
    other = replace(model, config=replace(model.config, recipe=named))
    with pytest.raises(LineageMismatch, match=f"is damaged: it has no .* of recipe '{named}'; fit it again"):
        predict(other, cells_from_anndata(halves[1].copy()), kb)


def test_a_damaged_model_is_refused_and_another_folder_is_never_replaced(fitted, tmp_path):
    folder = tmp_path / "model"
    save_model(fitted[0], folder)
    with pytest.raises(InputUnusable, match="exists"):
        save_model(fitted[0], folder)
    arrays = folder / "arrays.safetensors"
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 1
    arrays.write_bytes(content)
    with pytest.raises(LineageMismatch, match="not the file that was written"):
        load_model(folder)
    save_model(fitted[0], folder, overwrite=True)
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | {"format": 99}))
    with pytest.raises(InputUnusable, match="format 99"):
        load_model(folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(InputUnusable, match="folder of other files"):
        save_model(fitted[0], tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
