"""Backed cells: matrices of a file that are read out of core, in blocks of cells."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Int

from cellmodel.core.arrays import CellByGene
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import Matrices, ReadConfig, check_slots, matrix_name
from cellmodel.io.formats.anndata import check_is_anndata, check_transpose, open_zarr
from cellmodel.io.guard import (
    check_declared,
    check_hdf5,
    check_there,
    could_hold,
    damage_is_one_line,
    quiet_names,
    refused_by_anndata,
)
from cellmodel.io.matrix import as_csr, gene_columns

if TYPE_CHECKING:
    from anndata import AnnData

KINDS: Final = (".h5ad", ".zarr")
ENTRIES: Final = 8_000_000  # stored entries of a block, about: 64 MB
MOST_ROWS: Final = 16_384
ENTRY_BYTES: Final = 4  # of an entry, at least
_VERSIONS: Final = {"csr_matrix": "0.1.0", "array": "0.2.0"}  # of the encodings that are read here


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredMatrix:
    """A matrix of a file, read in blocks of cells."""

    path: Path  # path, place: the file, and the matrix inside it: ``X``, ``layers/counts``, ``raw/X``
    place: str
    shape: tuple[int, int]  # cells and genes
    n_stored: int  # entries that are stored
    columns: Int[np.ndarray, " gene"]  # which of its columns are the genes

    @property
    def name(self) -> str:
        """What a user calls the matrix."""
        return matrix_name(self.place)

    def blocks(self) -> Iterator[CellByGene]:
        """Give the cells in their order, as float32 without stored zeros.

        Raises ``InputUnusable`` if the file is damaged.
        """
        n_cells = self.shape[0]
        per_row = max(1, self.n_stored // max(n_cells, 1))
        n_rows = int(np.clip(ENTRIES // per_row, 1, MOST_ROWS))
        yield from self.parts((start, min(start + n_rows, n_cells)) for start in range(0, n_cells, n_rows))

    def parts(self, ranges: Iterable[tuple[int, int]]) -> Iterator[CellByGene]:
        """Give ranges of cells, each from a first to before a last one; see :meth:`blocks`."""
        with damage_is_one_line(self.path), _open(self.path) as file:
            rows = _rows(file[self.place])
            for start, end in ranges:
                read = rows[start:end]
                if sp.issparse(read):
                    read.check_format(full_check=True)
                block = as_csr(read, where=f"{self.name} of {self.path}")
                if len(self.columns) < block.shape[1]:
                    block = block[:, self.columns]
                block.eliminate_zeros()
                block.sort_indices()
                yield block


def count_entries(path: Path, read: ReadConfig) -> int:
    """Count the entries of the largest matrix that a run may read; 0 where the file cannot be read in blocks."""
    if path.suffix not in KINDS:
        return 0
    try:
        with damage_is_one_line(path), open_stored(path) as file:
            found = max(_n_stored(file[place]) for place in _matrices(path, file).candidates(read))
            return found if could_hold(path, ENTRY_BYTES * found) else 0
    except InputUnusable:
        return 0  # the reader of whole files says what is wrong


def check_can_stay(path: Path) -> None:
    """Check that cells are in a kind of file that can be read in blocks.

    Raises ``InputUnusable`` if they are not.
    """
    if path.suffix not in KINDS:
        raise InputUnusable(f"{path}: only {' and '.join(KINDS)} can be read out of core; give --out-of-core no")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BackedFile:
    """A cell file that has been opened and checked: its tables, and how its matrices are read."""

    path: Path
    adata: "AnnData"  # obs and var, without any matrix: where results are put before they are written
    raw_var: Any  # table of the genes of ``.raw``; None where it has none
    matrices: Matrices
    places: tuple[str, ...]  # matrices that may be used, first choice first

    def matrix(self, place: str) -> StoredMatrix:
        """Describe a matrix of the file.

        Raises ``InputUnusable`` if it is not stored by rows, or does not fit to the tables.
        """
        with damage_is_one_line(self.path), _open(self.path) as file:
            return _stored(self, file[place], place)


def open_backed(path: Path, read: ReadConfig) -> BackedFile:
    """Open a file for cells that stay backed, and check it once for all later passes.

    Raises ``InputUnusable`` if the file is of a kind that cannot be read in blocks, is damaged, lacks what was asked
    for, or stores a matrix that may be used by columns.
    """
    import anndata

    check_can_stay(path)
    check_transpose(path, transpose=read.transpose)
    with damage_is_one_line(path), open_stored(path) as file:
        check_is_anndata(path, file)
        matrices = _matrices(path, file)
        check_declared(path, file, stay=("X", "layers", "raw/X", "obsm", "obsp", "varm", "varp", "uns"))
        with quiet_names():
            adata = anndata.AnnData(obs=_read_table(path, file, "obs"), var=_read_table(path, file, "var"))
        raw_var = _read_table(path, file, "raw/var") if "raw/var" in file else None
        if not adata.n_obs or not adata.n_vars:
            raise InputUnusable(f"{path} holds {adata.n_obs} cells x {adata.n_vars} genes; is it empty?")
        found = BackedFile(
            path=path, adata=adata, raw_var=raw_var, matrices=matrices, places=tuple(matrices.candidates(read))
        )
        for place in found.places:
            _stored(found, file[place], place)
    return found


def claim_stored_slots(path: Path, slots: Sequence[tuple[str, str]], *, overwrite: bool) -> None:
    """Check that slots of a file are free, before any work is done.

    Raises ``KeyUnusable``, ``SlotTaken``: see :func:`cellmodel.io.cells.check_slots`.
    """
    with damage_is_one_line(path), open_stored(path) as file:
        taken = [(part, key) for part, key in slots if part in file and key in file[part]]
        indexes = {part: file[part].attrs.get("_index") for part in ("obs", "var") if part in file}
    check_slots(slots, taken, indexes=indexes, overwrite=overwrite)


def read_coordinates(path: Path, adata: "AnnData") -> None:
    """Read ``obsm["spatial"]`` of a file into the AnnData of its tables, where there is one.

    Raises ``InputUnusable`` if the file is damaged.
    """
    with damage_is_one_line(path), open_stored(path) as file:
        if "obsm" in file and "spatial" in file["obsm"]:
            adata.obsm["spatial"] = _read_table(path, file, "obsm/spatial")


def _read_table(path: Path, file: Any, place: str) -> Any:
    from anndata.io import read_elem

    with quiet_names(), refused_by_anndata(path):
        return read_elem(file[place])


@contextmanager
def open_stored(path: Path) -> Iterator[Any]:
    """Open an h5ad or a zarr store for reading, and check that it is one and holds all of its parts."""
    check_there(path, kinds=" or ".join(KINDS))
    if path.suffix == ".zarr":
        yield open_zarr(path)
    else:
        check_hdf5(path)
        with _open(path) as file:
            yield file


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open a file that has been checked."""
    if path.suffix == ".zarr":
        import zarr

        yield zarr.open_group(path, mode="r")
        return
    import h5py

    with h5py.File(path) as file:
        yield file


def _matrices(path: Path, file: Any) -> Matrices:
    layers = tuple(file["layers"]) if "layers" in file else ()
    return Matrices(source=str(path), layers=layers, has_x="X" in file, has_raw="raw/X" in file)


def _stored(backed: BackedFile, element: Any, place: str) -> StoredMatrix:
    path = backed.path
    encoding = str(element.attrs.get("encoding-type", "" if hasattr(element, "keys") else "array"))
    version = str(element.attrs.get("encoding-version", _VERSIONS.get(encoding, "")))
    if encoding not in _VERSIONS or version != _VERSIONS[encoding]:
        newer = f" in version {version}" if encoding in _VERSIONS else ""
        raise InputUnusable(
            f"{path}: {place} is stored as {encoding or 'an old format'}{newer}, which cannot be read cell by cell; "
            "write it again with X as CSR (adata.X = adata.X.tocsr()), or give --out-of-core no"
        )
    table = backed.raw_var if place == "raw/X" and backed.raw_var is not None else backed.adata.var
    n_cells = backed.adata.n_obs
    shape = tuple(int(size) for size in np.ravel(element.attrs["shape"] if encoding == "csr_matrix" else element.shape))
    if shape != (n_cells, len(table)):
        raise InputUnusable(
            f"{path}: {place} has the shape {shape}, but the tables name {n_cells:,} cells and {len(table):,} genes; "
            "the file is damaged, copy or write it again"
        )
    columns = gene_columns(table, source=str(path))
    return StoredMatrix(
        path=path, place=place, shape=(n_cells, len(columns)), n_stored=_n_stored(element), columns=columns
    )


def _n_stored(element: Any) -> int:
    array = element["data"] if hasattr(element, "keys") else element
    if hasattr(array, "keys"):
        raise ValueError("the data of a matrix are no list")
    return math.prod(array.shape)


def _rows(element: Any) -> Any:
    """Give what can be sliced by rows."""
    from anndata.io import sparse_dataset

    return sparse_dataset(element) if element.attrs.get("encoding-type") == "csr_matrix" else element
