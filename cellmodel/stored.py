"""Cells in a file of which some at a time are in memory: which matrix of it is used, and what it holds."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Int

from cellmodel.errors import InputUnusable, SlotTaken
from cellmodel.io import ReadConfig
from cellmodel.matrices import gene_columns
from cellmodel.readers import damage_is_one_line, quiet_names
from cellmodel.types import CellByGene

if TYPE_CHECKING:
    from anndata import AnnData

KINDS: Final = (".h5ad", ".zarr")
ENTRIES: Final = 8_000_000  # stored entries of a block, about: 64 MB
MOST_ROWS: Final = 16_384


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredMatrix:
    """A matrix of a file, read in blocks of cells.

    Parameters
    ----------
    path, place
        The file, and the matrix inside it: ``X``, ``layers/counts``, ``raw/X``.
    shape
        Cells and genes.
    n_stored
        Entries that are stored.
    columns
        Which of its columns are the genes.
    """

    path: Path
    place: str
    shape: tuple[int, int]
    n_stored: int
    columns: Int[np.ndarray, " gene"]

    @property
    def name(self) -> str:
        """What a user calls the matrix."""
        part, _, rest = self.place.partition("/")
        return {"X": "X", "raw": ".raw"}.get(part, f"layer {rest!r}")

    def blocks(self) -> Iterator[CellByGene]:
        """Give the cells in their order, as float32 without stored zeros.

        Raises
        ------
        InputUnusable
            If the file is damaged.
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
                block = sp.csr_matrix(rows[start:end], dtype=np.float32)
                block.check_format(full_check=True)
                if len(self.columns) < block.shape[1]:
                    block = block[:, self.columns]
                block.eliminate_zeros()
                block.sort_indices()
                yield block


def count_entries(path: Path, read: ReadConfig) -> int:
    """Count the entries of the largest matrix that a run may read; 0 where the file cannot be read in blocks."""
    if path.suffix not in KINDS or not path.exists():
        return 0
    try:
        with open_stored(path) as file:
            return max((_n_stored(file[place]) for place in _candidates(path, file, read)), default=0)
    except (OSError, KeyError, ValueError):
        return 0  # the reader of whole files says what is wrong


def stored_matrices(path: Path, read: ReadConfig) -> list[StoredMatrix]:
    """List the matrices that may be used, first choice first; see :func:`cellmodel.io.cells_from_anndata`.

    Raises
    ------
    InputUnusable
        If the file is of a kind that cannot be read in blocks, is damaged, lacks what was asked for, or stores the
        matrix by columns.
    """
    if path.suffix not in KINDS:
        raise InputUnusable(f"{path}: only {' and '.join(KINDS)} can be read out of core; give --out-of-core no")
    if not path.exists():
        raise InputUnusable(f"{path} does not exist; give {' or '.join(KINDS)}")
    with damage_is_one_line(path), open_stored(path) as file:
        tables = {"X": read_table(file, "var"), "raw": read_table(file, "raw/var") if "raw/var" in file else None}
        return [_stored(path, file, place, tables) for place in _candidates(path, file, read)]


def read_tables(path: Path) -> "AnnData":
    """Read obs and var, and nothing else: where results are put before they are written.

    Raises
    ------
    InputUnusable
        If the file is damaged.
    """
    import anndata

    with damage_is_one_line(path), open_stored(path) as file, quiet_names():
        return anndata.AnnData(obs=read_table(file, "obs"), var=read_table(file, "var"))


def claim_stored_slots(path: Path, slots: Iterable[tuple[str, str]], *, overwrite: bool) -> None:
    """Check that slots of a file are free, before any work is done.

    Raises
    ------
    SlotTaken
        If one exists and ``overwrite`` is not set.
    """
    with damage_is_one_line(path), open_stored(path) as file:
        taken = [f'{part}["{key}"]' for part, key in slots if part in file and key in file[part]]
    if taken and not overwrite:
        raise SlotTaken(f"the cells already hold {', '.join(taken)}; use --overwrite, or another name with --key-added")


def read_table(file: Any, place: str) -> Any:
    """Read obs or var of an open file."""
    from anndata.io import read_elem

    with quiet_names():
        return read_elem(file[place])


@contextmanager
def open_stored(path: Path) -> Iterator[Any]:
    """Open an h5ad or a zarr store for reading."""
    if path.suffix == ".zarr":
        import zarr

        yield zarr.open_group(path, mode="r")
        return
    import h5py

    if not h5py.is_hdf5(path):
        raise InputUnusable(f"{path} is no HDF5 file, or is cut off; copy or download it again")
    with h5py.File(path) as file:
        yield file


def _candidates(path: Path, file: Any, read: ReadConfig) -> list[str]:
    if read.layer is not None:
        if "layers" not in file or read.layer not in file["layers"]:
            have = ", ".join(file["layers"]) if "layers" in file else "none"
            raise InputUnusable(f"{path} has no layer {read.layer!r} (it has: {have or 'none'})")
        return [f"layers/{read.layer}"]
    if read.use_raw:
        if "raw/X" not in file:
            raise InputUnusable(f"{path} has no .raw; leave --use-raw out")
        return ["raw/X"]
    return [place for place in ("layers/counts", "X", "raw/X") if place in file]


def _stored(path: Path, file: Any, place: str, tables: Mapping[str, Any]) -> StoredMatrix:
    element = file[place]
    encoding = element.attrs.get("encoding-type", "" if hasattr(element, "keys") else "array")
    if encoding not in {"csr_matrix", "array"}:
        raise InputUnusable(
            f"{path}: {place} is stored as {encoding or 'an old format'}, which cannot be read cell by cell; "
            "write it anew with X as CSR (adata.X = adata.X.tocsr()), or give --out-of-core no"
        )
    columns = gene_columns(tables["raw" if place.startswith("raw") else "X"])
    shape = tuple(int(size) for size in (element.attrs["shape"] if encoding == "csr_matrix" else element.shape))
    return StoredMatrix(
        path=path,
        place=place,
        shape=(shape[0], len(columns)),
        n_stored=_n_stored(element),
        columns=columns,
    )


def _n_stored(element: Any) -> int:
    return int(element["data"].shape[0]) if hasattr(element, "keys") else int(np.prod(element.shape))


def _rows(element: Any) -> Any:
    """Give what can be sliced by rows."""
    from anndata.io import sparse_dataset

    return sparse_dataset(element) if element.attrs.get("encoding-type") == "csr_matrix" else element
