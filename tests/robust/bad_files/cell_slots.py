"""Tables of cells, slots and coordinates with something wrong in them; see tests/robust/bad_files/cells.py."""

import numpy as np
import pandas as pd
import scipy.sparse as sp

from tests.robust.bad_files.cells import (
    N_CELLS,
    cells,
    changed,
    counts,
    kind,
    log_normalized,
    replaced,
    save,
    scaled_values,
)


def with_labels(values):
    adata = cells()
    adata.obs["type"] = values
    return adata


@kind
def labels_with_gaps(folder):
    return save(with_labels(pd.Categorical([None, None, None, *["T", "B"] * 10, "T"])), folder)


@kind
def labels_all_missing(folder):
    return save(with_labels(np.full(N_CELLS, np.nan)), folder)


@kind
def repeated_categories(folder):
    adata = with_labels(pd.Categorical(["T", "B"] * 12))
    return changed(
        folder, lambda file: replaced(file, "obs/type/categories", np.array(["T", "T"], dtype=object)), adata=adata
    )


@kind
def slot_in_obs(folder):
    adata = cells()
    adata.obs["cellmodel"] = "mine"
    adata.obsm["X_cellmodel"] = counts()[:, :3]
    return save(adata, folder)


@kind
def column_of_a_reserved_name(folder):
    """Files that came from Seurat have a column _index; anndata reads it, and refuses to write it."""

    def change(file):
        file["var"].move("_index", "names")
        file["var/_index"] = file["var/names"][:]
        file["var/_index"].attrs.update(file["var/names"].attrs)
        file["var"].attrs.update({"_index": "names", "column-order": np.array(["_index"], dtype=object)})

    return changed(folder, change)


@kind
def layers_without_counts(folder):
    adata = cells(scaled_values(), stored=np.asarray)
    adata.layers["spliced"] = sp.csr_matrix(log_normalized())
    return save(adata, folder)


@kind
def raw_of_other_cells(folder):
    adata = cells()
    adata.raw = adata

    def change(file):
        matrix = sp.csr_matrix(counts()[:20])
        for part in ("data", "indices", "indptr"):
            replaced(file, f"raw/X/{part}", getattr(matrix, part))
        file["raw/X"].attrs["shape"] = (20, 40)

    return changed(folder, change, adata=adata)


def with_places(places):
    adata = cells()
    adata.obsm["spatial"] = places
    return adata


@kind
def places_missing(folder):
    places = np.random.default_rng(7).normal(size=(N_CELLS, 2))
    places[4] = np.nan
    return save(with_places(places), folder)


@kind
def places_all_the_same(folder):
    return save(with_places(np.ones((N_CELLS, 2))), folder)


@kind
def places_of_one_axis(folder):
    return save(with_places(np.arange(N_CELLS, dtype=float)[:, None]), folder)


@kind
def features_of_unknown_types(folder):
    adata = cells()
    adata.var["feature_types"] = ["GEX"] * 30 + ["ATAC"] * 10
    return save(adata, folder)


@kind
def samples(folder):
    """Good cells of four samples, two a condition; columns that can be no batch, sample or condition beside them."""
    adata, n_cells = cells(), np.arange(N_CELLS)
    adata.obs["sample"] = [f"s{cell % 4}" for cell in n_cells]
    adata.obs["stim"] = np.where(n_cells % 4 < 2, "ctrl", "stim")
    adata.obs["lane"] = n_cells % 4 < 2
    adata.obs["kit"] = adata.obs["label"].map({"T cell": "v2", "B cell": "v3"})
    adata.obs["site"] = "here"
    adata.obs["barcode"] = adata.obs_names
    adata.obs["age"] = np.where(n_cells < 3, np.nan, 30.0 + n_cells % 2)
    adata.obs["few"] = np.where(n_cells < 3, "three", np.where(n_cells % 2, "a", "b"))
    return save(adata, folder)
