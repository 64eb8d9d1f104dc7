"""Several files are clustered as one file of the same cells is, in memory and out of core; bad ones are named."""

import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import cellmodel as cm
from cellmodel.core.config import PreprocessConfig, RunConfig, SpatialConfig
from cellmodel.core.errors import AlignmentTooLow, InputUnusable, NotCounts
from cellmodel.io.writers import write_cells

N_CELLS, N_GENES = 240, 150
CONFIG = RunConfig(
    knowledge="none", recipe="pca-kmeans", n_clusters=4, preprocess=PreprocessConfig(n_top_genes=100)
)  # fmt: skip


def make_cells(seed=0):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 4, N_CELLS)
    rates = rng.gamma(0.4, 2.0, (4, N_GENES))
    counts = sp.csr_matrix(rng.poisson(rates[group] * rng.lognormal(0, 0.3, (N_CELLS, 1))).astype(np.float32))
    obs = pd.DataFrame({"group": group.astype(str)}, index=[f"c{i}" for i in range(N_CELLS)])
    return anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(N_GENES)]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One file with all cells; three with some each: counts in X, in a layer, and as CSC of genes in another order."""
    folder = tmp_path_factory.mktemp("files")
    cells = make_cells()
    cells.write_h5ad(folder / "whole.h5ad")
    a, b, c = (cells[rows].copy() for rows in (slice(0, 90), slice(90, 150), slice(150, None)))
    a.write_h5ad(folder / "a.h5ad")
    b.layers["counts"] = b.X.copy()
    b.X = np.log1p(b.X)
    write_cells(b, folder / "b.zarr")
    c = c[:, np.random.default_rng(1).permutation(N_GENES)].copy()
    c.X = sp.csc_matrix(c.X)
    c.write_h5ad(folder / "c.h5ad", compression="gzip")
    return folder


def cluster(paths, output, *, mode="no", config=CONFIG, overwrite=False):
    files = cm.tl.CellFiles(paths, output=output, out_of_core=mode)
    return cm.tl.cluster(files, config=config, overwrite=overwrite)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("no", ".h5ad"), ("yes", ".h5ad"), pytest.param("yes", ".zarr", marks=pytest.mark.slow)],
)
def test_several_files_are_clustered_as_one_file_of_the_same_cells(folder, tmp_path, mode, suffix):
    paths, output = [folder / "a.h5ad", folder / "b.zarr", folder / "c.h5ad"], tmp_path / f"out{suffix}"
    found = cluster(paths, output, mode=mode)
    one = cluster([folder / "whole.h5ad"], tmp_path / "whole.h5ad")
    np.testing.assert_array_equal(found.result.labels, one.result.labels)
    np.testing.assert_allclose(found.result.representation.z, one.result.representation.z, atol=1e-4)
    cells = anndata.read_h5ad(output) if suffix == ".h5ad" else anndata.read_zarr(output)
    whole = anndata.read_h5ad(folder / "whole.h5ad")
    assert (cells.X != whole.X).nnz == 0
    assert cells.var_names.tolist() == whole.var_names.tolist()
    assert cells.obs_names.tolist() == whole.obs_names.tolist()
    assert cells.obs["sample"].value_counts().to_dict() == {"a": 90, "b": 60, "c": 90}
    assert cells.obs["group"].tolist() == whole.obs["group"].tolist()
    files = cells.uns["cellmodel"]["input"]["files"]
    assert files["n_cells"].tolist() == [90, 60, 90]
    assert files["n_lost"].tolist() == [0, 0, 0]
    assert (files["n_resolved"].tolist(), files["species"].tolist()) == ([0] * 3, [""] * 3)  # without a store
    assert cells.uns["cellmodel"]["input"]["sample_key"] == "sample"
    assert not list(tmp_path.glob(".*.work"))


@pytest.mark.parametrize("mode", ["no", "yes"])
def test_genes_that_not_all_files_have_are_lost_and_counted(folder, tmp_path, mode):
    cells = anndata.read_h5ad(folder / "a.h5ad")
    shutil.copy(folder / "c.h5ad", tmp_path / "c.h5ad")
    cells[:, 30:].write_h5ad(tmp_path / "a.h5ad")
    found = cluster([tmp_path / "a.h5ad", tmp_path / "c.h5ad"], tmp_path / "out.h5ad", mode=mode).cells
    a, c = found.files
    assert (a.n_lost, c.n_lost) == (0, 30)
    first = [int(name[1:]) < 30 for name in anndata.read_h5ad(folder / "c.h5ad").var_names]
    counts = anndata.read_h5ad(folder / "c.h5ad").X
    assert c.share_lost == pytest.approx(counts[:, first].sum() / counts.sum(), rel=1e-6)
    assert found.names == tuple(f"G{i}" for i in range(30, N_GENES))
    assert "c.h5ad: 90 cells; 30 of 150 genes" in " ".join(found.notes)


def bad_log(cells, path):
    cells.X = np.log1p(cells.X / 3)
    cells.write_h5ad(path)


def bad_names(cells, path):
    cells.var_names = [f"x{i}" for i in range(N_GENES)]
    cells.write_h5ad(path)


def bad_empty(cells, path):
    cells[:0].write_h5ad(path)


def bad_damaged(cells, path):
    cells.write_h5ad(path)
    path.write_bytes(path.read_bytes()[:3000])


BAD = {
    "log": (bad_log, NotCounts, r"bad\.h5ad: log1p.*which cannot be compared; give the counts of all"),
    "names": (bad_names, AlignmentTooLow, r"bad\.h5ad and .* share 0 genes .*`kb`"),
    "empty": (bad_empty, InputUnusable, r"bad\.h5ad holds 0 cells"),
    "damaged": (bad_damaged, InputUnusable, r"bad\.h5ad (is no HDF5 file|cannot be read)"),
}


@pytest.mark.parametrize("mode", ["no", "yes"])
@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_cannot_be_joined_is_named_in_one_line(folder, tmp_path, kind, mode):
    make_bad, error, message = BAD[kind]
    make_bad(anndata.read_h5ad(folder / "a.h5ad"), tmp_path / "bad.h5ad")
    paths = [folder / "a.h5ad", tmp_path / "bad.h5ad", folder / "c.h5ad"]
    with pytest.raises(error, match=message) as caught:
        cluster(paths, tmp_path / "out.h5ad", mode=mode)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.h5ad"]


def test_settings_that_fit_no_several_files_are_refused_before_any_work(folder, tmp_path):
    paths = [folder / "a.h5ad", folder / "c.h5ad"]
    with pytest.raises(InputUnusable, match="given twice"):
        cluster([*paths, paths[0]], tmp_path / "out.h5ad")
    spatial = RunConfig(knowledge="none", spatial=SpatialConfig())
    with pytest.raises(InputUnusable, match="leave `spatial` out"):
        cluster(paths, tmp_path / "out.h5ad", config=spatial)
    shutil.copy(paths[0], tmp_path / "a.h5ad")
    with pytest.raises(InputUnusable, match=r"a\.h5ad"):
        cluster([tmp_path / "a.h5ad", paths[1]], tmp_path / "a.h5ad", overwrite=True)
    anndata.read_h5ad(paths[0]).to_df().to_csv(tmp_path / "t.csv")
    with pytest.raises(InputUnusable, match=r"t\.csv: only .* out of core"):
        cluster([tmp_path / "t.csv", paths[1]], tmp_path / "out.h5ad", mode="yes")


def test_a_run_of_several_files_that_was_cut_short_goes_on(folder, tmp_path, monkeypatch):
    paths = [folder / "a.h5ad", folder / "c.h5ad"]
    read = []

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("cellmodel.tl._run.files.scan_again", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cluster(paths, tmp_path / "out.h5ad", mode="yes")
    monkeypatch.undo()
    monkeypatch.setattr("cellmodel.pp.blocks._scan_as_found", lambda *args: read.append(args))
    found = cluster(paths, tmp_path / "out.h5ad", mode="yes")
    assert read == []
    assert found.cells.shape == (180, N_GENES)
