"""What one matrix of a cell file holds: the kind of its values, and which of its columns are which genes."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.core.errors import InputUnusable, NotCounts
from cellmodel.core.types import CellByGene
from cellmodel.io.value_kind import INTEGER_SHARE, LOG1P_MAX, ValueKind, ValueReport
from genekb.core.messages import counted, known_names

GENE_EXPRESSION: Final = "Gene Expression"
_NO_GENES: Final = {  # other kinds of features that Cell Ranger writes
    "Antibody Capture",
    "Antigen Capture",
    "CRISPR Guide Capture",
    "Custom",
    "Multiplexing Capture",
    "Peaks",
}
_FEW_NAMES: Final = 3  # 1, 2 and 3 are GeneIDs
_NO_NAMES: Final = {"", "nan", "none", "na", "<na>", "null"}  # what programs write where a name is missing
_ODD: Final = re.compile(r"[^\x20-\x7e]|\"")  # letters of other scripts that look alike, and quotation marks
_BARCODE: Final = re.compile(r"(?:.*[_:#])?[ACGT]{12,}(?:[-._]\d+)?(?:[_-].*)?")
USABLE: Final = {ValueKind.COUNTS, ValueKind.LOG1P}
DECLARED_KINDS: Final = ("auto", "counts", "linear", "log1p")


def as_csr(matrix: Any, *, where: str) -> CellByGene:
    """Give a matrix as CSR float32; the given one stays as it is.

    ``where``: the matrix and its file, in the words of the errors: ``X of cells.h5ad``. Raises ``InputUnusable`` if it
    does not hold real numbers, has masked values, or stores an entry more than once.
    """
    if matrix.dtype.kind not in "biuf":
        what = {"c": "complex numbers", "O": "objects", "S": "text", "U": "text", "T": "text"}.get(matrix.dtype.kind)
        raise InputUnusable(
            f"{where} holds {what or matrix.dtype}, not real numbers; turn it into numbers before: "
            "adata.X = adata.X.astype('float32')"
        )
    if np.ma.is_masked(matrix):
        raise InputUnusable(
            f"{where} has {int(np.ma.getmaskarray(matrix).sum())} masked values; fill them before: X.filled(0)"
        )
    with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite, which is refused by name
        csr = sp.csr_matrix(matrix, dtype=np.float32)
    if csr.has_canonical_format:
        return csr
    ordered = csr.copy()
    ordered.sum_duplicates()
    if ordered.nnz < csr.nnz:
        raise InputUnusable(
            f"{where} stores {csr.nnz - ordered.nnz:,} entries of a cell and a gene more than once; is it damaged? If "
            "they belong together: adata.X.sum_duplicates()"
        )
    return ordered


def decide_kind(
    report: ValueReport, *, declared_kind: str, where: str, notes: list[str], hint: Callable[[], str]
) -> ValueKind:
    """Decide what the values are, and note it.

    ``declared_kind``: one of :data:`DECLARED_KINDS`: ``auto``, or what the user says that they are. ``where``: the
    matrix and its file, in the words of the notes and errors: ``X of cells.h5ad``. ``hint``: what else could be used;
    asked only if these values cannot. Raises ``InputUnusable`` if values are not finite, or all are zero; ``NotCounts``
    if the values are neither counts nor log-normalised, and no kind is declared.
    """
    name = where.partition(" of ")[0]
    if report.first_not_finite is not None:
        row, column = report.first_not_finite
        raise InputUnusable(
            f"{where} holds {report.n_not_finite:,} NaN or infinite values (or beyond 3.4e38, the largest that float32 "
            f"holds), the first in row {row:,} and column {column:,}, counted from 0; replace them, or leave these "
            "cells or genes out"
        )
    if report.maximum == 0 and report.minimum == 0:
        raise InputUnusable(f"{where} holds nothing but zeros; name another layer with --layer")
    if declared_kind != "auto":
        if report.minimum < 0:
            raise NotCounts(f"{where}: {report}; negative values are not {declared_kind}; {hint()}")
        if declared_kind == ValueKind.LOG1P and report.maximum > LOG1P_MAX:
            raise NotCounts(f"{where}: {report}; no log1p value is above {LOG1P_MAX:g}; leave --values out, or name it")
        notes.append(f"{name}: {report}; taken as {declared_kind}, as declared")
        return ValueKind(declared_kind)
    if report.kind not in USABLE:
        what = "scaled values" if report.kind == ValueKind.SCALED else "RPKM, TPM or corrected counts"
        if report.kind == ValueKind.SCALED and report.share_integer >= INTEGER_SHARE:
            what = "counts of which some were made negative"
        ways = "" if report.kind == ValueKind.SCALED else ", or --values linear to log-normalise them as they are"
        if report.kind != ValueKind.SCALED and report.maximum <= LOG1P_MAX:
            ways += ", or --values log1p if they are logarithms"
        raise NotCounts(f"{where} looks like {what}, not counts or log1p: {report}; {hint()}{ways}")
    words = "raw counts" if report.kind == ValueKind.COUNTS else "log-normalised (log1p)"
    notes.append(f"{name} is {words}: {report}" + ("" if words == "raw counts" else "; used without normalising"))
    if report.kind == ValueKind.COUNTS and report.maximum == 1:
        notes.append(f"no value of {name} is above 1: it says whether a gene was seen, not how often")
    return report.kind


def gene_columns(var: Any, *, source: str) -> Int[np.ndarray, " gene"]:
    """Columns that are genes; 10x antibodies, hashtags and the like are left out.

    Raises ``InputUnusable`` if there are only such.
    """
    if "feature_types" not in var:
        return np.arange(len(var))
    types = var["feature_types"].astype(str).to_numpy()
    if len(types) and set(types) <= _NO_GENES:
        raise InputUnusable(
            f"{source} holds {len(types):,} features of type {', '.join(sorted(set(types)))} and none of type "
            f"{GENE_EXPRESSION!r}; give the file with the genes"
        )
    if GENE_EXPRESSION not in types:
        return np.arange(len(var))
    return np.flatnonzero(types == GENE_EXPRESSION)


def name_genes(var: Any, gene_key: str | None, *, source: str, notes: list[str]) -> np.ndarray:
    """Names of the columns that are genes; one without a value in ``gene_key`` keeps that of ``var_names``.

    Raises ``InputUnusable`` if var has no such column, or the names are barcodes of cells.
    """
    columns = gene_columns(var, source=source)
    if len(columns) < len(var):
        types = var["feature_types"].astype(str)
        for kind in sorted(set(types) - {GENE_EXPRESSION}):
            notes.append(f"{(types == kind).sum()} features of type {kind} were left out")
    elif "feature_types" in var and var["feature_types"].nunique() > 1:
        kinds = ", ".join(sorted(set(var["feature_types"].astype(str))))
        notes.append(f"features of all types ({kinds}) are taken for genes, since none is {GENE_EXPRESSION!r}")
    names = _names_of(var.iloc[columns], gene_key, source=source, notes=notes)
    n_barcodes = sum(_BARCODE.fullmatch(name) is not None for name in names)
    if n_barcodes > len(names) / 2:
        raise InputUnusable(
            f"{source}: {n_barcodes:,} of {len(names):,} genes are named like barcodes of cells ({names[0]}, ...): its "
            "rows are genes; turn it (.csv and .tsv: --transpose; AnnData: adata.T)"
        )
    _note_names(names, [str(column) for column in var], notes)
    return names


def _note_names(names: np.ndarray, columns: Sequence[str], notes: list[str]) -> None:
    """Note names for which no store can know a gene."""
    if are_numbered(names):
        having = f", perhaps one of: {', '.join(columns)}" if len(columns) else ""
        notes.append(f"the genes are numbered from {names[0]} on and have no names; give --gene-key COLUMN{having}")
    odd = [oddity for oddity in map(odd_character, names) if oddity]
    if odd:
        names_hold = counted(len(odd), "gene name holds", plural="gene names hold")
        notes.append(f"{names_hold} characters that no symbol has, as {odd[0]}")
    unnamed = sum(name.strip().lower() in _NO_NAMES for name in names)
    if unnamed:
        have = counted(unnamed, "gene has", plural="genes have")
        notes.append(f"{have} no name; kept, and no text is found")


def odd_character(name: str) -> str:
    """Name the character of a gene name that no symbol has, such as a letter that only looks Latin; empty if none."""
    found = _ODD.search(name)
    return f"{name!r} ({unicodedata.name(found.group(), hex(ord(found.group())))})" if found else ""


def are_numbered(names: Sequence[str] | np.ndarray) -> bool:
    """Whether names are the numbers of their places from 0 or 1 on, which GeneIDs never are."""
    first = int(names[0]) if len(names) > _FEW_NAMES and names[0] in {"0", "1"} else None
    return first is not None and all(name == str(place) for place, name in enumerate(names, first))


def _names_of(var: Any, gene_key: str | None, *, source: str, notes: list[str]) -> np.ndarray:
    if gene_key is None:
        return np.array([str(name) for name in var.index], dtype=object)
    if gene_key not in var:
        raise InputUnusable(f"{source} has no column {gene_key!r} in var (it has: {known_names(gene_key, var)})")
    column = var[gene_key].astype(object)
    missing = (column.isna() | (column == "")).to_numpy()
    if missing.any():
        have = counted(int(missing.sum()), "gene has", plural="genes have")
        notes.append(f"{have} no {gene_key!r}; the name in var_names is used")
    return np.array([str(name) for name in np.where(missing, var.index, column)], dtype=object)


def note_oddities(
    notes: list[str],
    *,
    genes: Sequence[str],
    cells: Sequence[str],
    totals: Float[np.ndarray, " gene"],
    depth: Float[np.ndarray, " cell"],
) -> None:
    """Note names that occur twice, and cells and genes without counts.

    ``genes``, ``cells``: their names. ``totals``, ``depth``: sums of the values of each gene, and of each cell.
    """
    for names, what, kept in ((genes, "gene", "column"), (cells, "cell", "row")):
        repeated = len(names) - len(set(names))
        if repeated:
            occur = counted(repeated, f"{what} name occurs", plural=f"{what} names occur")
            notes.append(f"{occur} more than once; each {kept} is kept")
    for sums, what in ((depth, "cell"), (totals, "gene")):
        empty = int((sums == 0).sum())  # stored zeros count nothing
        if empty:
            have = counted(empty, f"{what} has", plural=f"{what}s have")
            notes.append(f"{have} no counts at all; kept")
