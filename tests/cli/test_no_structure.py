"""Cells without structure are one cluster, and whoever asked learns it first, with the way to clusters all the same."""

import json
import logging

import anndata
import numpy as np
import pytest

import cellmodel as cm
from tests.support.in_process import call_here

NOTE = "no structure found, so the 120 cells are one cluster; --n-clusters K clusters them into K"


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    adata = anndata.AnnData(np.random.default_rng(0).poisson(3, (120, 150)).astype(np.float32))
    adata.obs_names = [f"C{number}" for number in range(120)]
    adata.var_names = [f"G{number}" for number in range(150)]
    path = tmp_path_factory.mktemp("noise") / "noise.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture
def cluster(noise, tmp_path, capsys, monkeypatch):
    def run(*given):
        command = ("cellmodel", "cluster", noise, "--knowledge", "none", "-o", tmp_path / "out.h5ad", "--overwrite")
        ended = call_here((*command, *given), capsys, monkeypatch)
        assert ended.code == 0, ended.err
        return ended.out

    return run


def test_the_terminal_and_the_report_say_it_first(cluster, tmp_path):
    assert cluster("--report", tmp_path / "report.html").splitlines()[0] == NOTE
    lead = (tmp_path / "report.html").read_text().partition('<p class="lead">')[2]
    assert lead.startswith("<strong>No structure found</strong>, so the cells are one cluster; <code>--n-clusters K")


def test_coordinates_that_were_left_out_are_named(noise, tmp_path, capsys, monkeypatch):
    adata = anndata.read_h5ad(noise)
    adata.obsm["spatial"] = np.stack(np.divmod(np.arange(120), 12), axis=1).astype(np.float32)
    adata.write_h5ad(tmp_path / "spots.h5ad")
    command = ("cellmodel", "cluster", tmp_path / "spots.h5ad", "--knowledge", "none", "-o", tmp_path / "out.h5ad")
    ended = call_here(command, capsys, monkeypatch)
    assert ended.out.splitlines()[0] == f"{NOTE}; --spatial looks at their coordinates, too"


@pytest.mark.parametrize("out_of_core", ["no", pytest.param("yes", marks=pytest.mark.slow)])
def test_json_says_it_in_a_field_in_memory_and_out_of_core(cluster, out_of_core):
    found = json.loads(cluster("--json", "--out-of-core", out_of_core))
    assert (found["n_clusters"], found["has_structure"]) == (1, False)
    assert found["n_clusters_by"].startswith("no structure found; ")


@pytest.mark.slow
def test_a_number_that_is_given_is_not_tested(cluster):
    out = cluster("--n-clusters", "2")
    assert out.startswith("input: ")
    found = json.loads(cluster("--n-clusters", "2", "--json"))
    assert (found["n_clusters"], found["has_structure"], found["n_clusters_by"]) == (2, None, "given")


@pytest.mark.slow
def test_python_logs_it(noise, caplog):
    with caplog.at_level(logging.WARNING):
        cm.tl.cluster(anndata.read_h5ad(noise), knowledge="none")
    assert "no structure found, so the cells are one cluster; n_clusters=K" in caplog.text
