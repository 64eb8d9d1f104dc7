"""Cell files of every kind → AnnData; a file that cannot be read gives one line that says why and what to do."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import scipy.sparse as sp

from cellmodel.core.errors import InputUnusable
from cellmodel.io.formats.mudata import cells_group, find_modality, modality_note, with_common_obs
from cellmodel.io.formats.tables import read_table
from cellmodel.io.formats.tenx import read_10x_folder, read_10x_h5
from cellmodel.io.guard import (
    KINDS,
    check_declared,
    check_enclosed_folder,
    check_hdf5,
    check_there,
    damage_is_one_line,
    quiet_names,
    refused_by_anndata,
)

if TYPE_CHECKING:
    from anndata import AnnData

_TEXT: Final = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
# Kinds of other programs, and how to come from them to one that is read
_OTHERS: Final = {
    ".xlsx": "save the sheet as .csv",
    ".xls": "save the sheet as .csv",
    ".rds": "write it as .h5ad in R (zellkonverter, sceasy)",
    ".rdata": "write it as .h5ad in R (zellkonverter, sceasy)",
    ".h5seurat": "write it as .h5ad in R (SeuratDisk)",
    ".mtx": "give its folder, with barcodes.tsv and features.tsv beside it",
    ".zip": "unpack it first",
    ".tar": "unpack it first",
}


def read_anndata(path: Path, *, transpose: bool = False) -> "AnnData":
    """Read a file or folder of cells, whatever its kind; ``transpose``: a text table has genes in its rows."""
    check_there(path, kinds=KINDS)
    reader = _find_reader(path, transpose=transpose)
    with damage_is_one_line(path), quiet_names():
        adata = reader(path)
        _check_indices(adata)
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise InputUnusable(f"{path} holds {adata.n_obs} cells x {adata.n_vars} genes; is it empty?")
    return adata


def _find_reader(path: Path, *, transpose: bool) -> "Callable[[Path], AnnData]":
    name = path.name.lower().removesuffix(".gz")
    suffix = next((each for each in _TEXT if name.endswith(each)), None)
    if suffix is not None and not path.is_dir():
        return lambda table: read_table(table, _TEXT[suffix], transpose=transpose)
    check_transpose(path, transpose=transpose)
    readers: dict[str, Callable[[Path], AnnData]] = {
        ".h5ad": _read_h5ad,
        ".h5mu": _read_h5ad,
        ".zarr": _read_zarr,
        ".h5": read_10x_h5,
        ".loom": _read_loom,
    }
    for ending, reader in readers.items():
        if name.endswith(ending):
            return reader
    if path.is_dir():
        return read_10x_folder
    for ending, hint in _OTHERS.items():
        if name.endswith(ending):
            raise InputUnusable(f"{path} is of a kind that is not read; {hint}, or give {KINDS}")
    raise InputUnusable(f"{path} is of a kind that is not known; give {KINDS}")


def check_transpose(path: Path, *, transpose: bool) -> None:
    """Refuse to transpose anything but a text table."""
    if transpose:
        raise InputUnusable(
            f"{path} is no text table, and transpose=True turns .csv and .tsv alone; leave it out, or turn the cells "
            "before: adata.T.write('turned.h5ad')"
        )


def _check_indices(adata: "AnnData") -> None:
    """Raise ValueError if an index points out of its matrix: scipy believes indices, and would end the process."""
    for matrix in (adata.X, *adata.layers.values(), None if adata.raw is None else adata.raw.X):
        if sp.issparse(matrix):
            matrix.check_format(full_check=True)


def check_is_anndata(path: Path, file: Any) -> None:
    """Check that an open HDF5 file or zarr store has the tables of cells and of genes."""
    if "obs" in file and "var" in file:
        return
    have = ", ".join(sorted(file)[:5]) or "nothing"
    hint = "write it as .h5ad with anndata"
    if "matrix" in file:
        hint = "a 10x file is named .h5"
    raise InputUnusable(f"{path} is no AnnData: it lacks obs or var (it has: {have}); {hint}")


def _read_h5ad(path: Path) -> "AnnData":
    import anndata
    import h5py

    check_hdf5(path)
    with h5py.File(path) as file:
        if find_modality(path, file):
            return _read_modality(path, file)
        check_is_anndata(path, file)
        check_declared(path, file)
    with refused_by_anndata(path):
        return anndata.read_h5ad(path)


def _read_zarr(path: Path) -> "AnnData":
    import anndata

    file = open_zarr(path)
    with refused_by_anndata(path):
        if find_modality(path, file):
            return _read_modality(path, file)
        check_is_anndata(path, file)
        check_declared(path, file)
        return anndata.read_zarr(file)


def _read_modality(path: Path, file: Any) -> "AnnData":
    """Read the modality of an open MuData that holds the genes."""
    from anndata.io import read_elem

    group = cells_group(path, file)
    check_is_anndata(path, group)
    check_declared(path, group)
    with refused_by_anndata(path):
        adata = read_elem(group)
        adata.obs = with_common_obs(path, adata.obs, file)
    return adata


@contextmanager
def open_file(path: Path) -> Iterator[Any]:
    """Open an .h5ad, .h5mu, .h5 or .zarr that has been checked."""
    if path.suffix == ".zarr":
        import zarr

        yield zarr.open_group(path, mode="r")
        return
    import h5py

    with h5py.File(path) as file:
        yield file


def notes_on(path: Path) -> tuple[str, ...]:
    """Say which modality of a file that can be read is used; nothing for a file of another kind than MuData."""
    if path.suffix not in {".h5ad", ".h5mu", ".zarr"}:
        return ()
    with damage_is_one_line(path), open_file(path) as file:
        return modality_note(path, file)


def column_names(path: Path, part: str) -> list[str]:
    """Names of the columns of ``obs`` or ``var`` of an .h5ad, .h5mu or .zarr, without reading anything else."""
    with open_file(path) as file:
        return list(cells_group(path, file)[part].attrs["column-order"])


def open_zarr(path: Path) -> Any:
    """Open a zarr store without external links, every array of which has a description that can be read."""
    import zarr

    _check_zarr(path)
    with refused_by_anndata(path):  # zarr too raises TypeError at what it does not know
        group = zarr.open_group(path, mode="r")
        deque(group.members(max_depth=None), maxlen=0)
    return group


def _check_zarr(path: Path) -> None:
    if not path.is_dir():
        raise InputUnusable(f"{path} is a file, a zarr store is a folder; unpack it if it is an archive")
    if not any((path / name).is_file() for name in (".zgroup", "zarr.json")):
        raise InputUnusable(f"{path} lacks .zgroup or zarr.json, so it is no zarr store; copy the whole folder again")
    check_enclosed_folder(path)


def _read_loom(path: Path) -> "AnnData":
    import importlib.util

    import h5py

    check_hdf5(path)
    with h5py.File(path) as file:
        check_declared(path, file)
        if len(getattr(file.get("matrix"), "shape", ())) != 2:  # noqa: PLR2004 - genes and cells
            raise InputUnusable(f"{path} is no loom file: it has no matrix of genes and cells; convert it to .h5ad")
    if importlib.util.find_spec("loompy") is None:
        raise InputUnusable(
            f"{path}: reading .loom needs the package loompy; pip install loompy, or convert it to .h5ad"
        )
    import anndata

    with refused_by_anndata(path):
        return anndata.io.read_loom(path)
