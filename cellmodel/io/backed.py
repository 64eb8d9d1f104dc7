"""Cells in a file of which some at a time are in memory: which matrix of it is used, and what it holds."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Int

from cellmodel.core.errors import InputUnusable
from cellmodel.core.types import CellByGene
from cellmodel.io.cells import ReadConfig, check_slots
from cellmodel.io.formats.anndata import check_is_anndata, check_transpose, open_zarr
from cellmodel.io.guard.declared_sizes import check_declared, could_hold
from cellmodel.io.guard.read_errors import check_hdf5, check_there, damage_is_one_line, quiet_names, refused_by_anndata
from cellmodel.io.matrix import as_csr, gene_columns
from genekb.core.messages import known_names

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
        part, _, rest = self.place.partition("/")
        return {"X": "X", "raw": ".raw"}.get(part, f"layer {rest!r}")

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
        with damage_is_one_line(self.path), open_stored(self.path) as file:
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
            found = max((_n_stored(file[place]) for place in _candidates(path, file, read)), default=0)
            return found if could_hold(path, ENTRY_BYTES * found) else 0
    except InputUnusable:
        return 0  # the reader of whole files says what is wrong


def check_can_stay(path: Path) -> None:
    """Check that cells are in a kind of file that can be read in blocks.

    Raises ``InputUnusable`` if they are not.
    """
    if path.suffix not in KINDS:
        raise InputUnusable(f"{path}: only {' and '.join(KINDS)} can be read out of core; give --out-of-core no")


def stored_matrices(path: Path, read: ReadConfig) -> list[StoredMatrix]:
    """List the matrices that may be used, first choice first; see :func:`cellmodel.io.cells.cells_from_anndata`.

    Raises ``InputUnusable`` if the file is of a kind that cannot be read in blocks, is damaged, lacks what was asked
    for, or stores the matrix by columns.
    """
    check_can_stay(path)
    check_transpose(path, transpose=read.transpose)
    with damage_is_one_line(path), open_stored(path) as file:
        check_is_anndata(path, file)
        places = _candidates(path, file, read)
        check_declared(path, file, stay=("X", "layers", "raw/X", "obsm", "obsp", "varm", "varp", "uns"))
        tables = {"X": read_table(path, file, "var")}
        if "raw/var" in file:
            tables["raw"] = read_table(path, file, "raw/var")
        n_cells = len(read_table(path, file, "obs"))
        if not n_cells or not len(tables["X"]):
            raise InputUnusable(f"{path} holds {n_cells} cells x {len(tables['X'])} genes; is it empty?")
        if not places:
            layers = ", ".join(file["layers"]) if "layers" in file else ""
            raise InputUnusable(f"{path} has no X; name a layer with --layer ({layers or 'it has none'})")
        return [_stored(path, file, place, tables=tables, n_cells=n_cells) for place in places]


def read_tables(path: Path) -> "AnnData":
    """Read obs and var, and nothing else: where results are put before they are written.

    Raises ``InputUnusable`` if the file is damaged.
    """
    import anndata

    with damage_is_one_line(path), open_stored(path) as file, quiet_names():
        return anndata.AnnData(obs=read_table(path, file, "obs"), var=read_table(path, file, "var"))


def claim_stored_slots(path: Path, slots: Sequence[tuple[str, str]], *, overwrite: bool) -> None:
    """Check that slots of a file are free, before any work is done.

    Raises ``KeyUnusable``, ``SlotTaken``: see :func:`cellmodel.io.cells.check_slots`.
    """
    with damage_is_one_line(path), open_stored(path) as file:
        taken = [(part, key) for part, key in slots if part in file and key in file[part]]
        indexes = {part: file[part].attrs.get("_index") for part in ("obs", "var") if part in file}
    check_slots(slots, taken, indexes=indexes, overwrite=overwrite)


def read_table(path: Path, file: Any, place: str) -> Any:
    """Read obs or var of an open file."""
    from anndata.io import read_elem

    with quiet_names(), refused_by_anndata(path):
        return read_elem(file[place])


@contextmanager
def open_stored(path: Path) -> Iterator[Any]:
    """Open an h5ad or a zarr store for reading."""
    check_there(path, kinds=" or ".join(KINDS))
    if path.suffix == ".zarr":
        yield open_zarr(path)
        return
    import h5py

    check_hdf5(path)
    with h5py.File(path) as file:
        yield file


def _candidates(path: Path, file: Any, read: ReadConfig) -> list[str]:
    if read.layer is not None:
        layers = list(file.get("layers", ()))
        if read.layer not in layers:
            raise InputUnusable(f"{path} has no layer {read.layer!r} (it has: {known_names(read.layer, layers)})")
        return [f"layers/{read.layer}"]
    if read.use_raw:
        if "raw/X" not in file:
            raise InputUnusable(f"{path} has no .raw; leave --use-raw out")
        return ["raw/X"]
    return [place for place in ("layers/counts", "X", "raw/X") if place in file]


def _stored(path: Path, file: Any, place: str, *, tables: Mapping[str, Any], n_cells: int) -> StoredMatrix:
    element = file[place]
    encoding = str(element.attrs.get("encoding-type", "" if hasattr(element, "keys") else "array"))
    version = str(element.attrs.get("encoding-version", _VERSIONS.get(encoding, "")))
    if encoding not in _VERSIONS or version != _VERSIONS[encoding]:
        newer = f" in version {version}" if encoding in _VERSIONS else ""
        raise InputUnusable(
            f"{path}: {place} is stored as {encoding or 'an old format'}{newer}, which cannot be read cell by cell; "
            "write it anew with X as CSR (adata.X = adata.X.tocsr()), or give --out-of-core no"
        )
    table = tables["raw" if place.startswith("raw") else "X"]
    shape = tuple(int(size) for size in np.ravel(element.attrs["shape"] if encoding == "csr_matrix" else element.shape))
    if shape != (n_cells, len(table)):
        raise InputUnusable(
            f"{path}: {place} has the shape {shape}, but the tables name {n_cells:,} cells and {len(table):,} genes; "
            "the file is damaged, copy or write it again"
        )
    columns = gene_columns(table, source=str(path))
    return StoredMatrix(
        path=path,
        place=place,
        shape=(n_cells, len(columns)),
        n_stored=_n_stored(element),
        columns=columns,
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
