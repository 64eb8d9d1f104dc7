"""Tools as people call them: names for stores, types and files; the seed; errors, messages and a bar in their terms."""

import io
import logging
import subprocess
import sys

import numpy as np
import pytest

import cellmodel as cm
from cellmodel.core.config import BatchConfig, RunConfig, SpatialConfig, settings_of
from cellmodel.core.errors import InputUnusable, SlotTaken
from genekb.core.progress import show_progress
from tests.robust.bad_files.cells import cells
from tests.support.demo import demo_cells

PLAIN = {"recipe": "pca-kmeans", "knowledge": "none", "n_clusters": 2}


@pytest.fixture
def adata():
    return cells()


@pytest.fixture
def home(demo_home, monkeypatch):
    monkeypatch.setenv("GENEKB_HOME", str(demo_home))
    return demo_home


def test_a_store_is_taken_by_name_by_folder_and_opened(adata, home, demo_kb):
    found = [cm.tl.embed(adata, kb, copy=True) for kb in ("demo", demo_kb.folder, demo_kb)]
    for other in found[1:]:
        np.testing.assert_array_equal(other.obsm["X_cellmodel"], found[0].obsm["X_cellmodel"])
    with pytest.raises(TypeError, match="kb is a store's name, its folder or an opened store, not int"):
        cm.tl.embed(adata, 3)


def test_seed_and_auto_are_other_words_for_the_same(adata):
    how = PLAIN | {"copy": True}
    one, other = cm.tl.cluster(adata, random_state=3, **how), cm.tl.cluster(adata, seed=3, **how)
    assert one.uns["cellmodel"]["seed"] == other.uns["cellmodel"]["seed"] == 3
    with pytest.raises(TypeError, match="two names of one argument"):
        cm.tl.cluster(adata, seed=3, random_state=3, **PLAIN)
    assert settings_of(n_clusters="auto").n_clusters is None


def test_settings_are_named_as_the_options_of_the_command():
    found = settings_of(
        RunConfig(encoder="own"), low_data=True, orthologs=True, random_state=4, batch_key="donor", integration="none",
        harmony_theta=2.0, spatial=True, smooth_labels=True, sentences="sampled", head="leiden",
    )  # fmt: skip
    assert (found.encoder, found.low_data, found.use_orthologs, found.seed) == ("own", True, True, 4)
    assert found.batch == BatchConfig(key="donor", integration="none", theta=2.0)
    assert found.spatial == SpatialConfig(smooth_labels=True)
    assert (found.semantics.sentences, found.head) == ("sampled", "leiden")
    with pytest.raises(ValueError, match="`integration` goes with `batch_key`"):
        settings_of(integration="none")
    with pytest.raises(ValueError, match="`smooth_labels` needs coordinates"):
        settings_of(smooth_labels=True)


def test_types_are_taken_by_name_and_without_a_store_from_markers(adata, home):
    cm.tl.cluster(adata, "demo", n_clusters=2)
    cm.tl.annotate(adata, "demo", candidates=["T cell", "B cell"])
    assert set(cm.get.names(adata)["best"]) <= {"T cell", "B cell"}
    cm.tl.annotate(adata, markers={"A": ["CD3D", "CD3E", "CD3G"], "B": ["C1QA", "C1QB"]}, key_added="by_overlap")
    assert set(adata.obs["by_overlap"].cat.categories) <= {"A", "B", "unassigned"}
    with pytest.raises(ValueError, match=r"a store, `kb`, or from `markers`"):
        cm.tl.annotate(adata, key_added="other")


def test_colors_are_those_of_the_clusters_and_names_inherit_them(home):
    blood = demo_cells()
    blood = blood[np.random.default_rng(0).permutation(blood.n_obs)[:300]].copy()
    cm.tl.cluster(blood, "demo", recipe="pca-kmeans", n_clusters=4)
    assert len(set(blood.uns["cellmodel_colors"])) == 4
    blood.obs["cellmodel"] = blood.obs["cellmodel"].cat.reorder_categories(["3", "2", "1", "0"])
    blood.uns["cellmodel_colors"] = ["#333333", "#222222", "#111111", "#000000"]
    cm.tl.annotate(blood, "demo", level="broad")
    names = cm.get.names(blood).set_index("cluster")["name"]
    of_name = dict(zip(blood.obs["cellmodel_name"].cat.categories, blood.uns["cellmodel_name_colors"], strict=True))
    assert len(of_name) > 1
    assert of_name == {name: f"#{names[names == name].index[0] * 6}" for name in set(names)}


def test_errors_are_in_the_words_of_python(adata):
    cm.tl.cluster(adata, **PLAIN)
    with pytest.raises(SlotTaken, match=r"use overwrite=True, or another name with `key_added`"):
        cm.tl.cluster(adata, **PLAIN)
    with pytest.raises(ValueError, match=r"give `kb`, or knowledge=\"none\""):
        cm.tl.cluster(adata, key_added="other")
    with pytest.raises(InputUnusable, match=r"run `cellmodel cluster` first, or name a column with `cluster_key`"):
        cm.tl.annotate(adata, markers={"A": ["CD3D"]}, cluster_key="leidn", key_added="other")
    with pytest.raises(ValueError, match=r"knowledge 'reel' is not one of real, .*; did you mean 'real'"):
        cm.tl.embed(adata, knowledge="reel", key_added="other")
    with pytest.raises(TypeError, match="unexpected keyword argument 'n_cluster'; did you mean 'n_clusters'"):
        cm.tl.cluster(adata, n_cluster=2)


def test_a_model_is_kept_and_used(adata, tmp_path):
    cm.tl.cluster(adata, **PLAIN, save_model=tmp_path / "model")
    new = cells()
    cm.tl.predict(new, tmp_path / "model")
    assert (new.obs["cellmodel"].astype(str) == adata.obs["cellmodel"].astype(str)).mean() > 0.9
    with pytest.raises(InputUnusable, match=r"exists; give another name, or overwrite=True"):
        cm.tl.cluster(cells(), **PLAIN, save_model=tmp_path / "model")


def test_tables_are_copies_and_name_what_there_is(adata):
    cm.tl.cluster(adata, **PLAIN)
    table = cm.get.markers(adata, ["1"], n_genes=2)
    assert table["cluster"].tolist() == ["1", "1"]
    table["name"] = ""
    assert (cm.get.markers(adata)["name"] != "").all()
    with pytest.raises(InputUnusable, match=r"no cluster '7' \(there are: 0, 1\)"):
        cm.get.markers(adata, "7")
    with pytest.raises(InputUnusable, match="holds no table 'themes'"):
        cm.get.table(adata, "cellmodel", "themes")


def test_arguments_that_do_not_go_together_are_named_as_in_python(adata, tmp_path):
    adata.obs["type"] = "T cell"
    with pytest.raises(ValueError, match=r"^`?use_rep.* and .*confounded_ok.*give `batch_key`") as caught:
        cm.bench.eval(adata, truth="type", pred="type", use_rep="X_pca")
    assert "--" not in str(caught.value)


def test_a_report_of_cells_in_memory(adata, tmp_path):
    cm.tl.cluster(adata, **PLAIN)
    page = cm.report(adata, str(tmp_path / "r.html"))
    assert "<html" in page.read_text()[:200]
    with pytest.raises(InputUnusable, match="overwrite=True"):
        cm.report(adata, page)


SCANPY = """
import sys, logging, scanpy as sc, anndata, cellmodel as cm
sc.settings.verbosity = {verbosity}
adata = anndata.read_h5ad("cells.h5ad")
adata.layers["counts"] = adata.X
cm.tl.cluster(adata, knowledge="none", recipe="pca-kmeans", n_clusters=2)
assert logging.getLogger("cellmodel").level == 0 and not logging.getLogger("cellmodel").handlers
"""


@pytest.mark.slow
@pytest.mark.parametrize(("verbosity", "is_shown"), [(1, False), (3, True)])
def test_messages_are_shown_at_the_verbosity_of_scanpy(adata, tmp_path, verbosity, is_shown):
    pytest.importorskip("scanpy")
    adata.write_h5ad(tmp_path / "cells.h5ad")
    code = [sys.executable, "-W", "ignore", "-c", SCANPY.format(verbosity=verbosity)]
    done = subprocess.run(code, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ("layer 'counts' is used" in done.stderr + done.stdout) is is_shown


def test_a_log_that_was_set_up_is_left_alone(adata):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger("cellmodel").addHandler(handler)
    try:
        cm.tl.cluster(adata, **PLAIN)
    finally:
        logging.getLogger("cellmodel").removeHandler(handler)
    assert logging.getLogger("cellmodel").handlers == []


def test_a_tool_shows_its_stages(adata, caplog):
    caplog.set_level(logging.INFO, logger="genekb")
    with show_progress(every_s=1e-3):
        cm.tl.cluster(adata, **PLAIN)
    stages = list(dict.fromkeys(line.split(":")[0] for line in caplog.messages if line.startswith("stage ")))
    order = [f"stage {what}" for what in ("genes", "components and neighbors", "embedding", "clusters")]
    assert [stage for stage in stages if stage in order] == [stage for stage in order if stage in stages]
    assert "stage markers and words" in stages  # quicker ones may be over before they are shown
