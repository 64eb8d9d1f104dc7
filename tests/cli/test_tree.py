"""Coarser and finer clusters from the command line: a resolution, a cluster clustered again, its report and names."""

import json

import anndata
import pytest

from tests.cellmodel.tl.test_tree import counts
from tests.support.in_process import call_here

PLAIN = ("--knowledge", "none", "--recipe", "pca-kmeans")


@pytest.fixture
def cluster(tmp_path, capsys, monkeypatch):
    counts(4).write_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.chdir(tmp_path)

    def run(path, *given):
        return call_here(("cellmodel", "cluster", path, *PLAIN, *given), capsys, monkeypatch)

    return run


def test_a_resolution_gives_the_number_and_goes_with_no_other(cluster):
    found = json.loads(cluster("cells.h5ad", "--resolution", "0.5", "-o", "out.h5ad", "--json").out)
    assert (found["n_clusters"], found["n_clusters_by"]) == (4, "Leiden at resolution 0.5")
    for more, message in (
        (("--n-clusters", "3"), "--n-clusters and --resolution each say how many clusters there are"),
        (("--resolution", "0"), "--resolution is a number > 0, not 0"),
    ):
        refused = cluster("cells.h5ad", "--resolution", "0.5", *more, "-o", "no.h5ad")
        assert (refused.code, message in refused.err) == (2, True)


def test_a_cluster_is_clustered_again_with_a_report(cluster, tmp_path):
    cluster("cells.h5ad", "--n-clusters", "2", "-o", "out.h5ad")
    again = ("--within", "cellmodel=0", "--n-clusters", "2", "--key-added", "finer")
    found = json.loads(cluster("out.h5ad", *again, "-o", "finer.h5ad", "--report", "r.html", "--json").out)
    assert [row["cluster"] for row in found["clusters"]] == ["0.0", "0.1", "1"]
    assert found["n_clusters_by"].startswith("cellmodel=0 clustered again: ")
    assert all(row["markers"] for row in found["clusters"])
    assert set(anndata.read_h5ad(tmp_path / "finer.h5ad").obs["finer"]) == {"0.0", "0.1", "1"}
    assert 'id="tree-cut"' in (tmp_path / "r.html").read_text()
    for more, message in (
        (("--save-model", "model"), "a model of clusters in clusters cannot be kept"),
        (("--out-of-core", "yes"), "--within needs all cells in memory"),
        (("--within", "cellmodel=7"), "has no cluster '7' (there are: 0, 1)"),
    ):
        refused = cluster("out.h5ad", *again, *more, "-o", "no.h5ad")
        assert (refused.code, message in refused.err) == (3, True), refused.err
        assert not (tmp_path / "no.h5ad").exists()
