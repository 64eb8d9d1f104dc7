"""Batches: read, integrated and reported by runs in memory and out of core, and an embedding of the user's own."""

import logging
from dataclasses import replace

import anndata
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

import cellmodel as cm
from cellmodel.core.config import BatchConfig, PreprocessConfig, RunConfig
from cellmodel.core.errors import InputUnusable, UnknownName
from cellmodel.io.cells import cells_from_anndata
from cellmodel.pp.integrate import map_to_reference
from cellmodel.tl._run.pipeline import run
from cellmodel.tl.model.fitted import check_can_predict, fit_model, load_model, predict, save_model
from tests.support.batches import two_protocols
from tests.support.grids import mostly_slow
from tests.support.in_process import call, call_json

PLAIN = RunConfig(recipe="pca-kmeans", knowledge="none", n_words=0, n_clusters=3)
KEYED = replace(PLAIN, batch=BatchConfig(key="batch"))


def clustered(adata, config):
    return run(cells_from_anndata(adata), None, config)


def test_clusters_are_kinds_of_cells_and_batches_are_mixed_in_them():
    adata = two_protocols()
    keyed = clustered(adata, KEYED)
    assert adjusted_rand_score(adata.obs["kind"], keyed.labels) > 0.95
    whole, *rows = keyed.mixing
    assert whole.cluster == "all"
    assert whole.n_cells == sum(row.n_cells for row in rows) == adata.n_obs
    assert whole.before > 0.85 > whole.after + 0.1 > whole.if_mixed


@pytest.mark.parametrize("recipe", ["fused", "pca-kmeans"])
def test_the_order_of_the_cells_does_not_matter(recipe):
    adata = two_protocols(n_cells=120)
    order = np.random.default_rng(0).permutation(adata.n_obs)
    config = replace(KEYED, recipe=recipe)
    first, second = (clustered(each, config) for each in (adata, adata[order].copy()))
    np.testing.assert_allclose(second.features.pcs, first.features.pcs[order], atol=2e-3)
    assert adjusted_rand_score(first.labels[order], second.labels) == 1


def test_a_lower_theta_leaves_batches_further_apart():
    low, high = (clustered(two_protocols(), replace(KEYED, batch=BatchConfig(key="batch", theta=n))) for n in (0, 2))
    assert low.mixing[0].after > high.mixing[0].after + 0.02
    assert high.config == KEYED
    for wrong in (-1, 1e308, np.inf, np.nan):
        with pytest.raises(ValueError, match=r"theta must be in \[0, 1000\]"):
            BatchConfig(key="batch", theta=wrong)
    assert np.isfinite(
        clustered(two_protocols(), replace(KEYED, batch=BatchConfig(key="batch", theta=1000))).mixing[0].after
    )


def test_integration_none_keeps_the_components_and_reports_the_batches(caplog):
    adata = two_protocols()
    plain = clustered(adata, PLAIN)
    none = BatchConfig(key="batch", integration="none")
    with caplog.at_level(logging.INFO):
        keyed = clustered(adata, replace(PLAIN, n_clusters=6, batch=none))
    np.testing.assert_array_equal(keyed.features.pcs, plain.features.pcs)
    assert keyed.mixing[0].before is None
    assert "6 clusters nearly of one batch alone: 0 (98% b1), 1 (100% b1)" in caplog.text


def test_a_key_of_one_batch_changes_nothing_and_is_said(caplog):
    adata = two_protocols()
    adata.obs["batch"] = "one"
    plain, keyed = (clustered(adata, config) for config in (PLAIN, KEYED))
    np.testing.assert_array_equal(keyed.features.pcs, plain.features.pcs)
    np.testing.assert_array_equal(keyed.labels, plain.labels)
    assert "'batch' names one batch, 'one': nothing is integrated" in caplog.text


def test_a_batch_of_three_cells_is_integrated_and_chooses_no_genes(caplog):
    adata = two_protocols()
    adata.obs["batch"] = ["few"] * 3 + adata.obs["batch"].tolist()[3:]
    found = clustered(adata, replace(KEYED, preprocess=PreprocessConfig(n_top_genes=60)))
    assert adjusted_rand_score(adata.obs["kind"], found.labels) > 0.95
    assert "1 batch of fewer than 30 cells (few): highly variable genes are chosen without them" in caplog.text


def test_five_hundred_batches_are_integrated():
    adata = two_protocols(n_cells=2_000, n_genes=40)
    adata.obs["batch"] = np.arange(2_000) % 500
    found = clustered(adata, KEYED)
    assert len(found.features.batches.names) == 500
    assert found.mixing[0].if_mixed == pytest.approx(1 / 500, abs=0.01)


def test_an_embedding_of_the_users_takes_the_place_of_the_components():
    adata = two_protocols()
    rng = np.random.default_rng(0)
    kinds = adata.obs["kind"].astype("category").cat.codes.to_numpy()
    adata.obsm["X_scVI"] = (np.eye(10)[kinds] * 5 + rng.standard_normal((adata.n_obs, 10))).astype(np.float32)
    found = cm.tl.cluster(adata, knowledge="none", n_clusters=3, use_rep="X_scVI", batch_key="batch", copy=True)
    assert adjusted_rand_score(adata.obs["kind"], found.obs["cellmodel"]) == 1
    record = found.uns["cellmodel"]
    assert record["params"]["use_rep"] == "X_scVI"
    assert record["batches"]["integration"] == "none"
    assert len(record["markers"])
    asked = BatchConfig(key="batch", integration="harmony")
    found = cm.tl.cluster(adata, knowledge="none", n_clusters=3, use_rep="X_scVI", batch_key=asked, copy=True)
    assert found.uns["cellmodel"]["batches"]["integration"] == "harmony"


def test_embeddings_that_cannot_be_used_are_refused():
    adata = two_protocols()
    adata.obsm["X_scVI"] = np.ones((adata.n_obs, 5))
    adata.obsm["X_scVI"][:4, 2] = np.nan
    adata.obsm["X_large"] = np.full((adata.n_obs, 5), 1e30, dtype=np.float32)
    adata.obsm["X_one"] = np.ones((adata.n_obs, 1))
    for key, message in (
        ("X_scvi", r"no obsm\['X_scvi'\] \(it has: X_scVI, X_large, X_one; did you mean 'X_scVI'\?\)"),
        ("X_scVI", r"obsm\['X_scVI'\] of AnnData in memory is NaN or infinite for 4 cells"),
        ("X_large", r"holds 1e\+30, and distances between values above 1e\+15 overflow"),
        ("X_one", r"has shape \(240, 1\) and type float64; two or more numbers a cell are needed"),
    ):
        with pytest.raises(InputUnusable, match=message):
            cm.tl.embed(adata, knowledge="none", use_rep=key)


@pytest.mark.parametrize("n_top_genes", mostly_slow([20, 2000], 20))
def test_batches_that_do_not_differ_change_no_gene_and_no_component(caplog, n_top_genes):
    adata, chosen = two_protocols(effect=0), PreprocessConfig(n_top_genes=n_top_genes)
    plain = clustered(adata, replace(PLAIN, preprocess=chosen))
    with caplog.at_level(logging.INFO):
        keyed = clustered(adata, replace(KEYED, preprocess=chosen))
    np.testing.assert_array_equal(keyed.features.top_genes, plain.features.top_genes)
    np.testing.assert_array_equal(keyed.features.pcs, plain.features.pcs)
    np.testing.assert_array_equal(keyed.labels, plain.labels)
    assert "batches are mixed as they are" in caplog.text


def test_a_model_places_cells_of_a_new_batch(tmp_path):
    adata = two_protocols(n_cells=600, n_batches=3)
    is_new = adata.obs["batch"] == "b2"
    fitted = cells_from_anndata(adata[~is_new].copy())
    save_model(fit_model(fitted, run(fitted, None, KEYED)), tmp_path / "model")
    model, new = load_model(tmp_path / "model"), cells_from_anndata(adata[is_new].copy())
    assert model.config.batch == BatchConfig(key="batch")
    found = predict(model, new, None)
    assert adjusted_rand_score(adata.obs["kind"][is_new], found.labels) > 0.95
    unmoved = replace(model, config=replace(model.config, batch=None))
    nearer, farther = (np.mean(each.representation.z_expr, axis=0) for each in (found, predict(unmoved, new, None)))
    assert np.linalg.norm(nearer - model.pcs.mean(axis=0)) < np.linalg.norm(farther - model.pcs.mean(axis=0))
    np.testing.assert_array_equal(predict(model, new, None, batch_key="batch").labels, found.labels)
    with pytest.raises(InputUnusable, match="the model was fitted without batches; leave `batch_key` out"):
        predict(unmoved, new, None, batch_key="batch")
    with pytest.raises(InputUnusable, match=r"no column 'sample' in obs"):
        predict(model, new, None, batch_key="sample")


def test_cells_of_the_reference_stay_where_they_are_when_mapped():
    rng = np.random.default_rng(0)
    reference = (rng.standard_normal((300, 6)) + 5 * np.eye(6)[rng.integers(0, 3, 300)]).astype(np.float32)
    batches = rng.integers(0, 2, 300)
    shifts = rng.standard_normal((2, 6)).astype(np.float32)
    mapped = map_to_reference(reference + shifts[batches], batches, reference)
    assert np.linalg.norm(mapped - reference, axis=1).mean() < 0.35 * np.linalg.norm(shifts[batches], axis=1).mean()
    np.testing.assert_allclose(map_to_reference(reference, batches, reference), reference, atol=0.5)


def test_an_embedding_of_the_users_has_no_model():
    with pytest.raises(InputUnusable, match="a model fitted with `use_rep` cannot place new cells"):
        check_can_predict(replace(PLAIN, use_rep="X_scVI"))


@pytest.mark.parametrize("recipe", mostly_slow(["fused", "pca-leiden"], "fused"))
def test_out_of_core_is_the_same(tmp_path, recipe):
    two_protocols().write_h5ad(tmp_path / "c.h5ad")
    shared = [tmp_path / "c.h5ad", "--knowledge", "none", "--n-clusters", "3", "--batch-key", "batch", "--recipe"]
    found = []
    for mode in ("no", "yes"):
        out = tmp_path / f"{mode}.h5ad"
        content = call_json("cellmodel", "cluster", *shared, recipe, "-o", out, "--out-of-core", mode)
        stored = anndata.read_h5ad(out)
        found.append((stored.obs["cellmodel"], content["batches"], stored.obsm["X_cellmodel_expr"]))
    (labels, batches, z), (other_labels, other_batches, other_z) = found
    assert adjusted_rand_score(labels, other_labels) == 1
    assert batches == other_batches
    np.testing.assert_allclose(z, other_z, atol=1e-3)


def test_an_embedding_is_read_out_of_core(tmp_path):
    adata = two_protocols()
    kinds = adata.obs["kind"].astype("category").cat.codes.to_numpy()
    adata.obsm["X_mine"] = (5 * np.eye(4)[kinds] + np.random.default_rng(0).standard_normal((240, 4))).astype(
        np.float32
    )
    adata.write_h5ad(tmp_path / "c.h5ad")
    shared = ["cluster", tmp_path / "c.h5ad", "--knowledge", "none", "--n-clusters", "3", "--use-rep", "X_mine"]
    call_json("cellmodel", *shared, "--out-of-core", "yes", "-o", tmp_path / "o.h5ad")
    stored = anndata.read_h5ad(tmp_path / "o.h5ad")
    assert adjusted_rand_score(stored.obs["kind"], stored.obs["cellmodel"]) == 1
    assert stored.obsm["X_mine"].shape == (240, 4)


def test_settings_that_exclude_one_another_are_refused():
    with pytest.raises(ValueError, match="`low_data` weighs genes in the components, which `use_rep` replaces"):
        RunConfig(low_data=True, use_rep="X_scVI")
    with pytest.raises(UnknownName, match="integration 'harmny' is not one of harmony, none; did you mean 'harmony'"):
        clustered(two_protocols(), RunConfig(knowledge="none", batch=BatchConfig(key="batch", integration="harmny")))


def test_the_command_reports_and_records_the_batches(tmp_path):
    two_protocols().write_h5ad(tmp_path / "c.h5ad")
    shared = ["cluster", tmp_path / "c.h5ad", "--knowledge", "none", "--n-clusters", "3", "--batch-key", "batch"]
    content = call_json("cellmodel", *shared, "-o", tmp_path / "a.h5ad")
    batches = content["batches"]
    assert (batches["key"], batches["integration"]) == ("batch", "harmony")
    assert sum(batches["n_cells"].values()) == content["n_cells"]
    assert [row["cluster"] for row in batches["neighbors"]] == ["all", "0", "1", "2"]
    assert batches["neighbors"][0]["before"] > 0.85 > batches["neighbors"][0]["after"]
    stored = anndata.read_h5ad(tmp_path / "a.h5ad").uns["cellmodel"]
    assert stored["params"]["batch"]["key"] == "batch"
    assert stored["batches"]["neighbors"]["after"].tolist() == pytest.approx(
        [row["after"] for row in batches["neighbors"]], abs=1e-4
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--integration", "harmony"], "--integration goes with --batch-key, the column of obs with the batches"),
        (["--harmony-theta", "3"], "--harmony-theta goes with --batch-key"),
        (["--batch-key", "batch", "--integration", "none", "--harmony-theta", "3"], "a setting of Harmony"),
        (["--batch-key", "batch", "--integration", "scvi"], "integration 'scvi' is not one of harmony, none"),
        (["--low-data", "--use-rep", "X_scVI"], "--low-data weighs genes in the components, which --use-rep replaces"),
        (["--batch-key", "batches"], "has no column 'batches' in obs (it has: batch, kind; did you mean 'batch'?)"),
    ],
)
def test_the_command_refuses_keys_and_options_that_cannot_be_used(tmp_path, options, message):
    two_protocols(n_cells=30).write_h5ad(tmp_path / "c.h5ad")
    code, _, errors = call(
        "cellmodel",
        "cluster",
        "--no-clusters",
        tmp_path / "c.h5ad",
        "--knowledge",
        "none",
        "-o",
        tmp_path / "o.h5ad",
        *options,
    )
    assert code in {2, 3}
    assert message in errors.replace("\n", " ")
    assert not (tmp_path / "o.h5ad").exists()
