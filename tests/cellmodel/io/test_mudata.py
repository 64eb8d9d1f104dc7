"""MuData: the modality with the genes is found, read in memory and out of core, and written as an AnnData."""

import warnings

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellmodel.core.config import PreprocessConfig, RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import ReadConfig, read_cells
from cellmodel.io.formats.anndata import column_names
from cellmodel.io.writers import WriteConfig
from cellmodel.tl._cluster import ClusterJob
from cellmodel.tl._run.task import StreamConfig, run_on_file

N_CELLS, N_GENES = 120, 600
GENES = [f"G{i}" for i in range(N_GENES)]
PEAKS = [f"chr1:{i}00-{i}99" for i in range(N_GENES)]
PROTEINS = ["CD3", "CD4", "CD19"]


def modality(names, *, seed=0, types=None):
    rng = np.random.default_rng(seed)
    rates = rng.gamma(0.4, 2.0, (3, len(names)))[np.arange(N_CELLS) % 3]
    var = pd.DataFrame({"feature_types": types} if types else None, index=names)
    obs = pd.DataFrame({"depth": rng.normal(size=N_CELLS)}, index=[f"c{i}" for i in range(N_CELLS)])
    return anndata.AnnData(sp.csr_matrix(rng.poisson(rates).astype(np.float32)), obs=obs, var=var)


def write(path, **modalities):
    mudata = pytest.importorskip("mudata")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = mudata.MuData(modalities)
        data.obs["cell_type"] = pd.Categorical([f"t{i % 3}" for i in range(N_CELLS)])
        data.write_zarr(path) if path.suffix == ".zarr" else data.write(path)
    return path


@pytest.mark.parametrize(
    ("modalities", "found"),
    [
        ({"prot": PROTEINS, "rna": GENES}, "rna"),
        ({"ADT": PROTEINS, "RNA": GENES}, "RNA"),
        ({"gex": GENES, "atac": PEAKS}, "gex"),
        ({"cells": GENES, "peaks": PEAKS, "prot": PROTEINS}, "cells"),
        ({"x": [f"ENSG{i:011d}.2" for i in range(9)], "y": PROTEINS}, "x"),
    ],
)
def test_the_modality_with_the_genes_is_found_by_name_or_by_its_genes(tmp_path, modalities, found):
    path = write(tmp_path / "m.h5mu", **{name: modality(names) for name, names in modalities.items()})
    cells = read_cells(path)
    assert list(cells.names) == modalities[found]
    others = ", ".join(name for name in modalities if name != found)
    assert cells.notes[0] == f"MuData: modality {found!r} is read; not read: {others}"
    assert list(cells.adata.obs) == ["depth", "cell_type"]
    assert column_names(path, "obs") == ["depth"]


def test_types_of_features_decide_where_there_are_any(tmp_path):
    genes, tags = modality(GENES[:9], types=["Gene Expression"] * 9), modality(GENES, types=["Custom"] * N_GENES)
    assert read_cells(write(tmp_path / "m.h5mu", a=tags, b=genes)).shape == (N_CELLS, 9)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (GENES, GENES, r"with the modalities a, b, and which of them .* is not clear; .*mdata\['a'\]\.write"),
        (PROTEINS, PEAKS, "none of them looks like genes"),
    ],
    ids=["both", "none"],
)
def test_modalities_that_leave_it_open_are_listed(tmp_path, a, b, message):
    with pytest.raises(InputUnusable, match=message):
        read_cells(write(tmp_path / "m.h5mu", a=modality(a), b=modality(b)))


def test_a_modality_in_another_file_is_not_read(tmp_path):
    modality(GENES).write_h5ad(tmp_path / "other.h5ad")
    with h5py.File(tmp_path / "m.h5mu", "w") as file:
        file["mod/rna"] = h5py.ExternalLink("other.h5ad", "/")
    with pytest.raises(InputUnusable, match="lies in another file"):
        read_cells(tmp_path / "m.h5mu")


@pytest.mark.parametrize("suffix", [".h5mu", pytest.param(".zarr", marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", [pytest.param("no", marks=pytest.mark.slow), "yes"])
def test_clusters_are_those_of_the_modality_alone(tmp_path, suffix, mode):
    genes = modality(GENES)
    genes.write_h5ad(tmp_path / "alone.h5ad")
    write(tmp_path / f"m{suffix}", rna=genes, prot=modality(PROTEINS))
    config = RunConfig(
        knowledge="none", recipe="pca-kmeans", n_clusters=3, preprocess=PreprocessConfig(n_top_genes=200)
    )  # fmt: skip
    found = []
    for name in ("alone.h5ad", f"m{suffix}"):
        output = tmp_path / f"{name}.out{'.zarr' if name == 'm.zarr' else '.h5ad'}"
        run_on_file(
            tmp_path / name, ClusterJob(None, config), read=ReadConfig(), write=WriteConfig(output=output),
            stream=StreamConfig(mode=mode),
        )  # fmt: skip
        found.append(anndata.read_zarr(output) if output.suffix == ".zarr" else anndata.read_h5ad(output))
    alone, of_mudata = found
    assert of_mudata.obs["cellmodel"].tolist() == alone.obs["cellmodel"].tolist()
    assert (of_mudata.X != genes.X).nnz == 0
    assert {"depth", "cell_type", "cellmodel"} <= set(of_mudata.obs)
    assert of_mudata.uns["cellmodel"]["input"]["notes"][0] == "MuData: modality 'rna' is read; not read: prot"
