"""What one matrix of a cell file holds: the kind of its values, and which of its columns are which genes."""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.core.arrays import CellByGene
from cellmodel.core.errors import InputUnusable, NotCounts
from genekb.core.messages import counted, known_names, listed
from genekb.core.words import is_spike_in

LOG1P_MAX: Final = 20.0  # log1p of 5e8: no log-normalized value is larger
INTEGER_SHARE: Final = 0.9999  # rounding on the way leaves a few counts off by a hair
MOST_INTEGERS: Final = 0.5  # share of integers that logarithms of normalized counts stay below by far
FEW_COUNTS, MOST_ZERO = 20, 0.5  # where fewer values are 0, some count of some gene is higher
MOST_PER_MILLION: Final = float(np.log1p(1e6))  # a gene that has all of its cell
CONSTANT_TOTALS: Final = 1e-3  # coefficient of variation of the cells' totals under which they are one total


class ValueKind(StrEnum):
    """Kinds of values."""

    COUNTS = "counts"
    LINEAR = "linear"  # not negative, not integers: RPKM, TPM, CPM, corrected counts
    LOG1P = "log1p"
    SCALED = "scaled"  # centered or z-scored: negative values


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueReport:
    """What was found in a matrix."""

    kind: ValueKind  # the kind that the figures speak for
    minimum: float  # minimum, maximum: over all finite values, zeros included
    maximum: float
    share_integer: float  # share of the non-zero values that are integers; 1 where there is none
    share_zero: float  # share of entries that are zero
    n_not_finite: int  # NaN and infinite values
    median_total: float  # median over cells of the sum of their values
    first_not_finite: tuple[int, int] | None = None  # row and column of the first value that is not finite

    def __str__(self) -> str:
        """Say the figures in a few words."""
        share = f"{self.share_integer:.0%} of the non-zero ones integers"
        return f"values from {self.minimum:.4g} to {self.maximum:.4g}, {share}"


def inspect_values(matrix: sp.csr_matrix) -> ValueReport:
    """Distinguish counts, linear, log-normalized and scaled values of a matrix of cells by genes.

    Negative values are scaled ones. Integers are counts. Of the rest, values above 20 are linear, and so are values
    of which most are integers: counts of which some were corrected. Others are linear if the cells' totals are all
    the same, and log1p otherwise: a logarithm does not keep totals equal.
    """
    tally = ValueTally()
    tally.add(matrix)
    return tally.report()


_LOOKED_AT: Final = 2_048  # cells at once: bounds memory


class ValueTally:
    """What :func:`inspect_values` finds, from blocks of cells one after the other."""

    def __init__(self) -> None:
        self._minimum, self._maximum = np.inf, -np.inf
        self._n_entries = self._n_non_zero = self._n_integer = self._n_not_finite = 0
        self._n_rows = 0
        self._first_not_finite: tuple[int, int] | None = None
        self._has_zero = False
        self._totals: list[np.ndarray] = []

    def add(self, matrix: sp.csr_matrix) -> None:
        """Look at a block of cells, some at a time."""
        n_entries = matrix.shape[0] * matrix.shape[1]
        self._has_zero |= matrix.nnz < n_entries
        self._n_entries += n_entries
        for start in range(0, matrix.shape[0], _LOOKED_AT):
            self._add(matrix, slice(*matrix.indptr[[start, min(start + _LOOKED_AT, matrix.shape[0])]].tolist()))
        self._n_rows += matrix.shape[0]
        self._totals.append(np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel())

    def _add(self, matrix: sp.csr_matrix, entries: slice) -> None:
        values = known = matrix.data[entries].astype(np.promote_types(matrix.dtype, np.float32), copy=False)
        if not (np.isfinite(values.min(initial=np.inf)) and np.isfinite(values.max(initial=-np.inf))):
            known = values[np.isfinite(values)]
        self._minimum = min(self._minimum, float(known.min(initial=np.inf)))
        self._maximum = max(self._maximum, float(known.max(initial=-np.inf)))
        n_zero = len(known) - int(np.count_nonzero(known))
        self._has_zero |= n_zero > 0
        self._n_non_zero += len(known) - n_zero
        self._n_integer += int(np.count_nonzero(known == np.rint(known))) - n_zero
        self._n_not_finite += len(values) - len(known)
        if self._first_not_finite is None and len(known) < len(values):
            entry = entries.start + int(np.argmin(np.isfinite(values)))
            row = int(np.searchsorted(matrix.indptr, entry, side="right")) - 1
            self._first_not_finite = (self._n_rows + row, int(matrix.indices[entry]))

    def report(self) -> ValueReport:
        """Give what was found so far."""
        minimum, maximum = self._minimum, self._maximum
        if self._has_zero or minimum == np.inf:
            minimum, maximum = min(minimum, 0.0), max(maximum, 0.0)
        share_integer = self._n_integer / self._n_non_zero if self._n_non_zero else 1.0
        totals = np.concatenate(self._totals) if self._totals else np.zeros(0)
        return ValueReport(
            kind=_kind(minimum, maximum, share_integer, totals),
            minimum=minimum,
            maximum=maximum,
            share_integer=share_integer,
            share_zero=1.0 - self._n_non_zero / max(self._n_entries, 1),
            n_not_finite=self._n_not_finite,
            median_total=float(np.median(totals)) if len(totals) else 0.0,
            first_not_finite=self._first_not_finite,
        )


def _kind(minimum: float, maximum: float, share_integer: float, totals: np.ndarray) -> ValueKind:
    if minimum < 0:
        return ValueKind.SCALED
    if share_integer >= INTEGER_SHARE:
        return ValueKind.COUNTS
    if maximum > LOG1P_MAX or share_integer > MOST_INTEGERS:
        return ValueKind.LINEAR
    mean = totals.mean() if len(totals) else 0.0
    if len(totals) > 1 and mean > 0 and totals.std() / mean < CONSTANT_TOTALS:
        return ValueKind.LINEAR
    return ValueKind.LOG1P


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

    ``where``: the matrix and its file, for errors: ``X of cells.h5ad``. Refuses what is not numeric, masked values, and
    entries that are stored more than once.
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

    ``declared_kind``: one of :data:`DECLARED_KINDS`. ``where``: as for :func:`as_csr`. ``hint``: what else could be
    used; asked only if these values cannot. Raises ``InputUnusable`` if values are not finite, or all zero;
    ``NotCounts`` if they are neither counts nor log-normalized, and no kind is declared.
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
        raise InputUnusable(f"{where} holds nothing but zeros; name another layer with `layer`")
    if declared_kind != "auto":
        if report.minimum < 0:
            raise NotCounts(f"{where}: {report}; negative values are not {declared_kind}; {hint()}")
        if declared_kind == ValueKind.LOG1P and report.maximum > LOG1P_MAX:
            raise NotCounts(f"{where}: {report}; no log1p value is above {LOG1P_MAX:g}; leave `values` out, or name it")
        notes.append(f"{name}: {report}; taken as {declared_kind}, as declared")
        return ValueKind(declared_kind)
    if report.kind not in USABLE:
        what = "scaled values" if report.kind == ValueKind.SCALED else "RPKM, TPM or corrected counts"
        if report.kind == ValueKind.SCALED and report.share_integer >= INTEGER_SHARE:
            what = "counts of which some were made negative"
        ways = "" if report.kind == ValueKind.SCALED else ', or values="linear" to log-normalize them as they are'
        if report.kind != ValueKind.SCALED and report.maximum <= LOG1P_MAX:
            ways += ', or values="log1p" if they are logarithms'
        raise NotCounts(f"{where} looks like {what}, not counts or log1p: {report}; {hint()}{ways}")
    words = "raw counts" if report.kind == ValueKind.COUNTS else "log-normalized (log1p)"
    notes.append(f"{name} is {words}: {report}" + ("" if words == "raw counts" else "; used without normalizing"))
    notes += _doubts(report, name)
    return report.kind


def _doubts(report: ValueReport, name: str) -> Iterator[str]:
    """Say what speaks against the kind that values were taken for."""
    if report.kind == ValueKind.COUNTS and report.maximum == 1:
        yield f"no value of {name} is above 1: it says whether a gene was seen, not how often"
    elif report.kind == ValueKind.COUNTS and report.maximum < FEW_COUNTS and report.share_zero < MOST_ZERO:
        yield (
            f"{name} is doubtful as counts: {1 - report.share_zero:.0%} of the values are not 0, and none is above "
            f'{report.maximum:g}; if they are rounded logarithms, give values="log1p"'
        )
    elif report.kind == ValueKind.LOG1P and report.maximum > MOST_PER_MILLION:
        yield (
            f"{name} is doubtful as log1p: natural logarithms of values per million end at {MOST_PER_MILLION:.1f}, so "
            'base 2 or another scale is likely; undo it (2 ** x - 1) and give values="linear", or values="log1p" to '
            "take it as it is"
        )


def gene_columns(var: Any, *, source: str) -> Int[np.ndarray, " gene"]:
    """Columns that are genes: 10x antibodies, hashtags and the like are left out, and so are spike-in controls.

    Spike-ins follow what was added to a cell, not the cell: they belong in no total and among no variable genes.
    """
    is_gene = np.array([not is_spike_in(str(name)) for name in var.index], dtype=bool)
    types = _feature_types(var)
    if types and set(types) <= _NO_GENES:
        raise InputUnusable(
            f"{source} holds {len(types):,} features of type {', '.join(sorted(set(types)))} and none of type "
            f"{GENE_EXPRESSION!r}; give the file with the genes"
        )
    if GENE_EXPRESSION in types:
        is_gene &= np.array(types) == GENE_EXPRESSION
    if len(is_gene) and not is_gene.any():
        raise InputUnusable(
            f"{source} holds spike-in controls alone ({var.index[0]}, ...); give the file with the genes"
        )
    return np.flatnonzero(is_gene)


def _feature_types(var: Any) -> list[str]:
    return list(map(str, var["feature_types"])) if "feature_types" in var else []


def name_genes(var: Any, gene_key: str | None, *, source: str, notes: list[str]) -> np.ndarray:
    """Names of the columns that are genes; one without a value in ``gene_key`` keeps that of ``var_names``."""
    columns, types = gene_columns(var, source=source), _feature_types(var)
    if GENE_EXPRESSION in types:
        for kind in sorted(set(types) - {GENE_EXPRESSION}):
            notes.append(f"{types.count(kind)} features of type {kind} were left out")
    elif len(set(types)) > 1:
        notes.append(
            f"features of all types ({', '.join(sorted(set(types)))}) are taken for genes, since none is "
            f"{GENE_EXPRESSION!r}"
        )
    if spiked := [name for name in map(str, var.index) if is_spike_in(name)]:
        controls = counted(len(spiked), "spike-in control")
        notes.append(f"{controls} left out, of total counts and variable genes too: {listed(spiked, most=3)}")
    names = gene_labels(var.iloc[columns], gene_key, source=source, notes=notes)
    n_barcodes = sum(_BARCODE.fullmatch(name) is not None for name in names)
    if n_barcodes > len(names) / 2:
        raise InputUnusable(
            f"{source}: {n_barcodes:,} of {len(names):,} genes are named like barcodes of cells ({names[0]}, ...): its "
            "rows are genes; turn it (.csv and .tsv: transpose=True; AnnData: adata.T)"
        )
    _note_names(names, [str(column) for column in var], notes)
    return names


def _note_names(names: np.ndarray, columns: Sequence[str], notes: list[str]) -> None:
    """Note names for which no store can know a gene."""
    if are_numbered(names):
        having = f", perhaps one of: {', '.join(columns)}" if len(columns) else ""
        notes.append(f'the genes are numbered from {names[0]} on and have no names; give gene_key="COLUMN"{having}')
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


def gene_labels(var: Any, gene_key: str | None, *, source: str, notes: list[str]) -> np.ndarray:
    """Names of all columns; one without a value in ``gene_key`` keeps that of ``var_names``."""
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
    """Note names of genes and cells that occur twice, and genes and cells without counts."""
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
