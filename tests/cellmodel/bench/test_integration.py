"""Scores of integrated batches, on cells whose batches and types are known."""

import json
import sys

import anndata as ad
import numpy as np
import pytest

import cellmodel as cm
from cellmodel.bench.integration import BATCH, BIO, HARMONY, UNINTEGRATED, score_integration
from cellmodel.core.errors import InputUnusable
from genekb.core.errors import NotAvailable
from tests.support.in_process import call

N_CELLS, N_GENES = 180, 60


def counts(seed=0):
    """Counts of three types in two batches; the second batch has more of ten genes."""
    rng = np.random.default_rng(seed)
    types, batches = np.arange(N_CELLS) % 3, np.arange(N_CELLS) // 3 % 2
    rate = np.ones((N_CELLS, N_GENES))
    for kind in range(3):
        rate[types == kind, 15 * kind : 15 * kind + 15] = 6
    rate[batches == 1, 50:] = 8
    return rng.poisson(rate).astype(np.float32), types.astype(str), np.array(["b", "c"])[batches]


@pytest.fixture
def path(tmp_path):
    matrix, types, batches = counts()
    adata = ad.AnnData(matrix)
    adata.var_names = [f"g{number}" for number in range(N_GENES)]
    adata.obs["type"], adata.obs["batch"], adata.obs["cellmodel"] = types, batches, types
    adata.obsm["X_cellmodel"] = np.log1p(matrix)[:, :50]
    adata.obsm["X_types"] = np.eye(3)[types.astype(int)] + np.random.default_rng(0).normal(0, 0.1, (N_CELLS, 3))
    adata.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def test_without_its_package_the_extra_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scib_metrics", None)
    with pytest.raises(NotAvailable, match=r"scib-metrics; pip install 'genekb-cellmodel\[scib\]'"):
        cm.bench.eval(path, truth="type", batch_key="batch")


def test_representations_without_a_batch_key_are_wrong_usage(path):
    code, _, err = call("cellmodel", "eval", str(path), "--truth", "type", "--use-rep", "X_types")
    assert code == 2
    assert "--batch-key" in err


@pytest.mark.slow
class TestScores:
    """What needs `scib-metrics`, whose jax compiles for a minute: installed by the extra `scib` alone."""

    @pytest.fixture(autouse=True)
    def scib(self):
        pytest.importorskip("scib_metrics", exc_type=ImportError)

    def test_batches_that_are_gone_score_higher(self, path):
        def found():
            return cm.bench.eval(path, truth="type", batch_key="batch", use_rep=["X_types"])

        report = found()
        scores = {each.embedding: each for each in report.embeddings}
        assert list(scores) == [UNINTEGRATED, HARMONY, "X_cellmodel", "X_types"]
        assert report.clusters.accuracy == 1
        plain, types = scores[UNINTEGRATED], scores["X_types"]
        assert scores[HARMONY].batch > plain.batch
        assert types.overall > scores["X_cellmodel"].overall > plain.overall
        assert plain.metrics["pcr_comparison"] == pytest.approx(0, abs=1e-5)
        assert types.metrics["pcr_comparison"] > 0.9
        assert set(types.metrics) == {*BIO, *BATCH}
        assert types.bio == pytest.approx(np.mean([types.metrics[name] for name in BIO]))
        assert types.overall == pytest.approx(0.6 * types.bio + 0.4 * types.batch)
        again = found()
        assert again.clusters == report.clusters
        for one, other in zip(report.embeddings, again.embeddings, strict=True):
            assert other.metrics == pytest.approx({**one.metrics, "kbet": other.metrics["kbet"]})
            assert other.overall == pytest.approx(one.overall, abs=0.02)  # kBET's eigenvectors start at random

    def test_the_command_writes_json_alone_to_stdout(self, path):
        code, out, err = call("cellmodel", "eval", str(path), "--labels", "type", "--batch-key", "batch", "--json")
        assert code == 0, err
        found = json.loads(out)
        assert found["accuracy"] == 1
        assert [row["embedding"] for row in found["integration"]][-1] == "X_cellmodel"
        assert 0 < found["integration"][0]["overall"] < 1

    def test_cells_without_a_label_are_left_out(self, path):
        adata = ad.read_h5ad(path)
        adata.obs["type"] = adata.obs["type"].astype(object).where(np.arange(N_CELLS) >= 30)
        adata.write_h5ad(path)
        report = cm.bench.eval(path, truth="type", batch_key="batch", pred="none")
        assert report.clusters is None
        assert report.embeddings[0].overall < 1

    @pytest.mark.parametrize(
        ("types", "batches", "message"),
        [
            (["a"] * 60, ["b", "c"] * 30, "one cell type"),
            (["a", "d"] * 30, ["b"] * 60, "one batch"),
            (["a", "d"] * 10, ["b", "c"] * 10, "20 labeled cells are too few"),
        ],
    )
    def test_cells_that_cannot_be_scored_are_refused(self, types, batches, message):
        z = np.random.default_rng(0).normal(size=(len(types), 5))
        with pytest.raises(InputUnusable, match=message):
            score_integration({"z": z}, y_true=types, batches=batches, before=z)

    def test_types_that_lie_in_one_batch_each_are_refused(self, path):
        with pytest.raises(InputUnusable, match="'type' is confounded with 'type': no type has cells of two batches"):
            cm.bench.eval(path, truth="type", batch_key="type")

    def test_an_embedding_that_is_not_there_is_named(self, path):
        with pytest.raises(InputUnusable, match="X_typs"):
            cm.bench.eval(path, truth="type", batch_key="batch", use_rep=["X_typs"])
