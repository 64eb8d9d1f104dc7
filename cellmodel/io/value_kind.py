"""What kind of values a matrix of cells by genes holds: counts, linear, log-normalised or scaled."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import scipy.sparse as sp

LOG1P_MAX: Final = 20.0  # log1p of 5e8: no log-normalised value is larger
INTEGER_SHARE: Final = 0.9999  # rounding on the way leaves a few counts off by a hair
MOST_INTEGERS: Final = 0.5  # share of integers that logarithms of normalised counts stay below by far
CONSTANT_TOTALS: Final = 1e-3  # coefficient of variation of the cells' totals under which they are one total


class ValueKind(StrEnum):
    """Kinds of values."""

    COUNTS = "counts"
    LINEAR = "linear"  # not negative, not integers: RPKM, TPM, CPM, corrected counts
    LOG1P = "log1p"
    SCALED = "scaled"  # centred or z-scored: negative values


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
    """Distinguish counts, linear, log-normalised and scaled values.

    Negative values are scaled ones. Integers are counts. Of the rest, values above 20 are linear, and so are values
    of which most are integers: counts of which some were corrected. Others are linear if the cells' totals are all
    the same, and log1p otherwise: a logarithm does not keep totals equal.

    ``matrix``: (cell, gene).
    """
    tally = ValueTally()
    tally.add(matrix)
    return tally.report()


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
        """Look at a block of cells."""
        values = matrix.data.astype(np.float64, copy=False)
        known = values[np.isfinite(values)]
        non_zero = known[known != 0]
        n_entries = matrix.shape[0] * matrix.shape[1]
        self._has_zero |= matrix.nnz < n_entries or len(non_zero) < len(known)
        self._minimum = min(self._minimum, float(known.min(initial=np.inf)))
        self._maximum = max(self._maximum, float(known.max(initial=-np.inf)))
        self._n_entries += n_entries
        self._n_non_zero += len(non_zero)
        self._n_integer += int((non_zero == np.round(non_zero)).sum())
        self._n_not_finite += len(values) - len(known)
        if self._first_not_finite is None and len(known) < len(values):
            entry = int(np.argmin(np.isfinite(values)))
            row = int(np.searchsorted(matrix.indptr, entry, side="right")) - 1
            self._first_not_finite = (self._n_rows + row, int(matrix.indices[entry]))
        self._n_rows += matrix.shape[0]
        self._totals.append(np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel())

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
