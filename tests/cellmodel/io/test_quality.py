"""Quality of cells: what scanpy measures, in memory and out of core; what is said of it; cells that are left out."""

from dataclasses import replace

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

import cellmodel as cm
from cellmodel.core.config import QualityConfig, settings_of
from cellmodel.core.errors import InputUnusable, NotCounts
from cellmodel.core.stages import MemoryStages
from cellmodel.io.cells import ReadConfig, cells_from_anndata
from cellmodel.io.quality import mitochondrial_genes
from cellmodel.io.writers import WriteConfig
from cellmodel.tl._cluster import ClusterJob, with_quality
from cellmodel.tl._run.task import StreamConfig, run_on_file

COLUMNS = ["total_counts", "n_genes_by_counts", "pct_counts_mt"]
N_CELLS, N_GENES = 120, 2_400


@pytest.fixture
def adata():
    """80 cells, of which 10 are damaged, and 40 empty droplets."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.5, 1.0, (N_CELLS, N_GENES)))
    counts[:80, -13:] = rng.poisson(2, (80, 13))
    counts[:10, -13:] = 60
    counts[80:] = rng.poisson(0.01, (40, N_GENES))
    names = [f"G{number}" for number in range(N_GENES - 13)] + [f"MT-{number}" for number in range(13)]
    made = anndata.AnnData(sp.csr_matrix(counts, dtype=np.float32))
    made.var_names, made.obs_names = names, [f"cell{number}" for number in range(N_CELLS)]
    return made


def quality(adata, **limits):
    return with_quality(cells_from_anndata(adata), settings_of(None, **limits), MemoryStages())


def test_figures_are_those_of_scanpy(adata):
    scanpy = pytest.importorskip("scanpy")
    other = adata.copy()
    other.var["mt"] = other.var_names.str.startswith("MT-")
    scanpy.pp.calculate_qc_metrics(other, qc_vars=["mt"], percent_top=None, log1p=False, inplace=True)
    for name, values in quality(adata).quality.columns().items():
        np.testing.assert_allclose(values, other.obs[name], rtol=1e-5)


def test_empty_droplets_and_damaged_cells_are_reported_with_what_leaves_them_out(adata):
    empty, damaged = quality(adata).quality.notes()
    assert empty.startswith("33% of the cells have fewer than 100 counts: empty droplets? min_counts=100")
    assert damaged.startswith("8% of the cells have more than 20 %")
    assert not list(quality(adata[10:80].copy()).quality.notes())


@pytest.mark.parametrize(
    ("limits", "n_kept"),
    [({"min_counts": 100}, 80), ({"max_mito": 30.0}, 110), ({"min_genes": 200, "max_mito": 30.0}, 70)],
)
def test_cells_beyond_a_limit_are_left_out_counted_and_said(adata, limits, n_kept):
    cells = quality(adata, **limits)
    record = cells.quality.record()
    assert cells.shape[0] == len(adata) == n_kept
    assert (record["n_cells_seen"], record["n_cells"]) == (N_CELLS, n_kept)
    assert sum(record["dropped"].values()) == N_CELLS - n_kept
    assert record["notes"][0].startswith(f"{N_CELLS - n_kept} of {N_CELLS} cells were left out")


def test_limits_that_leave_nothing_or_have_nothing_to_compare_with_are_refused(adata):
    logs = adata.copy()
    logs.X = np.log1p(logs.X / 3)
    with pytest.raises(InputUnusable, match=r"min_counts=1e\+06 leaves 0 of 120 cells"):
        quality(adata, min_counts=1_000_000)
    with pytest.raises(NotCounts, match="`min_counts` needs raw counts"):
        quality(logs, min_counts=100)
    with pytest.raises(InputUnusable, match="`max_mito` needs raw counts and mitochondrial genes"):
        quality(adata[:, :2_000].copy(), max_mito=5.0)
    with pytest.raises(NotCounts, match="`doublets` needs raw counts of at least 500 cells"):
        quality(adata, doublets=True)
    with pytest.raises(ValueError, match="`max_mito` is in percent"):
        quality(adata, max_mito=101.0)


@pytest.mark.parametrize("mode", ["no", "yes"])
def test_output_holds_the_kept_cells_and_their_figures(adata, tmp_path, mode):
    path, out = tmp_path / "cells.h5ad", tmp_path / "out.h5ad"
    adata.obs["pct_counts_mt"] = -1.0
    adata.write_h5ad(path)
    config = cm.RunConfig(recipe="pca-leiden", knowledge="none", n_words=0)
    for limits, n_cells in ((QualityConfig(), N_CELLS), (QualityConfig(min_counts=100), 80)):
        task = ClusterJob(None, replace(config, quality=limits))
        write = WriteConfig(output=out, overwrite=True)
        run_on_file(path, task, read=ReadConfig(), write=write, stream=StreamConfig(mode=mode))
        found = anndata.read_h5ad(out)
        assert found.shape == (n_cells, N_GENES)
        totals = np.asarray(adata[found.obs_names].X.sum(axis=1)).ravel()
        np.testing.assert_allclose(found.obs["total_counts"], totals)
        assert (found.obs["pct_counts_mt"] == -1).all()
        assert found.uns["cellmodel"]["quality"]["n_cells_seen"] == N_CELLS
        assert len(found.obs["cellmodel"].dropna()) == n_cells


def test_mitochondrial_genes_are_known_by_symbol_and_by_identifier():
    names = ["MT-ND1", "mt-Co1", "mt:ND1", "ENSG00000198888.2", "ENSMUSG00000064341", "MTOR", "MTX1", "ENSG00000000003"]
    assert mitochondrial_genes(names).tolist() == [0, 1, 2, 3, 4]


@pytest.fixture(scope="module")
def with_doublets():
    """Three kinds of 300 cells, and 90 doublets, 30 of each two kinds."""
    rng = np.random.default_rng(0)
    rates = rng.gamma(0.3, 1.0, (3, 400))
    kinds = np.repeat(np.arange(3), 300)
    counts = rng.poisson(rates[kinds] * rng.lognormal(0, 0.2, (900, 1)))
    pairs = np.repeat([[0, 1], [0, 2], [1, 2]], 30, axis=0) * 300 + rng.integers(0, 300, (90, 2))
    mixed = counts[pairs].sum(axis=1)
    made = anndata.AnnData(sp.csr_matrix(np.vstack([counts, mixed]), dtype=np.float32))
    made.obs["is_doublet"] = np.arange(990) >= 900
    made.var_names, made.obs_names = [f"G{i}" for i in range(400)], [f"cell{i}" for i in range(990)]
    return made


def test_doublets_are_found_where_they_are_asked_for_and_stay(with_doublets):
    adata = cm.tl.cluster(
        with_doublets, recipe="pca-leiden", knowledge="none", doublets=True, random_state=1, copy=True
    )
    predicted, is_doublet = adata.obs["predicted_doublet"], adata.obs["is_doublet"]
    assert len(adata) == 990
    assert predicted[is_doublet].mean() > 0.8
    assert predicted[~is_doublet].mean() < 0.05
    assert adata.obs["doublet_score"][is_doublet].median() > adata.obs["doublet_score"][~is_doublet].quantile(0.9)
    record = adata.uns["cellmodel"]["quality"]
    assert record["share_doublets"] == pytest.approx(predicted.mean())
    assert "predicted doublets" in record["notes"][0]
    assert set(record["doublets_of_clusters"]) == set(adata.obs["cellmodel"].cat.categories)


def test_doublets_that_the_file_names_are_reported_by_cluster(with_doublets):
    adata = with_doublets.copy()
    adata.obs["predicted_doublet"] = np.where(adata.obs["is_doublet"], "True", "False")
    cm.tl.cluster(adata, recipe="pca-leiden", knowledge="none")
    record = adata.uns["cellmodel"]["quality"]
    assert record["share_doublets"] == pytest.approx(90 / 990)
    assert any("is mostly doublets" in note for note in record["notes"])
    assert adata.obs["predicted_doublet"].iloc[-1] == "True"
