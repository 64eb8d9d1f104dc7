"""What Cell Ranger writes: HDF5 files, and folders with a matrix and two lists of names."""

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.sparse as sp

from cellmodel.core.errors import InputUnusable
from cellmodel.io.guard import check_declared, check_hdf5, could_hold, damage_is_one_line, open_text
from genekb.core.resources import in_units

if TYPE_CHECKING:
    from anndata import AnnData

_BLOCK_BYTES: Final = 1 << 20
_LEAST_ENTRY: Final = 4  # bytes of a line of a matrix file: a row, a column, what parts them, and the end


def read_10x_h5(path: Path) -> "AnnData":
    """Read HDF5 of Cell Ranger 3 and later (group ``matrix``), and of Cell Ranger 2 (one group a genome)."""
    import h5py

    check_hdf5(path)
    with h5py.File(path) as file:
        check_declared(path, file)
        group = file[find_group(path, file)]
        adata = read_tables(path, group)
        arrays = (_list(group, "data"), _list(group, "indices"), _list(group, "indptr"))
    matrix = sp.csr_matrix(arrays, shape=adata.shape)
    matrix.check_format(full_check=True)
    adata.X = matrix.astype(np.float32)
    return adata


def find_group(path: Path, file: Any) -> str:
    """Find the group of an open 10x file that holds the matrix: CSC of genes by cells, so CSR of cells by genes."""
    if "obs" in file and "var" in file:
        raise InputUnusable(f"{path} is an AnnData and no 10x file; let its name end with .h5ad")
    groups = [key for key in file if "indptr" in getattr(file[key], "keys", list)()]
    if not groups:
        have = ", ".join(list(file)[:5]) or "nothing"
        raise InputUnusable(
            f"{path} is no 10x file: no group of it holds a sparse matrix (it has: {have}); convert it to .h5ad"
        )
    if len(groups) > 1:
        raise InputUnusable(f"{path} holds several genomes ({', '.join(groups)}); split it, one genome a file")
    return groups[0]


def read_tables(path: Path, group: Any) -> "AnnData":
    """Read barcodes and features of the group of a matrix, as cells and genes without values."""
    n_genes, n_cells = (int(size) for size in _list(group, "shape"))
    barcodes = _strings(group, "barcodes")
    is_new = hasattr(group.get("features"), "keys")
    names = _strings(group, "features/name" if is_new else "gene_names")
    ids = _strings(group, "features/id" if is_new else "genes")
    types = _strings(group, "features/feature_type") if is_new else None
    _check_lists(path, (n_genes, n_cells), lists=(names, barcodes), matrix="its matrix")
    return _assemble(None, barcodes, names, ids, types)


def _list(group: Any, name: str) -> Any:
    if hasattr(group[name], "keys") or len(group[name].shape) != 1:
        raise ValueError(f"{name} is not one-dimensional")
    return group[name][:]


def _strings(group: Any, name: str) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in _list(group, name)]


def read_10x_folder(path: Path) -> "AnnData":
    """Read a folder: matrix.mtx, barcodes.tsv, and features.tsv (Cell Ranger 3) or genes.tsv (2), gzipped or not.

    The three names may share a prefix, as in the folders of GEO: GSM1_matrix.mtx.gz.
    """
    from scipy.io import mminfo, mmread

    prefix = _find_prefix(path)
    file = _member(path, f"{prefix}matrix.mtx")
    barcodes = [row[0] for row in _rows(_member(path, f"{prefix}barcodes.tsv"))]
    features = _rows(_member(path, f"{prefix}features.tsv", f"{prefix}genes.tsv"))
    with damage_is_one_line(file):
        n_genes, n_cells, n_entries, form, *_ = mminfo(file)
        _check_lists(path, (n_genes, n_cells), lists=(features, barcodes), matrix=file.name)
        if form == "coordinate":
            _check_entries(file, n_entries)
        _check_text(file)
        matrix = sp.csr_matrix(mmread(file, spmatrix=True).T)
    columns = min(len(row) for row in features)
    names = [row[1] if columns > 1 else row[0] for row in features]
    types = [row[2] for row in features] if columns > 2 else None  # noqa: PLR2004 - id, name, type
    return _assemble(matrix.astype(np.float32), barcodes, names, [row[0] for row in features], types)


def _check_lists(path: Path, shape: tuple[int, int], *, lists: tuple[list[Any], list[Any]], matrix: str) -> None:
    """Check that there are as many names as features and barcodes, before the matrix is read."""
    found = (len(lists[0]), len(lists[1]))
    if shape == found:
        return
    hint = "are all files of one run?"
    if shape == found[::-1]:
        hint = "the matrix is the other way round, turn it: rows are features"
    elif all(0 <= more - n <= 1 for more, n in zip(found, shape, strict=True)):
        hint = "has a list a header? Take it out"
    raise InputUnusable(
        f"{path}: {matrix} has {shape[0]:,} features x {shape[1]:,} barcodes, the lists have {found[0]:,} and "
        f"{found[1]:,}; {hint}"
    )


def _check_entries(file: Path, n_entries: int) -> None:
    """Check that a matrix file can hold the entries that it declares: room is made for all before any is read."""
    n_bytes, size = _LEAST_ENTRY * n_entries, file.stat().st_size
    if n_bytes > size and not (file.suffix == ".gz" and could_hold(file, n_bytes)):
        raise InputUnusable(
            f"{file} declares {n_entries:,} entries, which {in_units(size)} cannot hold; it is cut off or damaged, "
            "copy it again"
        )


def _check_text(file: Path) -> None:
    """Raise ValueError at a NUL: scipy's parser looks for the end of the line behind it, and ends the process."""
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            if b"\0" in block:
                raise ValueError("it holds a NUL, so it is no text")


def _find_prefix(folder: Path) -> str:
    """Find what stands before ``matrix.mtx``: nothing if there is one of just that name."""
    names = {file.name.removesuffix(".gz") for file in folder.iterdir()}
    prefixes = sorted(name.removesuffix("matrix.mtx") for name in names if name.endswith("matrix.mtx"))
    if not prefixes:
        raise InputUnusable(f"{folder} is a folder without matrix.mtx; give a 10x folder, or name a zarr store .zarr")
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
    with damage_is_one_line(path), open_text(path) as stream:
        rows = [line.rstrip("\r\n").split("\t") for line in stream]
    if not rows:
        raise InputUnusable(f"{path} is empty; it holds one name a line, as Cell Ranger wrote it")
    return rows


def _assemble(
    matrix: sp.csr_matrix | None, barcodes: list[str], names: list[str], ids: list[str], types: list[str] | None
) -> "AnnData":
    import anndata
    import pandas as pd

    var = pd.DataFrame({"gene_ids": ids}, index=pd.Index(names, dtype=str))
    if types is not None:
        var["feature_types"] = types
    return anndata.AnnData(matrix, obs=pd.DataFrame(index=pd.Index(barcodes, dtype=str)), var=var)
