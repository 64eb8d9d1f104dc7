"""HDF5 files, zarr stores, slots and paths with something wrong in them; see tests/robust/bad_files/cells.py."""

import os

import h5py
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
    written,
)

# HDF5 and zarr


@kind
def index_out_of_range(folder):
    return changed(folder, lambda file: file["X/indices"].__setitem__(5, 4000))


@kind
def negative_index(folder):
    return changed(folder, lambda file: file["X/indices"].__setitem__(5, -3))


@kind
def falling_indptr(folder):
    return changed(folder, lambda file: file["X/indptr"].__setitem__(5, 1))


def with_entries(folder, more):
    """Write rows whose entries are in falling order of the genes, and before each row's end what is given for it."""
    values = sp.csr_matrix(counts())
    rows = [
        [(gene, count) for gene, count in zip(row.indices[::-1], row.data[::-1], strict=True)] + more(row)
        for row in values
    ]
    parts = {
        "data": np.float32([count for row in rows for _, count in row]),
        "indices": np.int32([gene for row in rows for gene, _ in row]),
        "indptr": np.int32(np.cumsum([0, *map(len, rows)])),
    }

    def change(file):
        for part, numbers in parts.items():
            replaced(file, f"X/{part}", numbers)

    return changed(folder, change)


@kind
def unsorted(folder):
    return with_entries(folder, lambda _: [])


@kind
def by_columns(folder):
    return save(cells(stored=sp.csc_matrix), folder)


@kind
def huge_dense(folder):
    """A matrix of terabytes of zeros, none of which is written."""

    def change(file):
        del file["X"]
        made = file.create_dataset("X", shape=(2_000_000, 2_000_000), dtype="f4", chunks=(1, 1000))
        made.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})

    return changed(folder, change)


@kind
def huge_sparse(folder):
    def change(file):
        for part in ("data", "indices"):
            kept = dict(file[f"X/{part}"].attrs)
            del file[f"X/{part}"]
            made = file["X"].create_dataset(part, shape=(10**12,), dtype="i4", chunks=(1000,))
            made.attrs.update(kept)
        file["X/indptr"][-1] = 10**9

    return changed(folder, change)


@kind
def huge_shape(folder):
    return changed(folder, lambda file: file["X"].attrs.__setitem__("shape", (10**12, 10**12)))


@kind
def huge_zarr(folder):
    import zarr

    path = save(cells(stored=np.asarray), folder, "cells.zarr")
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    del group["X"]
    made = group.create_array("X", shape=(2_000_000, 2_000_000), dtype="f4", chunks=(1, 1000))
    made.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    (path / ".zmetadata").unlink(missing_ok=True)
    return path


@kind
def newer_encoding(folder):
    return changed(folder, lambda file: file["X"].attrs.__setitem__("encoding-version", "9.9"))


@kind
def newer_encoding_of_a_table(folder):
    return changed(folder, lambda file: file["obs"].attrs.__setitem__("encoding-version", "9.9"))


@kind
def hdf5_of_something_else(folder):
    with h5py.File(folder / "cells.h5ad", "w") as file:
        file["weights"] = np.arange(9)
    return folder / "cells.h5ad"


@kind
def mudata(folder):
    with h5py.File(folder / "cells.h5ad", "w") as file:
        file.create_group("mod/rna")
    return folder / "cells.h5ad"


@kind
def empty_file(folder):
    return written(folder, "cells.h5ad")


@kind
def cut_off_h5ad(folder):
    content = save(cells(), folder).read_bytes()
    return written(folder, "cells.h5ad", content[: len(content) // 2])


@kind
def page_named_h5ad(folder):
    return written(folder, "cells.h5ad", b"<!DOCTYPE html><html><body>403 Forbidden</body></html>")


@kind
def folder_named_h5ad(folder):
    (folder / "cells.h5ad").mkdir()
    return folder / "cells.h5ad"


@kind
def zarr_without_metadata(folder):
    path = save(cells(), folder, "cells.zarr")
    for name in (".zgroup", ".zattrs", ".zmetadata", "zarr.json"):
        (path / name).unlink(missing_ok=True)
    return path


@kind
def zarr_without_a_chunk(folder):
    path = save(cells(), folder, "cells.zarr")
    for file in sorted((path / "X" / "indices").iterdir()):
        if not file.name.startswith((".", "zarr")):
            file.unlink() if file.is_file() else [part.unlink() for part in file.rglob("*") if part.is_file()]
    return path


def chunks_of(path, place):
    """Files with the values of an array of a zarr store."""
    files = sorted(file for file in (path / place).rglob("*") if file.is_file())
    return [file for file in files if not file.name.startswith((".z", "zarr"))]


def moved_away(folder, file):
    """Move a part of a zarr store out of it, and put a link in its place."""
    (folder / "elsewhere").mkdir()
    file.rename(folder / "elsewhere" / file.name)
    file.symlink_to(folder / "elsewhere" / file.name)


@kind
def zarr_with_a_chunk_elsewhere(folder):
    path = save(cells(), folder, "cells.zarr")
    moved_away(folder, chunks_of(path, "X/data")[0])
    return path


@kind
def zarr_with_metadata_elsewhere(folder):
    path = save(cells(), folder, "cells.zarr")
    moved_away(folder, next(file for name in (".zgroup", "zarr.json") if (file := path / "obs" / name).is_file()))
    return path


@kind
def zarr_with_a_folder_that_leads_upwards(folder):
    path = save(cells(), folder, "cells.zarr")
    (path / "layers" / "all").symlink_to("..")
    return path


@kind
def zarr_with_a_pipe(folder):
    path = save(cells(), folder, "cells.zarr")
    chunk = chunks_of(path, "X/data")[0]
    chunk.unlink()
    os.mkfifo(chunk)
    return path


def with_array(folder, **settings):
    """Write cells with one more array in zarr, of zeros that are not stored."""
    import zarr

    path = save(cells(), folder, "cells.zarr")
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    group["layers"].create_array("odd", shape=(24, 40), dtype="f4", **settings)
    (path / ".zmetadata").unlink(missing_ok=True)
    return path


@kind
def zarr_that_decompresses(folder):
    import zarr
    from numcodecs import Zstd

    path = with_array(folder, chunks=(24, 40), compressors=Zstd())
    zarr.open_group(path, mode="r+", use_consolidated=False)["layers/odd"][:] = 1
    chunks_of(path, "layers/odd")[0].write_bytes(Zstd().encode(bytes(100_000_000)))
    return path


@kind
def zarr_of_a_huge_chunk(folder):
    return with_array(folder, chunks=(10**9, 10**4))


@kind
def seurat(folder):
    return written(folder, "cells.rds", b"X\n")


@kind
def loom(folder):
    return written(folder, "cells.loom", b"x")


@kind
def loom_without_a_matrix(folder):
    with h5py.File(folder / "cells.loom", "w") as file:
        file["row_attrs/Gene"] = ["CD3D", "LYZ"]
    return folder / "cells.loom"


@kind
def loom_of_another_file(folder):
    with h5py.File(folder / "elsewhere.h5", "w") as file:
        file["values"] = np.ones((2, 3))
    with h5py.File(folder / "cells.loom", "w") as file:
        file["matrix"] = h5py.ExternalLink("elsewhere.h5", "values")
    return folder / "cells.loom"


# Paths


@kind
def nothing_there(folder):
    return folder / "cells.h5ad"


@kind
def link_to_itself(folder):
    (folder / "cells.h5ad").symlink_to(folder / "cells.h5ad")
    return folder / "cells.h5ad"


@kind
def pipe(folder):
    os.mkfifo(folder / "cells.h5ad")
    return folder / "cells.h5ad"


@kind
def unreadable(folder):
    path = save(cells(), folder)
    path.chmod(0)
    return path


@kind
def output_into_a_locked_folder(folder):
    (folder / "locked").mkdir(mode=0o555)
    return save(cells(), folder)


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
