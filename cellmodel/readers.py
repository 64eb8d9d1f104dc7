"""Cell files of every kind → AnnData; a file that cannot be read gives one line that says why and what to do."""

import csv
import gzip
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import numpy as np
import scipy.sparse as sp

from cellmodel.errors import InputUnusable

if TYPE_CHECKING:
    from anndata import AnnData

KINDS: Final = ".h5ad, .zarr, 10x .h5, a 10x folder with matrix.mtx, .csv, .tsv or .loom"
_UNREADABLE: Final = (OSError, EOFError, KeyError, ValueError, RuntimeError, IndexError, csv.Error, zlib.error)


def read_anndata(path: Path, *, transpose: bool = False) -> "AnnData":
    """Read a file or folder of cells, whatever its kind.

    Parameters
    ----------
    transpose
        Whether a text table has genes in its rows.

    Raises
    ------
    InputUnusable
        If it is missing, of an unknown kind, or damaged.
    """
    if not path.exists():
        raise InputUnusable(f"{path} does not exist; give {KINDS}")
    reader = _find_reader(path, transpose=transpose)
    with damage_is_one_line(path), quiet_names():
        adata = reader(path)
        _check_indices(adata)
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise InputUnusable(f"{path} holds {adata.n_obs} cells x {adata.n_vars} genes; is it empty?")
    return adata


def _find_reader(path: Path, *, transpose: bool) -> "Callable[[Path], AnnData]":
    name = path.name.lower().removesuffix(".gz")
    if path.is_dir() and not name.endswith(".zarr"):
        return _read_10x_folder
    readers: dict[str, Callable[[Path], AnnData]] = {
        ".h5ad": _read_h5ad,
        ".zarr": _read_zarr,
        ".h5": _read_10x_h5,
        ".csv": lambda table: _read_text(table, ",", transpose=transpose),
        ".tsv": lambda table: _read_text(table, "\t", transpose=transpose),
        ".txt": lambda table: _read_text(table, "\t", transpose=transpose),
        ".loom": _read_loom,
    }
    for suffix, reader in readers.items():
        if name.endswith(suffix):
            return reader
    raise InputUnusable(f"{path} is of a kind that is not known; give {KINDS}")


@contextmanager
def damage_is_one_line(path: Path) -> Iterator[None]:
    """Say in one line that a file cannot be read; no code of ours that may fail otherwise runs inside."""
    try:
        yield
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputUnusable(
            f"{path} cannot be read ({reason}); is it complete, and of the kind its name says?"
        ) from error


@contextmanager
def _refused_by_anndata() -> Iterator[None]:
    """Raise ValueError for what anndata raises at content that it does not know; no code of ours runs inside."""
    from anndata._io.specs.registry import IORegistryError  # it has no public name

    try:
        yield
    except (TypeError, AttributeError, IORegistryError) as error:
        raise ValueError(str(error)) from error


def _check_indices(adata: "AnnData") -> None:
    """Raise ValueError if an index points out of its matrix: scipy believes indices, and would end the process."""
    for matrix in (adata.X, *adata.layers.values(), None if adata.raw is None else adata.raw.X):
        if sp.issparse(matrix):
            matrix.check_format(full_check=True)


@contextmanager
def quiet_names() -> Iterator[None]:
    """Names that occur twice, and files of old anndata, are reported by us, not by warnings."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*names are not unique", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*written without encoding metadata")
        warnings.filterwarnings("ignore", message=".*was written with a very old version of AnnData")
        warnings.filterwarnings("ignore", message="Moving element from")
        yield


def _read_h5ad(path: Path) -> "AnnData":
    import anndata
    import h5py

    if not h5py.is_hdf5(path):
        raise InputUnusable(f"{path} is no HDF5 file, or is cut off; copy or download it again")
    with _refused_by_anndata():
        return anndata.read_h5ad(path)


def _read_zarr(path: Path) -> "AnnData":
    import anndata

    with _refused_by_anndata():
        return anndata.read_zarr(path)


def _read_loom(path: Path) -> "AnnData":
    import importlib.util

    if importlib.util.find_spec("loompy") is None:
        raise InputUnusable(
            f"{path}: reading .loom needs the package loompy; pip install loompy, or convert it to .h5ad"
        )
    import anndata

    return anndata.io.read_loom(path)


def _read_10x_h5(path: Path) -> "AnnData":
    """10x HDF5 of Cell Ranger 3 and later (group ``matrix``), and of Cell Ranger 2 (one group a genome)."""
    import h5py

    if not h5py.is_hdf5(path):
        raise InputUnusable(f"{path} is no HDF5 file, or is cut off; copy or download it again")
    with h5py.File(path) as file:
        groups = [key for key in file if isinstance(file[key], h5py.Group) and "indptr" in file[key]]
        if not groups:
            raise InputUnusable(f"{path} is no 10x file: no group of it holds a sparse matrix; give {KINDS}")
        if len(groups) > 1:
            raise InputUnusable(f"{path} holds several genomes ({', '.join(groups)}); split it, one genome a file")
        group = file[groups[0]]
        n_genes, n_cells = (int(size) for size in group["shape"][:])
        arrays = (group["data"][:], group["indices"][:], group["indptr"][:])
        barcodes = _strings(group["barcodes"])
        features = group.get("features")
        names = _strings(features["name"] if features is not None else group["gene_names"])
        ids = _strings(features["id"] if features is not None else group["genes"])
        types = _strings(features["feature_type"]) if features is not None else None
    matrix = sp.csr_matrix(arrays, shape=(n_cells, n_genes))
    matrix.check_format(full_check=True)
    return _assemble(matrix, barcodes, names, ids, types)


def _strings(dataset: "np.ndarray") -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in dataset[:]]


def _read_10x_folder(path: Path) -> "AnnData":
    """10x folder: matrix.mtx, barcodes.tsv, and features.tsv (Cell Ranger 3) or genes.tsv (2), gzipped or not.

    The three names may share a prefix, as in the folders of GEO: GSM1_matrix.mtx.gz.
    """
    from scipy.io import mmread

    prefix = _find_prefix(path)
    matrix = sp.csr_matrix(mmread(_member(path, f"{prefix}matrix.mtx")).T)
    barcodes = [row[0] for row in _rows(_member(path, f"{prefix}barcodes.tsv"))]
    features = _rows(_member(path, f"{prefix}features.tsv", f"{prefix}genes.tsv"))
    columns = min(len(row) for row in features)
    if matrix.shape != (len(barcodes), len(features)):
        raise InputUnusable(
            f"{path}: matrix.mtx has {matrix.shape[1]} features x {matrix.shape[0]} barcodes, the lists have "
            f"{len(features)} and {len(barcodes)}; are the three files of one run?"
        )
    names = [row[1] if columns > 1 else row[0] for row in features]
    types = [row[2] for row in features] if columns > 2 else None  # noqa: PLR2004 - third column of features.tsv
    return _assemble(matrix, barcodes, names, [row[0] for row in features], types)


def _find_prefix(folder: Path) -> str:
    """Find what stands before ``matrix.mtx``: nothing if there is one of just that name."""
    names = {file.name.removesuffix(".gz") for file in folder.iterdir()}
    prefixes = sorted(name.removesuffix("matrix.mtx") for name in names if name.endswith("matrix.mtx"))
    if not prefixes:
        raise InputUnusable(f"{folder} is a folder without matrix.mtx; give {KINDS}")
    if len(prefixes) > 1 and prefixes[0]:
        raise InputUnusable(f"{folder} holds several samples ({', '.join(prefixes)}); make a folder for each")
    return prefixes[0]


def _member(folder: Path, *names: str) -> Path:
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise InputUnusable(f"{folder} lacks {' or '.join(names)} (plain or .gz) beside matrix.mtx")


def _rows(path: Path) -> list[list[str]]:
    with _open_text(path) as stream:
        return [line.rstrip("\r\n").split("\t") for line in stream]


def _open_text(path: Path) -> TextIO:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _assemble(
    matrix: sp.csr_matrix, barcodes: list[str], names: list[str], ids: list[str], types: list[str] | None
) -> "AnnData":
    import anndata
    import pandas as pd

    var = pd.DataFrame({"gene_ids": ids}, index=pd.Index(names, dtype=str))
    if types is not None:
        var["feature_types"] = types
    return anndata.AnnData(matrix.astype(np.float32), obs=pd.DataFrame(index=pd.Index(barcodes, dtype=str)), var=var)


def _read_text(path: Path, separator: str, *, transpose: bool) -> "AnnData":
    """Table of numbers with a header and a first column of names; rows are cells unless ``transpose``."""
    import anndata
    import pandas as pd

    with _open_text(path) as stream:
        header = next(filter(None, csv.reader(stream, delimiter=separator)), [])  # pandas would number repeated names
        table = pd.read_csv(stream, sep=separator, header=None, converters={0: str}).set_index(0)
    n_names = table.shape[1]
    if len(header) - n_names not in {0, 1}:
        raise InputUnusable(f"{path}: the header has {len(header)} fields, the first row {n_names + 1}; is it cut off?")
    table = table.set_axis(header[len(header) - n_names :], axis=1)
    kinds = zip(table.columns, table.dtypes, strict=True)
    wrong = [str(name) for name, kind in kinds if not pd.api.types.is_numeric_dtype(kind)]
    if wrong:
        raise InputUnusable(
            f"{path}: column {wrong[0]!r} holds text ({len(wrong)} such columns); only numbers may follow"
        )
    table = table.T if transpose else table
    return anndata.AnnData(
        sp.csr_matrix(table.to_numpy(dtype=np.float32)),
        obs=pd.DataFrame(index=table.index.astype(str)),
        var=pd.DataFrame(index=table.columns.astype(str)),
    )
