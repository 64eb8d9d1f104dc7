"""`cellmodel classify` on the demo cells: labels carried over, the n-shot protocol, one line for each mistake."""

import numpy as np
import pytest

from cellmodel.io.formats.anndata import read_anndata
from tests.support.demo import variable_demo_cells
from tests.support.in_process import call, call_json


@pytest.fixture(scope="module")
def home(demo_store):
    return demo_store("wcp-64").folder.parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A labeled half of the demo cells, and the other half."""
    folder = tmp_path_factory.mktemp("halves")
    adata = variable_demo_cells()
    order = np.random.default_rng(0).permutation(adata.n_obs)
    paths = {"reference": folder / "reference.h5ad", "query": folder / "query.h5ad"}
    adata[order[:350]].copy().write_h5ad(paths["reference"])
    adata[order[350:]].copy().write_h5ad(paths["query"])
    return paths


def arguments(files, home, output, **changed):
    options = {"reference": files["reference"], "label-key": "bulk_labels", "kb": "demo", "home": home} | changed
    return [files["query"], *(part for key, value in options.items() for part in (f"--{key}", value)), "-o", output]


@pytest.mark.parametrize("genes_by", ["ids", "text"])
def test_labels_are_carried_over_and_written(files, home, tmp_path, genes_by):
    output = tmp_path / "out.h5ad"
    content = call_json("cellmodel", "classify", *arguments(files, home, output, **{"genes-by": genes_by}))
    adata = read_anndata(output)
    key = content.get("key_added", "cellmodel_class")
    found = adata.obs[[name for name in adata.obs if name.startswith(key)]]
    labels, confidence = found.iloc[:, 0].astype(str), found.iloc[:, 1]
    given = labels != "unassigned"
    assert (labels[given] == adata.obs["bulk_labels"].astype(str)[given]).mean() > 0.6
    assert ((confidence >= adata.uns[key]["unassigned_below"]) == given).all()
    assert content["share_unassigned"] == pytest.approx(1 - given.mean(), abs=1e-4)


def test_genes_are_scaled_within_the_batches_of_the_side_that_has_the_key(files, home, tmp_path):
    reference = read_anndata(files["reference"])
    reference.obs["lane"] = np.arange(reference.n_obs) % 2
    reference.write_h5ad(tmp_path / "reference.h5ad")
    changed = {"reference": tmp_path / "reference.h5ad", "batch-key": "lane"}
    call_json("cellmodel", "classify", *arguments(files, home, tmp_path / "out.h5ad", **changed))
    adata = read_anndata(tmp_path / "out.h5ad")
    labels = adata.obs["cellmodel_class"].astype(str)
    given = labels != "unassigned"
    assert (labels[given] == adata.obs["bulk_labels"].astype(str)[given]).mean() > 0.6
    assert adata.uns["cellmodel_class"]["params"]["run"]["batch"]["key"] == "lane"
    code, _, errors = call(
        "cellmodel", "classify", *arguments(files, home, tmp_path / "o.h5ad", **{"batch-key": "lane"})
    )
    assert code != 0
    assert "has no column 'lane' in obs" in " ".join(errors.split())


def test_the_n_shot_protocol_prints_a_row_for_each_number(files):
    content = call_json(
        "cellmodel", "classify", files["query"], "--label-key", "bulk_labels", "--n-shot", "1,5", "--draws", "5"
    )
    one, five = content["rows"]
    assert (one["n_shot"], five["n_shot"]) == (1, 5)
    assert 0.3 < one["mean"]["accuracy"] < five["mean"]["accuracy"]


@pytest.mark.slow
def test_the_features_of_a_recipe_can_be_tried(files):
    n_shot = [files["query"], "--label-key", "bulk_labels", "--n-shot", "5", "--draws", "5"]
    content = call_json("cellmodel", "classify", *n_shot, "--features", "recipe:pca-kmeans")
    assert content["features"] == "recipe:pca-kmeans"
    assert content["rows"][0]["mean"]["accuracy"] > 0.4
    for features, message in (("words", "got 'words'"), ("recipe:absent", "'absent' is not one of")):
        code, _, errors = call("cellmodel", "classify", *n_shot, "--features", features)
        assert code != 0
        assert message in " ".join(errors.split())
        assert "Traceback" not in errors
