"""Tables of perturbation, gene and label, and what is refused in them; as text, plain or gzipped."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float

from cellmodel.core.errors import InputUnusable
from genekb.core.messages import counted
from genekb.files.tables import read_table

MIN_TRAINED: Final = 20  # perturbations: fewer cannot be divided into groups that say anything
_KEYS: Final = ("perturbation", "gene")
_SHOWN: Final = 3
_SHOWN_TEXT: Final = 200  # characters


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PairTable:
    """Pairs of a perturbed gene and a gene that may respond, in the order of their file."""

    perturbations: tuple[str, ...]
    genes: tuple[str, ...]
    labels: Float[np.ndarray, " pair"] | None  # 1 or 0; None where there is none
    source: str  # name of the file

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.perturbations)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs themselves."""
        return list(zip(self.perturbations, self.genes, strict=True))


def read_pairs(path: Path, *, with_labels: bool, may_repeat: bool = False) -> PairTable:
    """Read a table with the columns ``perturbation``, ``gene`` and, where asked for, ``label``; also ``.gz``.

    Raises ``InputUnusable`` if it cannot be read, lacks a column, is empty, has a pair twice (if it may not),
    or a label is neither 0 nor 1.
    """
    found = _read(path, [*_KEYS, *(["label"] if with_labels else [])])
    _check_rows(path, found, may_repeat=may_repeat)
    rows = [row for _, row in found]
    return PairTable(
        perturbations=tuple(row[0] for row in rows),
        genes=tuple(row[1] for row in rows),
        labels=np.array([float(row[2]) for row in rows]) if with_labels else None,
        source=path.name,
    )


def read_other_lines(paths: Sequence[Path]) -> PairTable | None:
    """Read labels of other cell lines, of several tables; a pair of several lines has the mean. None of no table."""
    tables = [read_pairs(path, with_labels=True, may_repeat=True) for path in paths]
    labels: dict[tuple[str, str], list[float]] = {}
    for table in tables:
        for pair, label in zip(table.pairs, np.asarray(table.labels).tolist(), strict=True):
            labels.setdefault(pair, []).append(label)
    if not tables:
        return None
    return PairTable(
        perturbations=tuple(perturbation for perturbation, _ in labels),
        genes=tuple(gene for _, gene in labels),
        labels=np.array([np.mean(several) for several in labels.values()]),
        source=", ".join(table.source for table in tables),
    )


def read_scores(path: Path) -> dict[tuple[str, str], float]:
    """Read the scores of a table of predictions by perturbation and gene; ``InputUnusable`` if it has none."""
    rows = [row for _, row in _read(path, [*_KEYS, "score"])]
    try:
        return {(row[0], row[1]): float(row[2]) for row in rows if row[2]}
    except ValueError as error:
        raise InputUnusable(
            f"{path} has a score that is no number ({error}); give numbers, or leave it empty"
        ) from error


def _read(path: Path, wanted: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Columns of a table, in the order wanted, and the line of each row."""
    table = read_table(path, "a table of perturbations and genes", error=InputUnusable)
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise InputUnusable(
            f"{path} has the columns {str(table)[:_SHOWN_TEXT]}, not {missing[0]}; name its columns {', '.join(wanted)}"
        )
    if not table.rows:
        raise InputUnusable(f"{path} has no row below its header; give a pair of perturbation and gene a line")
    return [(line, [row[name] for name in wanted]) for line, row in zip(table.lines, table.rows, strict=True)]


def _check_rows(path: Path, rows: Sequence[tuple[int, Sequence[str]]], *, may_repeat: bool) -> None:
    """Raise where a field is empty, a pair stands twice, or a label is neither 0 nor 1."""
    for number, row in rows:
        if not row[0] or not row[1]:
            raise InputUnusable(
                f"{path}, line {number}, has no {_KEYS[0 if not row[0] else 1]}; fill it or leave it out"
            )
        if len(row) > len(_KEYS) and row[2] not in {"0", "1", "0.0", "1.0"}:
            raise InputUnusable(f"{path}, line {number}, has the label {row[2]!r}; a label is 0 or 1")
    twice = [pair for pair, count in Counter((row[0], row[1]) for _, row in rows).items() if count > 1]
    if twice and not may_repeat:
        shown = ", ".join(" and ".join(pair) for pair in twice[:_SHOWN])
        raise InputUnusable(f"{path} has {counted(len(twice), 'pair')} more than once ({shown}); keep one row of each")


def check_training(table: PairTable) -> None:
    """Raise ``InputUnusable`` where a table cannot be learned from: few perturbations, or one class."""
    n_trained = len(set(table.perturbations))
    if n_trained < MIN_TRAINED:
        raise InputUnusable(
            f"{table.source} has {counted(n_trained, 'perturbation')}, at least {MIN_TRAINED} are needed: settings are "
            "chosen on groups of them; add perturbations, for example of the whole screen"
        )
    labels = np.unique(np.asarray(table.labels)).tolist()
    if len(labels) < 2:  # noqa: PLR2004 - two classes
        raise InputUnusable(
            f"every label of {table.source} is {labels[0]:.0f}, both 0 and 1 are needed; add pairs of the other kind"
        )
