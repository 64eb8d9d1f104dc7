"""Backed cells: matrices of a file that are read out of core, in blocks of cells."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.core.arrays import CellBlocks, CellByGene
from cellmodel.core.errors import InputUnusable
from cellmodel.core.stages import Arrays, InputStages, Stages
from cellmodel.io.cells import SAMPLE_KEY, Cells, FileRecord, Matrices, ReadConfig, matrix_name, stored_matrices
from cellmodel.io.formats.anndata import (
    WRITTEN_AS,
    cells_group,
    check_is_anndata,
    check_transpose,
    count_stored,
    find_matrices,
    open_file,
    open_stored,
    with_common_obs,
)
from cellmodel.io.formats.tenx import read_tables
from cellmodel.io.guard import (
    PARTS,
    check_declared,
    check_pointers,
    damage_is_one_line,
    quiet_names,
    refused_by_anndata,
)
from cellmodel.io.matrix import ValueKind, ValueReport, as_csr, gene_columns
from cellmodel.io.quality import CellQuality
from cellmodel.io.writers import check_slots

if TYPE_CHECKING:
    from anndata import AnnData

BACKED_ABOVE: Final = 10_000_000  # stored values of one file, above which it takes no longer to read it in blocks
ENTRIES: Final = 2_000_000  # stored entries of a block, about: 16 MB
MOST_ROWS: Final = 4_096
_SORTED_ENTRIES: Final = 2_000_000  # entries of a CSC matrix that are sorted by blocks of cells at a time
_VERSIONS: Final = {"csr_matrix": "0.1.0", "csc_matrix": "0.1.0", "array": "0.2.0"}  # encodings that are read here


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BackedMatrix:
    """A matrix of a file, read in blocks of cells."""

    path: Path  # path, place: the file, and the matrix: ``X``, ``layers/counts``, ``raw/X``
    place: str
    element: str  # where it is inside the file: ``place``, or a group of a 10x file
    shape: tuple[int, int]  # cells and genes
    n_stored: int  # entries that are stored
    n_columns: int  # in the file
    columns: Int[np.ndarray, " gene"]  # which of them are the genes
    by_cells: Path | None = None  # folder with the same matrix as CSR, where the file has CSC

    @property
    def name(self) -> str:
        """What a user calls the matrix."""
        return matrix_name(self.place)

    @property
    def block_cells(self) -> int:
        """Cells of a block."""
        return int(np.clip(ENTRIES // max(1, self.n_stored // max(self.shape[0], 1)), 1, MOST_ROWS))

    def blocks(self) -> Iterator[CellByGene]:
        """Give the cells in their order, as float32 without stored zeros."""
        n_cells, n_rows = self.shape[0], self.block_cells
        yield from self.parts((start, min(start + n_rows, n_cells)) for start in range(0, n_cells, n_rows))

    def parts(self, ranges: Iterable[tuple[int, int]]) -> Iterator[CellByGene]:
        """Give ranges of cells, each from a first to before a last one; see :meth:`blocks`."""
        with damage_is_one_line(self.path), _open_matrix(self) as stored:
            for start, end in ranges:
                read = _rows(stored, start, end, n_columns=self.n_columns)
                block = as_csr(read, where=f"{self.name} of {self.path}")
                if len(self.columns) < block.shape[1]:
                    block = block[:, self.columns]
                block.eliminate_zeros()
                block.sort_indices()
                yield block

    def entries(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Give cell, column and value of each entry of a CSC matrix, some at a time."""
        with damage_is_one_line(self.path), open_file(self.path) as file:
            stored = file[self.element]
            pointers = stored["indptr"][:].astype(np.int64)
            for start in range(0, self.n_stored, _SORTED_ENTRIES):
                end = min(start + _SORTED_ENTRIES, self.n_stored)
                rows = stored["indices"][start:end].astype(np.int64)
                if rows.min() < 0 or rows.max() >= self.shape[0]:
                    raise ValueError(f"an index of {self.place} points out of its {self.shape[0]:,} cells")
                columns = np.repeat(np.arange(self.n_columns), np.diff(np.clip(pointers, start, end)))
                yield rows, columns, stored["data"][start:end]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class JoinedMatrix:
    """Matrices of several files, one below the other, each read in blocks of cells."""

    matrices: tuple[CellBlocks, ...]
    columns: tuple[Int[np.ndarray, " gene"], ...]  # of each matrix, in the order of the genes

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return sum(matrix.shape[0] for matrix in self.matrices), len(self.columns[0])

    def blocks(self) -> Iterator[CellByGene]:
        """Give the cells in their order, as float32 without stored zeros."""
        for matrix, columns in zip(self.matrices, self.columns, strict=True):
            for block in matrix.blocks():
                yield take_columns(block, columns)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KeptMatrix:
    """Some of the cells of a backed matrix, in their order."""

    matrix: CellBlocks
    rows: Int[np.ndarray, " cell"]

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return len(self.rows), self.matrix.shape[1]

    def blocks(self) -> Iterator[CellByGene]:
        """Give the cells in their order, as float32 without stored zeros."""
        start = 0
        for block in self.matrix.blocks():
            inside = slice(*np.searchsorted(self.rows, [start, start + block.shape[0]]))
            if inside.stop > inside.start:
                yield block[self.rows[inside] - start]
            start += block.shape[0]


def take_columns(matrix: CellByGene, columns: Int[np.ndarray, " gene"]) -> CellByGene:
    """Take columns of a matrix in their order."""
    taken = matrix[:, columns]
    taken.sort_indices()
    return taken


def _rows(stored: Any, start: int, end: int, *, n_columns: int) -> Any:
    """Read some rows of a dense or a CSR matrix."""
    if not hasattr(stored, "keys"):
        return stored[start:end]
    pointers = stored["indptr"][start : end + 1].astype(np.int64)
    entries = slice(pointers[0], pointers[-1])
    data, indices = np.array(stored["data"][entries]), np.array(stored["indices"][entries])
    read = sp.csr_matrix((data, indices, pointers - pointers[0]), shape=(end - start, n_columns))
    read.check_format(full_check=True)
    return read


def _store_by_cells(matrix: BackedMatrix, arrays: Arrays) -> Mapping[str, Any]:
    """Keep a CSC matrix as CSR: its entries are sorted by blocks of cells first, and then within each block."""
    n_cells, n_rows, n_columns = matrix.shape[0], matrix.block_cells, matrix.n_columns
    counts = np.zeros(n_cells, dtype=np.int64)
    for rows, _, values in matrix.entries():
        counts += np.bincount(rows, minlength=n_cells)
        dtype = values.dtype
    indptr = np.append(0, np.cumsum(counts))
    arrays.save("indptr", indptr)
    # of an entry: its row within the block times the columns, and its column
    fits = n_rows * n_columns <= np.iinfo(np.int32).max
    keys = arrays.create("indices", shape=(matrix.n_stored,), dtype=np.int32 if fits else np.int64)
    data = arrays.create("data", shape=(matrix.n_stored,), dtype=dtype)
    free = indptr[:-1:n_rows].copy()  # first position of each block that is not taken
    for rows, columns, values in matrix.entries():
        blocks = rows // n_rows
        order, sizes = np.argsort(blocks, kind="stable"), np.bincount(blocks, minlength=len(free))
        at = np.repeat(free - np.cumsum(sizes) + sizes, sizes) + np.arange(len(rows))
        keys[at], data[at] = (rows % n_rows * n_columns + columns)[order], values[order]
        free += sizes
    for first, end in pairwise([*indptr[:-1:n_rows], indptr[-1]]):
        order = np.argsort(keys[first:end])
        keys[first:end], data[first:end] = keys[first:end][order] % n_columns, data[first:end][order]
    return {}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scan:
    """What one pass found."""

    report: ValueReport  # the kind of values, and in which range they lie
    depth: Float[np.ndarray, " cell"]  # (cell,) sum of the values
    totals: Float[np.ndarray, " gene"]  # (gene,) sum of the values
    n_genes: Int[np.ndarray, " cell"]  # (cell,) genes of which the value is above zero
    mito: Float[np.ndarray, " cell"]  # (cell,) sum of the values of mitochondrial genes
    n_cells: Int[np.ndarray, " gene"]  # (gene,) cells in which the value is above zero
    # mean, variance: (gene,) of the normalized values before the logarithm, the variance with divisor n - 1
    mean: Float[np.ndarray, " gene"]
    variance: Float[np.ndarray, " gene"]
    # batch_mean, batch_variance: the same within each batch; None where there is no batch key
    batch_mean: Float[np.ndarray, "batch gene"] | None = None
    batch_variance: Float[np.ndarray, "batch gene"] | None = None


# fields that cells in memory have, too
_SHARED: Final = ("names", "var_rows", "kind", "notes", "source", "files", "sample_key", "quality")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BackedCells:
    """Cells as :class:`cellmodel.io.cells.Cells`, but for a matrix that is read in blocks."""

    adata: "AnnData"  # obs and var, without any matrix
    matrix: CellBlocks
    scan: Scan  # what one pass over the matrix found
    names: tuple[str, ...]
    var_rows: Int[np.ndarray, " gene"] | None
    kind: ValueKind
    notes: tuple[str, ...]
    source: str
    files: tuple[FileRecord, ...] = ()
    sample_key: str = ""
    quality: CellQuality | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes that are used."""
        return self.matrix.shape


AnyCells = Cells | BackedCells


def cells_in_memory(cells: AnyCells) -> Cells:
    """Read the matrix of backed cells; their AnnData stays the same one."""
    if isinstance(cells, Cells):
        return cells
    return Cells(
        adata=cells.adata,
        matrix=sp.vstack(list(cells.matrix.blocks()), format="csr"),
        **{name: getattr(cells, name) for name in _SHARED},
    )


def check_in_blocks(path: Path) -> None:
    """Raise ``InputUnusable`` for files that cannot be read in blocks."""
    if path.suffix not in WRITTEN_AS:
        raise InputUnusable(
            f'{path}: only .h5ad, .h5mu, .zarr and 10x .h5 can be read out of core; give out_of_core="no"'
        )


def check_out_of_core(path: Path, output: Path) -> None:
    """Raise ``InputUnusable`` for files that cannot be read in blocks, and for an output of another kind."""
    check_in_blocks(path)
    if output.suffix != WRITTEN_AS[path.suffix]:
        raise InputUnusable(
            f"{output}: cells that are read out of core are written as they are; give a name that ends with "
            f'{WRITTEN_AS[path.suffix]}, or out_of_core="no"'
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BackedFile:
    """A cell file that has been opened and checked: its tables, and how its matrices are read."""

    path: Path
    adata: "AnnData"  # obs and var, without any matrix: where results are put before they are written
    raw_var: Any  # table of the genes of ``.raw``; None where it has none
    matrices: Matrices
    elements: Mapping[str, str]  # where each matrix is inside the file
    keys: Mapping[str, Sequence[str]]  # of each part of an AnnData, such as ``obsm``
    sample_key: str = ""  # column of obs with the samples, as a run of several files recorded it

    def matrix(self, place: str, stages: Stages | InputStages) -> BackedMatrix:
        """Describe a matrix of the file; one that is stored as CSC is kept as CSR in a stage."""
        with damage_is_one_line(self.path), open_file(self.path) as file:
            matrix, encoding = _describe(self, file, place)
        if encoding != "csc_matrix":
            return matrix
        stage = f"{place.replace('/', ' ')} by cells"
        stages.run(stage, lambda arrays: _store_by_cells(matrix, arrays))
        return replace(matrix, by_cells=stages.folder / stage)

    def load(self, places: Iterable[str]) -> None:
        """Read parts such as ``uns/cellmodel`` or ``obsm/X_umap`` into ``adata``; one that is not there is left out."""
        with damage_is_one_line(self.path), open_stored(self.path) as file:
            group = cells_group(self.path, file)
            for part, _, key in (place.partition("/") for place in places):
                if key in self.keys.get(part, ()):
                    getattr(self.adata, part)[key] = _read_element(self.path, group, f"{part}/{key}")

    def claim_slots(self, slots: Sequence[tuple[str, str]], *, overwrite: bool) -> None:
        """Check that slots are free, before any work is done; see :func:`cellmodel.io.writers.check_slots`."""
        taken = [(part, key) for part, key in slots if key in self.keys.get(part, ())]
        indexes = {"obs": self.adata.obs.index.name, "var": self.adata.var.index.name}
        check_slots(slots, taken, indexes=indexes, overwrite=overwrite)


def open_backed(path: Path, read: ReadConfig, *, obsm: Collection[str] = ()) -> BackedFile:
    """Open and check a file of backed cells; ``obsm``: parts of it that are read, where they are there."""
    check_transpose(path, transpose=read.transpose)
    with damage_is_one_line(path), open_stored(path) as file:
        elements = find_matrices(path, file)
        adata, raw_var = _read_10x(path, file, elements["X"]) if path.suffix == ".h5" else _read_tables(path, file)
        group = cells_group(path, file)
        keys = {part: tuple(group[part]) for part in ("obsm", "varm", "obsp", "varp", "uns") if part in group}
        for key in keys.get("obsm", ()):
            if key in obsm:
                adata.obsm[key] = _read_element(path, group, f"obsm/{key}")
        # as records.recorded_sample_key, and nothing else of the records
        places = (f"uns/{name}/input/{SAMPLE_KEY}" for name in sorted(keys.get("uns", ())))
        sample_keys = (str(_read_element(path, group, place)) for place in places if place in group)
        sample_key = next(filter(None, sample_keys), "")
        if not adata.n_obs or not adata.n_vars:
            raise InputUnusable(f"{path} holds {adata.n_obs} cells x {adata.n_vars} genes; is it empty?")
    return BackedFile(
        path=path,
        adata=adata,
        raw_var=raw_var,
        matrices=stored_matrices(path, elements),
        elements=elements,
        keys=keys | {"obs": tuple(adata.obs), "var": tuple(adata.var)},
        sample_key=sample_key,
    )


def _read_tables(path: Path, file: Any) -> "tuple[AnnData, Any]":
    """Read obs and var, and var of ``.raw`` or None, of an AnnData."""
    import anndata

    group = cells_group(path, file)
    check_is_anndata(path, group)
    check_declared(path, group, backed=("X", "layers", "raw/X", "obsm", "obsp", "varm", "varp", "uns"))
    with quiet_names():
        obs = with_common_obs(path, _read_element(path, group, "obs"), file)
        adata = anndata.AnnData(obs=obs, var=_read_element(path, group, "var"))
    return adata, _read_element(path, group, "raw/var") if "raw/var" in group else None


def _read_10x(path: Path, file: Any, group: str) -> "tuple[AnnData, None]":
    """Read barcodes and features of a 10x file, and check its pointers."""
    check_declared(path, file, backed=(f"{group}/data", f"{group}/indices"))
    with quiet_names():
        adata = read_tables(path, file[group])
    check_pointers(path, group, file[group], shape=adata.shape[::-1], by_columns=True)
    return adata, None


def _read_element(path: Path, file: Any, place: str) -> Any:
    from anndata.io import read_elem

    with quiet_names(), refused_by_anndata(path):
        return read_elem(file[place])


@contextmanager
def _open_matrix(matrix: BackedMatrix) -> Iterator[Any]:
    """Give a dense matrix, or data, indices and indptr of one that is stored as CSR."""
    if matrix.by_cells is not None:
        yield {name: np.load(matrix.by_cells / f"{name}.npy", mmap_mode="r") for name in PARTS}
        return
    with open_file(matrix.path) as file:
        yield file[matrix.element]


def _describe(backed: BackedFile, file: Any, place: str) -> tuple[BackedMatrix, str]:
    """Describe a matrix of a file, and give its encoding."""
    path, element = backed.path, file[backed.elements[place]]
    is_10x = path.suffix == ".h5"  # CSC of genes by cells, which is CSR of cells by genes
    default = "csr_matrix" if is_10x else "" if hasattr(element, "keys") else "array"
    encoding = str(element.attrs.get("encoding-type", default))
    version = str(element.attrs.get("encoding-version", _VERSIONS.get(encoding, "")))
    if encoding not in _VERSIONS or version != _VERSIONS[encoding]:
        newer = f" in version {version}" if encoding in _VERSIONS else ""
        raise InputUnusable(
            f"{path}: {place} is stored as {encoding or 'an old format'}{newer}, which cannot be read cell by cell; "
            'write it again with X as CSR (adata.X = adata.X.tocsr()), or give out_of_core="no"'
        )
    table = backed.raw_var if place == "raw/X" and backed.raw_var is not None else backed.adata.var
    n_cells = backed.adata.n_obs
    if is_10x:
        declared = backed.adata.shape  # checked against the file's own when the lists were read
    else:
        declared = element.shape if encoding == "array" else np.ravel(element.attrs["shape"])
    shape = tuple(int(size) for size in declared)
    if shape != (n_cells, len(table)):
        raise InputUnusable(
            f"{path}: {place} has the shape {shape}, but the tables name {n_cells:,} cells and {len(table):,} genes; "
            "the file is damaged, copy or write it again"
        )
    columns = gene_columns(table, source=str(path))
    matrix = BackedMatrix(
        path=path,
        place=place,
        element=backed.elements[place],
        shape=(n_cells, len(columns)),
        n_stored=count_stored(element),
        n_columns=len(table),
        columns=columns,
    )
    return matrix, encoding
