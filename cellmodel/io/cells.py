"""Cells in: which matrix of a file is used, and what it holds."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np
from jaxtyping import Float, Int

from cellmodel.core.arrays import CellByGene
from cellmodel.core.errors import InputUnusable
from cellmodel.io.formats.anndata import WRITTEN_AS, count_stored, find_matrices, notes_on, open_stored, read_anndata
from cellmodel.io.guard import could_hold, damage_is_one_line
from cellmodel.io.matrix import (
    DECLARED_KINDS,
    USABLE,
    ValueKind,
    ValueReport,
    as_csr,
    decide_kind,
    gene_columns,
    inspect_values,
    name_genes,
    note_oddities,
)
from cellmodel.io.quality import CellQuality
from genekb.core.messages import check_choice, counted, known_names

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_COUNTS: Final = "layers/counts"
_ENTRY_BYTES: Final = 4  # of an entry, at least
SAMPLE_KEY: Final = "sample_key"  # of a record of what was read: the column of obs with the samples of several files


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRecord:
    """What one of several files gave."""

    file: str
    sample: str  # its name as a sample; empty where a column of obs has the samples
    n_cells: int
    n_genes: int
    n_lost: int  # genes that not all files have
    share_lost: float  # fraction of the file's counts (or expression) that they hold
    n_resolved: int  # names that the store knows; 0 without a store
    species: str  # whose genes most of them are; empty without a store
    by_ortholog: bool  # whether its genes are matched as those of another species

    def __str__(self) -> str:
        """Say it in a line."""
        lost = f"{self.n_lost:,} of {self.n_genes:,} genes, {self.share_lost:.1%} of the counts, are not shared"
        species = (
            f"; its genes are of another species ({self.species}), matched by orthologues" if self.by_ortholog else ""
        )
        return f"{self.file}: {self.n_cells:,} cells; {lost if self.n_lost else 'all genes are shared'}{species}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cells:
    """Cells as the rest of the package sees them."""

    adata: "AnnData"  # where results are written
    matrix: CellByGene  # CSR float32, the values that are used
    names: tuple[str, ...]  # of the genes, its columns
    var_rows: Int[np.ndarray, " gene"] | None  # row of ``adata.var`` of each column; None where they are of ``.raw``
    kind: ValueKind  # what the values are
    notes: tuple[str, ...]  # what was found, chosen and done
    source: str  # file, or ``AnnData in memory``
    files: tuple[FileRecord, ...] = ()  # what each file gave, where there are several
    sample_key: str = ""  # column of obs with their samples; empty where that is not known, or ``adata.uns`` has it
    quality: CellQuality | None = None  # None where nobody asked for it

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes that are used."""
        n_cells, n_genes = self.matrix.shape
        return int(n_cells), int(n_genes)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadConfig:
    """Where in a cell file the values and the gene names are."""

    layer: str | None = None  # in place of the matrix that would be chosen
    use_raw: bool = False  # ``.raw`` in place of it
    gene_key: str | None = None  # column of var with gene names; ``var_names`` if None
    values: str = "auto"  # or the kind that the user declares: ``counts``, ``linear`` or ``log1p``
    transpose: bool = False  # whether a text table has genes in its rows

    def __post_init__(self) -> None:
        check_choice("values", self.values, DECLARED_KINDS)
        if self.layer is not None and self.use_raw:
            raise ValueError(f"layer {self.layer!r} and .raw are both asked for; leave one out")


def matrix_name(place: str) -> str:
    """Name a matrix as a user does: ``X``, ``.raw`` or ``layer 'counts'``."""
    part, _, rest = place.partition("/")
    return {"X": "X", "raw": ".raw"}.get(part, f"layer {rest!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrices:
    """Matrices of a cell file or an AnnData, each by its place in a file: ``X``, ``layers/counts``, ``raw/X``."""

    source: str
    layers: tuple[str, ...]
    has_x: bool
    has_raw: bool

    def candidates(self, read: ReadConfig) -> list[str]:
        """List what may be used, first choice first; ``InputUnusable`` if there is nothing."""
        if read.layer is not None:
            if read.layer not in self.layers:
                raise InputUnusable(
                    f"{self.source} has no layer {read.layer!r} (it has: {known_names(read.layer, self.layers)})"
                )
            return [f"layers/{read.layer}"]
        if read.use_raw:
            if not self.has_raw:
                raise InputUnusable(f"{self.source} has no .raw; leave `use_raw` out")
            return ["raw/X"]
        found = {_COUNTS: "counts" in self.layers, "X": self.has_x, "raw/X": self.has_x and self.has_raw}
        if not any(found.values()):
            self._refuse_no_x()
        return [place for place, is_there in found.items() if is_there]

    def choose(self, read: ReadConfig, report_of: Callable[[str], ValueReport], notes: list[str]) -> str:
        """Give the matrix that is used: counts in ``layers["counts"]``, else X, else ``.raw`` where X is scaled."""
        places = self.candidates(read)
        if read.layer is not None or read.use_raw:
            return places[0]
        if _COUNTS in places:
            report = report_of(_COUNTS)
            if report.kind == ValueKind.COUNTS:
                notes.append("layer 'counts' is used")
                return _COUNTS
            if not self.has_x:
                self._refuse_no_x()
            notes.append(f"layer 'counts' holds no counts ({report}); X is used instead")
        report = report_of("X")
        is_scaled = report.kind == ValueKind.SCALED and read.values == "auto"
        if is_scaled and self.has_raw and report_of("raw/X").kind in USABLE:
            notes.append(f"X is scaled ({report}); .raw is used instead")
            return "raw/X"
        return "X"

    def hint(self, report_of: Callable[[str], ValueReport]) -> str:
        """Propose another matrix by what it holds; one that cannot be read is passed over."""

        def kind_of(place: str) -> ValueKind | None:
            try:
                return report_of(place).kind
            except InputUnusable:
                return None

        kinds = {name: kind_of(f"layers/{name}") for name in self.layers}
        for wanted, what in ((ValueKind.COUNTS, "counts"), (ValueKind.LOG1P, "log-normalized values")):
            having = [name for name, kind in kinds.items() if kind == wanted]
            if having:
                return f'use layer="{having[0]}", which holds {what}'
        return "use use_raw=True" if self.has_raw and kind_of("raw/X") in USABLE else "give the file with raw counts"

    def _refuse_no_x(self) -> NoReturn:
        layers = ", ".join(self.layers) or "it has none"
        raise InputUnusable(f"{self.source} has no X; name a layer with `layer` ({layers})")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Choice:
    """A matrix of an AnnData that may be used, its genes alone."""

    name: str
    matrix: CellByGene
    var: Any
    columns: Int[np.ndarray, " gene"]
    report: ValueReport


def read_cells(path: Path, read: ReadConfig | None = None) -> Cells:
    """Read cells from a file.

    Raises ``InputUnusable`` if the file cannot be read, or a layer or column is missing; ``NotCounts`` if the values
    are neither counts nor log-normalized; the message says how to overrule that.
    """
    read = read or ReadConfig()
    source = str(path).encode(errors="backslashreplace").decode()  # any bytes may be in a path, not in a file or a line
    cells = cells_from_anndata(read_anndata(path, transpose=read.transpose), read, source=source)
    return replace(cells, notes=(*notes_on(path), *cells.notes))


def cells_from_anndata(adata: "AnnData", read: ReadConfig | None = None, *, source: str = "AnnData in memory") -> Cells:
    """Choose the matrix of an AnnData and say what it holds.

    A layer or ``.raw`` that is asked for wins; else ``layers["counts"]`` if it holds counts; else X; and if X is
    scaled, ``.raw`` where that is usable. Values that are backed by a file are read from it. Raises ``InputUnusable``,
    ``NotCounts``: see :func:`read_cells`.
    """
    read = read or ReadConfig()
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise InputUnusable(f"{source} holds {adata.n_obs} cells x {adata.n_vars} genes; is it empty?")
    if adata.isbacked:
        return replace(cells_from_anndata(adata.to_memory(), read, source=source), adata=adata)
    notes: list[str] = []
    choice = _choose(adata, read, source, notes)
    kind = decide_kind(
        choice.report,
        declared_kind=read.values,
        where=f"{choice.name} of {source}",
        notes=notes,
        hint=lambda: _matrices(adata, source).hint(lambda place: _look(adata, place, source).report),
    )
    names = name_genes(choice.var, read.gene_key, source=source, notes=notes)
    note_oddities(
        notes,
        genes=names.tolist(),
        cells=adata.obs_names,
        totals=np.asarray(choice.matrix.sum(axis=0)).ravel(),
        depth=np.asarray(choice.matrix.sum(axis=1)).ravel(),
    )
    return Cells(
        adata=adata,
        matrix=choice.matrix,
        names=tuple(names.tolist()),
        var_rows=None if choice.name == ".raw" else choice.columns,
        kind=kind,
        notes=tuple(notes),
        source=source,
    )


def stored_matrices(path: Path, elements: Mapping[str, str]) -> Matrices:
    """Matrices of a file, of which ``elements`` are the places."""
    layers = tuple(place.partition("/")[2] for place in elements if place.startswith("layers/"))
    return Matrices(source=str(path), layers=layers, has_x="X" in elements, has_raw="raw/X" in elements)


def count_entries(path: Path, read: ReadConfig) -> int:
    """Count the entries of the largest matrix that a run may read; 0 where the file cannot be read in blocks."""
    if path.suffix not in WRITTEN_AS:
        return 0
    try:
        with damage_is_one_line(path), open_stored(path) as file:
            elements = find_matrices(path, file)
            places = stored_matrices(path, elements).candidates(read)
            found = max(count_stored(file[elements[place]]) for place in places)
            return found if could_hold(path, _ENTRY_BYTES * found) else 0
    except InputUnusable:
        return 0  # the reader of whole files says what is wrong


def spatial_coordinates(adata: "AnnData", *, source: str) -> Float[np.ndarray, "cell axis"]:
    """Coordinates of the cells, from ``obsm["spatial"]``: two or three finite numbers a cell, not the same for all."""
    coordinates = _obsm_numbers(
        adata,
        "spatial",
        name='obsm["spatial"]',
        source=source,
        widths="two or three",
        hints=("leave `spatial` out", "remove them"),
    ).astype(np.float64)
    if (coordinates == coordinates[0]).all():
        raise InputUnusable(f'obsm["spatial"] of {source} puts all cells at one place; leave `spatial` out')
    return coordinates


_MOST_EMBEDDED: Final = 1e15  # squares of it, summed over dimensions, are far below the largest float32


def obsm_embedding(adata: "AnnData", key: str, *, source: str) -> Float[np.ndarray, "cell dim"]:
    """Give an embedding of the cells from ``obsm``: two or more finite numbers a cell."""
    found = _obsm_numbers(
        adata,
        key,
        name=f"obsm[{key!r}]",
        source=source,
        widths="two or more",
        hints=("name an embedding with `use_rep`", "leave those cells out, or make it again"),
    )
    largest = float(np.abs(found).max(initial=0))
    if largest > _MOST_EMBEDDED:
        raise InputUnusable(
            f"obsm[{key!r}] of {source} holds {largest:.1g}, and distances between values above "
            f"{_MOST_EMBEDDED:.0e} overflow; scale it, or make it again"
        )
    return found


def _obsm_numbers(
    adata: "AnnData", key: str, *, name: str, source: str, widths: str, hints: tuple[str, str]
) -> np.ndarray:
    """Take finite numbers from ``obsm``, ``two or three`` or ``two or more`` a cell; hints: if absent, not finite."""
    if key not in adata.obsm:
        raise InputUnusable(f"{source} has no {name} (it has: {known_names(key, adata.obsm)}); {hints[0]}")
    value = adata.obsm[key]
    found: np.ndarray = value.toarray() if hasattr(value, "toarray") else np.asarray(value)
    most = 3 if widths == "two or three" else np.inf
    if found.ndim != 2 or not 2 <= found.shape[1] <= most or found.dtype.kind not in "iuf":  # noqa: PLR2004 - a table
        raise InputUnusable(
            f"{name} of {source} has shape {found.shape} and type {found.dtype}; {widths} numbers a cell are needed"
        )
    bad = int((~np.isfinite(found)).any(axis=1).sum())
    if bad:
        raise InputUnusable(f"{name} of {source} is NaN or infinite for {counted(bad, 'cell')}; {hints[1]}")
    return found


def _choose(adata: "AnnData", read: ReadConfig, source: str, notes: list[str]) -> _Choice:
    look = cache(lambda place: _look(adata, place, source))
    place = _matrices(adata, source).choose(read, lambda place: look(place).report, notes)
    return look(place)


def _matrices(adata: "AnnData", source: str) -> Matrices:
    layers = tuple(name for name in adata.layers if name is not None)  # from anndata 0.13 on, None is X
    return Matrices(source=source, layers=layers, has_x=adata.X is not None, has_raw=adata.raw is not None)


def _look(adata: "AnnData", place: str, source: str) -> _Choice:
    table: Any = adata.raw if place == "raw/X" else adata
    matrix = table.X if place.endswith("X") and "layers/" not in place else adata.layers[place.removeprefix("layers/")]
    columns = gene_columns(table.var, source=source)
    csr = as_csr(matrix, where=f"{matrix_name(place)} of {source}")
    if len(columns) < csr.shape[1]:
        csr = csr[:, columns]
    return _Choice(name=matrix_name(place), matrix=csr, var=table.var, columns=columns, report=inspect_values(csr))


def total_genes(path: Path, *, gene_key: str | None = None) -> tuple[tuple[str, ...], Float[np.ndarray, " gene"]]:
    """Read the genes that a run would use, and the total of each: the sum of the absolute values that are finite."""
    choice = _choose(read_anndata(path), ReadConfig(), str(path), [])
    finite = np.isfinite(choice.matrix.data)
    weights = np.abs(choice.matrix.data[finite], dtype=np.float64)
    totals = np.bincount(choice.matrix.indices[finite], weights=weights, minlength=len(choice.columns))
    return tuple(name_genes(choice.var, gene_key, source=str(path), notes=[]).tolist()), totals


def read_obs_columns(path: Path, columns: Sequence[str]) -> dict[str, list[str]]:
    """Read columns of obs as text; a missing value is empty."""
    return obs_columns(read_anndata(path), columns, source=str(path))


def obs_columns(
    adata: "AnnData", columns: Sequence[str], *, source: str, hint: str = "name another"
) -> dict[str, list[str]]:
    """Take columns of obs of cells that are read already; see :func:`read_obs_columns`."""
    obs = adata.obs
    for column in columns:
        if column not in obs:
            raise InputUnusable(
                f"{source} has no column {column!r} in obs (it has: {known_names(column, obs)}); {hint}"
            )
    return {name: _texts(obs[name]) for name in columns}


def _texts(column: "pd.Series") -> list[str]:
    """Values as text, a missing one empty; integers that are floats because some are missing are integers again."""
    missing = column.isna()
    if column.dtype.kind == "f" and is_whole(column[~missing]):
        column = column.astype("Int64")
    return ["" if is_missing else str(value) for value, is_missing in zip(column, missing, strict=True)]


def is_whole(numbers: "pd.Series") -> bool:
    """Whether all numbers are integers, whatever their type."""
    return bool(((numbers == numbers.round()) & np.isfinite(numbers)).all())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ObsCategories:
    """A column of obs that has a category for every cell: its batch, sample, donor or condition."""

    key: str
    names: tuple[str, ...]  # that occur, in the order of a categorical, else of the alphabet with numbers as numbers
    codes: Int[np.ndarray, " cell"]  # place of each cell's category in ``names``

    @property
    def n_cells(self) -> Int[np.ndarray, " category"]:
        """Cells of each category."""
        return np.bincount(self.codes, minlength=len(self.names))

    def are_apart(self, groups: Int[np.ndarray, " cell"]) -> bool:
        """Whether the cells of every group are of one category alone."""
        return len(np.unique(np.column_stack([groups, self.codes]), axis=0)) == len(np.unique(groups))

    def of(self, rows: Int[np.ndarray, " row"]) -> "ObsCategories":
        """Give those of some cells."""
        return replace(self, codes=self.codes[rows])


def obs_categories(adata: "AnnData", key: str, *, source: str, what: str = "batch") -> ObsCategories:
    """Take a column of obs as categories; ``what``: what it says of a cell, for messages.

    Raises ``InputUnusable`` if it is not there, a cell has no value, or over half of the cells have their own.
    """
    texts = np.array(obs_columns(adata, [key], source=source, hint=f"name the {what} of each cell")[key], dtype=object)
    is_missing = np.array([not text.strip() for text in texts.tolist()])
    if is_missing.any():
        raise InputUnusable(
            f"{int(is_missing.sum()):,} of {len(texts):,} cells of {source} have no {what} in {key!r}; fill it in, "
            f"or keep the others alone: adata[adata.obs[{key!r}].notna()]"
        )
    names = _in_order(adata.obs[key], set(texts.tolist()))
    if len(names) > max(1, len(texts) // 2):
        raise InputUnusable(
            f"{key!r} of {source} has {len(names):,} different values for {len(texts):,} cells: measured values, or "
            f"names of cells; name the column with the {what} of each cell"
        )
    place = {name: number for number, name in enumerate(names)}
    return ObsCategories(key=key, names=names, codes=np.array([place[text] for text in texts], dtype=np.int64))


def same_groups(adata: "AnnData", found: ObsCategories) -> list[str]:
    """Name the other columns of obs that divide the cells into the same groups."""
    import pandas as pd

    names = []
    for name in adata.obs.columns.drop(found.key):
        codes, values = pd.factorize(adata.obs[name])
        if len(values) == len(found.names) and codes.min() >= 0 and found.are_apart(codes):
            names.append(str(name))
    return names


_NUMBER: Final = re.compile(r"\d+")


def _in_order(column: "pd.Series", present: set[str]) -> tuple[str, ...]:
    """Values that occur, as a categorical orders them, else with the numbers in them read as numbers."""
    if hasattr(column, "cat"):
        return tuple(name for name in dict.fromkeys(map(str, column.cat.categories)) if name in present)
    return tuple(sorted(present, key=lambda name: (_NUMBER.sub(lambda digits: digits[0].zfill(12), name), name)))
