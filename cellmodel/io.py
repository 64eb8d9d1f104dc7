"""Cells in and out: which matrix of a file is used, what it holds, and results written whole or not at all."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.errors import InputUnusable, NotCounts, SlotTaken
from cellmodel.readers import read_anndata
from cellmodel.types import CellByGene
from cellmodel.values import ValueKind, ValueReport, inspect_values

if TYPE_CHECKING:
    from anndata import AnnData

GENE_EXPRESSION: Final = "Gene Expression"
USABLE: Final = {ValueKind.COUNTS, ValueKind.LOG1P}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cells:
    """Cells as the rest of the package sees them.

    Parameters
    ----------
    adata
        Where results are written.
    matrix
        (cell, gene) CSR float32, the values that are used.
    names
        Gene names of its columns.
    var_rows
        Row of ``adata.var`` of each column; None where the columns are those of ``.raw``.
    kind
        What the values are.
    notes
        What was found, chosen and done, in plain sentences.
    source
        File, or ``AnnData in memory``.
    """

    adata: "AnnData"
    matrix: CellByGene
    names: tuple[str, ...]
    var_rows: Int[np.ndarray, " gene"] | None
    kind: ValueKind
    notes: tuple[str, ...]
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadConfig:
    """Where in a cell file the values and the gene names are.

    Parameters
    ----------
    layer, use_raw
        A layer, or ``.raw``, in place of what would be chosen.
    gene_key
        Column of var with gene names; ``var_names`` if None.
    values
        ``auto``, or the kind that the user says the values are of: ``counts``, ``linear`` or ``log1p``.
    transpose
        Whether a text table has genes in its rows.
    """

    layer: str | None = None
    use_raw: bool = False
    gene_key: str | None = None
    values: str = "auto"
    transpose: bool = False


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Choice:
    """A matrix of an AnnData, by the name that a user knows it by."""

    name: str
    matrix: CellByGene
    report: ValueReport


def read_cells(path: Path, read: ReadConfig | None = None) -> Cells:
    """Read cells from a file.

    Raises
    ------
    InputUnusable
        If the file cannot be read, or a layer or column is missing.
    NotCounts
        If the values are neither counts nor log-normalised; the message says how to overrule that.
    """
    read = read or ReadConfig()
    return cells_from_anndata(read_anndata(path, transpose=read.transpose), read, source=str(path))


def cells_from_anndata(adata: "AnnData", read: ReadConfig | None = None, *, source: str = "AnnData in memory") -> Cells:
    """Choose the matrix of an AnnData and say what it holds.

    A layer or ``.raw`` that is asked for wins; else ``layers["counts"]`` if it holds counts; else X; and if X is
    scaled, ``.raw`` where that is usable.

    Raises
    ------
    InputUnusable, NotCounts
        See :func:`read_cells`.
    """
    read = read or ReadConfig()
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise InputUnusable(f"{source} holds {adata.n_obs} cells x {adata.n_vars} genes; is it empty?")
    notes: list[str] = []
    choice = _choose(adata, read, source, notes)
    kind = _decide_kind(adata, choice, read, source, notes)
    var = adata.raw.var if choice.name == ".raw" else adata.var
    columns = _gene_columns(var, notes)
    names = _gene_names(var, read.gene_key, source)[columns]
    matrix = choice.matrix if len(columns) == choice.matrix.shape[1] else choice.matrix[:, columns]
    _note_oddities(matrix, names, notes)
    return Cells(
        adata=adata,
        matrix=matrix,
        names=tuple(names.tolist()),
        var_rows=None if choice.name == ".raw" else columns,
        kind=kind,
        notes=tuple(notes),
        source=source,
    )


def _choose(adata: "AnnData", read: ReadConfig, source: str, notes: list[str]) -> _Choice:
    if read.layer is not None:
        if read.layer not in adata.layers:
            have = ", ".join(adata.layers) or "none"
            raise InputUnusable(f"{source} has no layer {read.layer!r} (it has: {have})")
        return _look(f"layer {read.layer!r}", adata.layers[read.layer])
    if read.use_raw:
        if adata.raw is None:
            raise InputUnusable(f"{source} has no .raw; leave --use-raw out")
        return _look(".raw", adata.raw.X)
    if "counts" in adata.layers:
        counts = _look("layer 'counts'", adata.layers["counts"])
        if counts.report.kind == ValueKind.COUNTS:
            notes.append("layer 'counts' is used")
            return counts
    if adata.X is None:
        raise InputUnusable(
            f"{source} has no X; name a layer with --layer ({', '.join(adata.layers) or 'it has none'})"
        )
    choice = _look("X", adata.X)
    if choice.report.kind == ValueKind.SCALED and read.values == "auto" and adata.raw is not None:
        raw = _look(".raw", adata.raw.X)
        if raw.report.kind in USABLE:
            notes.append(f"X is scaled ({choice.report}); .raw is used instead")
            return raw
    return choice


def _look(name: str, matrix: Any) -> _Choice:
    csr = sp.csr_matrix(matrix, dtype=np.float32)
    return _Choice(name=name, matrix=csr, report=inspect_values(csr))


def _decide_kind(adata: "AnnData", choice: _Choice, read: ReadConfig, source: str, notes: list[str]) -> ValueKind:
    report = choice.report
    where = f"{choice.name} of {source}"
    if report.n_not_finite:
        raise InputUnusable(f"{where} holds {report.n_not_finite} NaN or infinite values; replace them before")
    if report.maximum == 0 and report.minimum == 0:
        raise InputUnusable(f"{where} holds nothing but zeros; name another layer with --layer")
    if read.values != "auto":
        if report.minimum < 0:
            raise NotCounts(f"{where}: {report}; negative values are not {read.values}; {_way_out(adata)}")
        notes.append(f"{choice.name}: {report}; taken as {read.values}, as told")
        return ValueKind(read.values)
    if report.kind not in USABLE:
        what = "scaled values" if report.kind == ValueKind.SCALED else "RPKM, TPM or corrected counts"
        raise NotCounts(
            f"{where} looks like {what}, not counts or log1p: {report}; {_way_out(adata)}"
            + ("" if report.kind == ValueKind.SCALED else ", or --values linear to log-normalise them as they are")
        )
    words = "raw counts" if report.kind == ValueKind.COUNTS else "log-normalised (log1p)"
    notes.append(
        f"{choice.name} is {words}: {report}" + ("" if words == "raw counts" else "; used without normalising")
    )
    return report.kind


def _way_out(adata: "AnnData") -> str:
    with_counts = [name for name, layer in adata.layers.items() if _look(name, layer).report.kind == ValueKind.COUNTS]
    if with_counts:
        return f"use --layer {with_counts[0]}, which holds counts"
    if adata.raw is not None and _look(".raw", adata.raw.X).report.kind in USABLE:
        return "use --use-raw"
    return "give the file with raw counts"


def _gene_columns(var: Any, notes: list[str]) -> Int[np.ndarray, " gene"]:
    """Columns that are genes; 10x antibodies, hashtags and the like are left out, and counted."""
    if "feature_types" not in var:
        return np.arange(len(var))
    types = var["feature_types"].astype(str).to_numpy()
    if GENE_EXPRESSION not in types:
        return np.arange(len(var))
    for kind in sorted(set(types) - {GENE_EXPRESSION}):
        notes.append(f"{(types == kind).sum()} features of type {kind} were left out")
    return np.flatnonzero(types == GENE_EXPRESSION)


def _gene_names(var: Any, gene_key: str | None, source: str) -> np.ndarray:
    if gene_key is None:
        return np.array([str(name) for name in var.index], dtype=object)
    if gene_key not in var:
        raise InputUnusable(
            f"{source} has no column {gene_key!r} in var (it has: {', '.join(map(str, var)) or 'none'})"
        )
    return np.array([str(name) for name in var[gene_key]], dtype=object)


def _note_oddities(matrix: CellByGene, names: np.ndarray, notes: list[str]) -> None:
    repeated = len(names) - len(set(names))
    if repeated:
        notes.append(f"{repeated} gene names occur more than once; each column is kept")
    empty = int((np.diff(matrix.indptr) == 0).sum())
    if empty:
        notes.append(f"{empty} cells have no counts at all; they are kept")


def read_gene_totals(path: Path, *, gene_key: str | None = None) -> tuple[tuple[str, ...], Float[np.ndarray, " gene"]]:
    """Read gene names and the sum of each gene's values, whatever kind these are; also a plain list of names.

    Returns
    -------
    Names, and totals (ones for a list; zeros and negative sums count nothing).
    """
    if path.is_file() and path.suffix in {".txt", ".list"}:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        if not names:
            raise InputUnusable(f"{path} holds no name; give one gene a line")
        return names, np.ones(len(names))
    adata = read_anndata(path)
    table = adata.raw if adata.raw is not None else adata
    columns = _gene_columns(table.var, [])
    totals = np.asarray(sp.csr_matrix(table.X, dtype=np.float32).sum(axis=0), dtype=np.float64).ravel()[columns]
    return tuple(_gene_names(table.var, gene_key, str(path))[columns].tolist()), np.clip(np.nan_to_num(totals), 0, None)


def read_obs_columns(path: Path, columns: Sequence[str]) -> dict[str, list[str]]:
    """Read columns of obs as text; a missing value is empty.

    Raises
    ------
    InputUnusable
        If a column is missing.
    """
    obs = read_anndata(path).obs
    for column in columns:
        if column not in obs:
            raise InputUnusable(
                f"{path} has no column {column!r} in obs (it has: {', '.join(map(str, obs)) or 'none'})"
            )
    return {column: ["" if value != value else str(value) for value in obs[column]] for column in columns}  # noqa: PLR0124 - NaN


def claim_slots(adata: "AnnData", slots: Iterable[tuple[str, str]], *, overwrite: bool) -> None:
    """Check that slots are free, before any work is done.

    Raises
    ------
    SlotTaken
        If one exists and ``overwrite`` is not set.
    """
    taken = [f'{part}["{key}"]' for part, key in slots if key in getattr(adata, part)]
    if taken and not overwrite:
        raise SlotTaken(f"the cells already hold {', '.join(taken)}; use --overwrite, or another name with --key-added")


def h5ad_safe(value: Any) -> Any:
    """Turn nested values into types that survive writing and reading h5ad: no None, tuples, paths or non-text keys."""
    if is_dataclass(value) and not isinstance(value, type):
        return h5ad_safe(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): h5ad_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return np.array([str(item) for item in value], dtype=object) if _is_text(value) else np.asarray(value)
    if value is None or isinstance(value, Path):
        return "" if value is None else str(value)
    if hasattr(value, "reset_index"):
        return value.set_axis(value.index.astype(str), axis=0)
    return value


def _is_text(values: Sequence[Any]) -> bool:
    return not values or any(not isinstance(value, int | float | np.number) for value in values)


def write_cells(adata: "AnnData", path: Path, *, overwrite: bool = False) -> None:
    """Write cells as ``.h5ad`` or ``.zarr``: a temporary sibling takes the name when it is complete.

    Raises
    ------
    InputUnusable
        If the suffix is another, the file exists and may not be replaced, or the disk refuses.
    """
    if path.suffix not in {".h5ad", ".zarr"}:
        raise InputUnusable(f"{path} ends with {path.suffix!r}; results are written as .h5ad or .zarr")
    if path.exists() and not overwrite:
        raise InputUnusable(f"{path} exists; give another name, or --overwrite")
    part = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    with _write_errors_in_one_line(path, part):
        adata.write_h5ad(part) if path.suffix == ".h5ad" else adata.write_zarr(part)
        if path.is_dir():
            shutil.rmtree(path)
        part.replace(path)


@contextmanager
def _write_errors_in_one_line(path: Path, part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())[:160]
        raise InputUnusable(f"{path} cannot be written: {reason}; free space, or write elsewhere with -o") from error
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
