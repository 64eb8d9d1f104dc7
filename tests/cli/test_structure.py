"""Clusters carry notes: how often they come back, and whether data without structure has as separated ones."""

import json
import logging

import anndata
import numpy as np
import pytest

import cellmodel as cm
from tests.support.in_process import call_here

NOTE = "the clusters are no better separated than those of data without structure (p = "


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    adata = anndata.AnnData(np.random.default_rng(0).poisson(0.5, (400, 1500)).astype(np.float32))
    adata.obs_names = [f"C{number}" for number in range(400)]
    adata.var_names = [f"G{number}" for number in range(1500)]
    path = tmp_path_factory.mktemp("noise") / "noise.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture
def cluster(noise, tmp_path, capsys, monkeypatch):
    def run(*given):
        command = ("cellmodel", "cluster", noise, "--knowledge", "none", "--resolution", "1", "--overwrite")
        ended = call_here((*command, "-o", tmp_path / "out.h5ad", *given), capsys, monkeypatch)
        assert ended.code == 0, ended.err
        return ended.out

    return run


def test_noise_is_clustered_with_a_note_in_the_terminal_the_report_and_the_record(cluster, tmp_path):
    out = cluster("--report", tmp_path / "report.html")
    assert f"note: {NOTE}" in out
    lead = (tmp_path / "report.html").read_text().partition('<p class="lead">')[2].partition("</p>")[0]
    assert NOTE[4:] in lead
    record = anndata.read_h5ad(tmp_path / "out.h5ad").uns["cellmodel"]["n_clusters"]
    assert record["n_clusters"] > 1
    assert record["p_value"] > 0.05


@pytest.mark.parametrize("out_of_core", ["no", pytest.param("yes", marks=pytest.mark.slow)])
def test_json_says_it_in_a_field_in_memory_and_out_of_core(cluster, out_of_core):
    found = json.loads(cluster("--json", "--out-of-core", out_of_core))
    assert found["n_clusters"] > 1
    assert found["structure"]["p_value"] > 0.05
    assert found["structure"]["repeats"] < 0.7


@pytest.mark.slow
def test_python_logs_it(noise, caplog):
    with caplog.at_level(logging.INFO, logger="cellmodel"):
        cm.tl.cluster(anndata.read_h5ad(noise), knowledge="none", resolution=1.0)
    assert NOTE in caplog.text
