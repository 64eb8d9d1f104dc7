"""What one matrix of a cell file holds: the kind of its values, and which of its columns are which genes."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

from cellmodel.errors import InputUnusable, NotCounts
from cellmodel.values import ValueKind, ValueReport

GENE_EXPRESSION: Final = "Gene Expression"
USABLE: Final = {ValueKind.COUNTS, ValueKind.LOG1P}
SAID: Final = ("auto", "counts", "linear", "log1p")


def decide_kind(
    report: ValueReport, *, said: str, where: str, notes: list[str], way_out: Callable[[], str]
) -> ValueKind:
    """Decide what the values are, and note it.

    Parameters
    ----------
    said
        One of :data:`SAID`: ``auto``, or what the user says that they are.
    where
        The matrix and its file, in the words of the notes and errors: ``X of cells.h5ad``.
    way_out
        Says what else could be used; asked only if these values cannot.

    Raises
    ------
    InputUnusable
        If values are not finite, or all are zero.
    NotCounts
        If the values are neither counts nor log-normalised, and nothing was said of them.
    """
    name = where.partition(" of ")[0]
    if report.n_not_finite:
        raise InputUnusable(f"{where} holds {report.n_not_finite} NaN or infinite values; replace them before")
    if report.maximum == 0 and report.minimum == 0:
        raise InputUnusable(f"{where} holds nothing but zeros; name another layer with --layer")
    if said != "auto":
        if report.minimum < 0:
            raise NotCounts(f"{where}: {report}; negative values are not {said}; {way_out()}")
        notes.append(f"{name}: {report}; taken as {said}, as told")
        return ValueKind(said)
    if report.kind not in USABLE:
        what = "scaled values" if report.kind == ValueKind.SCALED else "RPKM, TPM or corrected counts"
        raise NotCounts(
            f"{where} looks like {what}, not counts or log1p: {report}; {way_out()}"
            + ("" if report.kind == ValueKind.SCALED else ", or --values linear to log-normalise them as they are")
        )
    words = "raw counts" if report.kind == ValueKind.COUNTS else "log-normalised (log1p)"
    notes.append(f"{name} is {words}: {report}" + ("" if words == "raw counts" else "; used without normalising"))
    return report.kind


def gene_columns(var: Any) -> Int[np.ndarray, " gene"]:
    """Columns that are genes; 10x antibodies, hashtags and the like are left out."""
    if "feature_types" not in var:
        return np.arange(len(var))
    types = var["feature_types"].astype(str).to_numpy()
    if GENE_EXPRESSION not in types:
        return np.arange(len(var))
    return np.flatnonzero(types == GENE_EXPRESSION)


def name_genes(var: Any, gene_key: str | None, *, source: str, notes: list[str]) -> np.ndarray:
    """Names of the columns that are genes; one without a value in ``gene_key`` keeps that of ``var_names``.

    Raises
    ------
    InputUnusable
        If var has no such column.
    """
    columns = gene_columns(var)
    if len(columns) < len(var):
        types = var["feature_types"].astype(str)
        for kind in sorted(set(types) - {GENE_EXPRESSION}):
            notes.append(f"{(types == kind).sum()} features of type {kind} were left out")
    var = var.iloc[columns]
    if gene_key is None:
        return np.array([str(name) for name in var.index], dtype=object)
    if gene_key not in var:
        raise InputUnusable(
            f"{source} has no column {gene_key!r} in var (it has: {', '.join(map(str, var)) or 'none'})"
        )
    column = var[gene_key].astype(object)
    missing = (column.isna() | (column == "")).to_numpy()
    if missing.any():
        notes.append(f"{missing.sum()} genes have no {gene_key!r}; their name of var_names is used")
    return np.array([str(name) for name in np.where(missing, var.index, column)], dtype=object)


def note_oddities(depth: Float[np.ndarray, " cell"], names: np.ndarray, notes: list[str]) -> None:
    """Note names that occur twice and cells without counts."""
    repeated = len(names) - len(set(names))
    if repeated:
        notes.append(f"{repeated} gene names occur more than once; each column is kept")
    empty = int((depth == 0).sum())  # stored zeros count nothing
    if empty:
        notes.append(f"{empty} cells have no counts at all; they are kept")
