"""Labels of pairs of perturbation and gene: tables of them, and those predicted for perturbations never seen."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float

import genekb
from cellmodel.core.errors import InputUnusable
from cellmodel.io.records import Lineage
from cellmodel.io.writers import check_targets
from cellmodel.perturb.features import MIN_TRAINED, Known, Settings
from cellmodel.perturb.model import PairModel, pair_vectors
from cellmodel.perturb.texts import N_SHOWN, GeneTexts, Neighbor, TextKnowledge, gene_texts, nearest_trained
from genekb.core.messages import counted
from genekb.files.replace import Target
from genekb.files.tables import read_table, write_table

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


TRAINED, PREDICTED = "trained", "predicted"
COLUMNS: Final = (
    *("perturbation", "gene", "score", "p", "source", "note"),
    *(f"{name}_{n}" for n in range(1, N_SHOWN + 1) for name in ("nearest", "similarity", "shared", "sentence")),
)
_NO_TEXT: Final = "no text of the perturbation: frequency of the gene alone"
_NEW_GENE: Final = "gene not in the training table"
_OTHER_GENES: Final = "trained, but not with this gene"


@dataclass(frozen=True, kw_only=True, slots=True)
class PerturbConfig:
    """What effects are predicted with."""

    encoder: str | None = None  # of the store; its first one if None
    knowledge: TextKnowledge = "real"  # or a control: shuffled, name, symbol


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prediction:
    """Predicted labels of the pairs of a query, in its order."""

    query: PairTable
    score: Float[np.ndarray, " pair"]  # departure from the frequency of the gene: ranks perturbations of one gene
    probability: Float[np.ndarray, " pair"]  # of label 1
    source: tuple[str, ...]  # ``trained``: its own label in the training table; ``predicted``
    note: tuple[str, ...]
    neighbors: dict[str, tuple[Neighbor, ...]]  # of each perturbation that was not trained
    unknown: tuple[str, ...]  # names of either kind that the store has not
    n_trained: int  # perturbations
    n_shared: int  # of them in the table of other lines; 0 where none was given or used
    n_by_also: int  # pairs whose perturbation is in it
    also: str  # file of that table
    auc_out_of_fold: float  # mean over genes and groups of training perturbations, each predicted by the others
    settings: Settings  # chosen on training perturbations
    config: PerturbConfig
    lineage: Lineage

    def record(self) -> dict[str, Any]:
        """Everything but the pairs."""
        return {
            "n_pairs": len(self.query),
            "n_trained_perturbations": self.n_trained,
            "n_predicted": self.source.count(PREDICTED),
            "n_answered_from_training": self.source.count(TRAINED),
            "auc_out_of_fold": self.auc_out_of_fold,
            "unknown": list(self.unknown),
            "also": self.also,
            "n_trained_perturbations_in_also": self.n_shared,
            "n_predicted_with_also": self.n_by_also,
            "settings": asdict(self.settings),
            "knowledge": self.config.knowledge,
            **asdict(self.lineage),
        }


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Names:
    """Rows of vectors by name; several names of one gene are one row."""

    texts: GeneTexts
    row: dict[str, int]

    def known(self, table: PairTable) -> Known:
        labels = np.asarray(table.labels, dtype=np.float64)
        rows, columns = (
            np.array([self.row[name] for name in names], dtype=np.int64) for names in (table.perturbations, table.genes)
        )
        return Known(rows=rows, columns=columns, values=labels)


def _look_up(tables: Sequence[PairTable], kb: genekb.Store, config: PerturbConfig) -> _Names:
    names = sorted({name for table in tables for name in (*table.perturbations, *table.genes)})
    texts = gene_texts(names, kb, encoder=config.encoder, knowledge=config.knowledge)
    first: dict[object, int] = {}
    row = {
        name: first.setdefault(gene or name, place)
        for place, (name, gene) in enumerate(zip(names, texts.gene_ids.tolist(), strict=True))
    }
    return _Names(texts=texts, row=row)


def predict_pairs(
    train: PairTable, query: PairTable, kb: genekb.Store, *, config: PerturbConfig, also: PairTable | None = None
) -> Prediction:
    """Predict labels of pairs by the texts of the perturbed and of the responding genes.

    Every temperature, weight and calibration is set on groups of training perturbations; labels of the query are not
    looked at. ``also``: labels of other cell lines, used for perturbations that they share. Raises ``InputUnusable``
    where the training table is refused, see :func:`check_training`, or fewer than 20 trained
    perturbations have a text.
    """
    check_training(train)
    names = _look_up([train, query, *([also] if also else [])], kb, config)
    known = names.known(train)
    asked = names.known(replace(query, labels=np.zeros(len(query))))
    other = names.known(also) if also else None
    _check_texts(names.texts, known, train.source)
    vectors = pair_vectors(names.texts, [known, asked, *([other] if other else [])])
    model = PairModel.fit(vectors, known, other, names.texts.names)
    scores, probabilities, used_other = model.predict(asked)
    has_text, rates = names.texts.has_vector[asked.rows], model.rates[vectors.places(asked)[1]]
    own = _own_labels(known, asked)
    is_own = np.isfinite(own)
    is_known_name = (names.texts.gene_ids > 0) | names.texts.has_vector
    return Prediction(
        query=query,
        score=np.where(is_own, own - rates, np.where(has_text, scores, 0.0)),
        probability=np.where(is_own, own, np.where(has_text, probabilities, rates)),
        source=tuple(TRAINED if one else PREDICTED for one in is_own.tolist()),
        note=_notes(known, asked, is_own=is_own, has_text=has_text, used=used_other, also=also.source if also else ""),
        neighbors=_neighbors(known, asked, names, query),
        unknown=tuple(np.array(names.texts.names)[~is_known_name].tolist()),
        n_trained=len(np.unique(known.rows)),
        n_shared=model.n_shared,
        n_by_also=int(used_other.sum()),
        also=also.source if also else "",
        auc_out_of_fold=model.auc,
        settings=model.settings,
        config=config,
        lineage=names.texts.lineage,
    )


def _own_labels(known: Known, asked: Known) -> Float[np.ndarray, " pair"]:
    """Labels of asked pairs that are known; NaN where they are not."""
    labels = dict(zip(zip(known.rows.tolist(), known.columns.tolist(), strict=True), known.values, strict=True))
    pairs = zip(asked.rows.tolist(), asked.columns.tolist(), strict=True)
    return np.array([labels.get(pair, np.nan) for pair in pairs], dtype=np.float64)


def _neighbors(known: Known, asked: Known, names: _Names, query: PairTable) -> dict[str, tuple[Neighbor, ...]]:
    """Nearest trained perturbations of each perturbation of the query that was not trained."""
    new = np.setdiff1d(asked.rows, known.rows)
    found = dict(zip(new.tolist(), nearest_trained(new.tolist(), np.unique(known.rows), names.texts), strict=True))
    rows = {name: names.row[name] for name in dict.fromkeys(query.perturbations)}
    return {name: found[row] for name, row in rows.items() if row in found}


def _notes(
    known: Known,
    asked: Known,
    *,
    is_own: Bool[np.ndarray, " pair"],
    has_text: Bool[np.ndarray, " pair"],
    used: Bool[np.ndarray, " pair"],
    also: str,
) -> tuple[str, ...]:
    """Say what else is to be known of each pair."""
    notes = (
        (np.isin(asked.rows, known.rows) & ~is_own, _OTHER_GENES),
        (~has_text & ~is_own, _NO_TEXT),
        (~np.isin(asked.columns, known.columns), _NEW_GENE),
        (used & has_text & ~is_own, f"labels of {also} used"),
    )
    return tuple("; ".join(text for is_so, text in notes if is_so[place]) for place in range(len(is_own)))


def _check_texts(texts: GeneTexts, known: Known, source: str) -> None:
    n_known = int(np.count_nonzero(texts.has_vector[np.unique(known.rows)]))
    if n_known < MIN_TRAINED:
        raise InputUnusable(
            f"{counted(n_known, 'trained perturbation')} of {source} have a text in {texts.lineage.store_id}, at least "
            f"{MIN_TRAINED} are needed; is it the store of their species?"
        )


def prediction_rows(found: Prediction) -> Iterator[list[Any]]:
    """Rows of a table of predictions."""
    near = {
        name: [value for one in neighbors for value in (one.name, one.similarity, one.term, one.sentence)]
        for name, neighbors in found.neighbors.items()
    }
    columns = (found.score.tolist(), found.probability.tolist(), found.source, found.note)
    for (perturbation, gene), *values in zip(found.query.pairs, *columns, strict=True):
        shown = near.get(perturbation, [])
        yield [perturbation, gene, *values, *shown, *[None] * (4 * N_SHOWN - len(shown))]


def predict_files(
    train: Path,
    query: Path,
    kb: genekb.Store,
    path: Path,
    *,
    config: PerturbConfig,
    also: Sequence[Path] = (),
    overwrite: bool = False,
) -> Prediction:
    """Predict the pairs of a table from another, and write them as .tsv or .csv; see :func:`predict_pairs`."""
    check_targets([Target(path)], inputs=[train, query, *also], overwrite=overwrite)
    found = predict_pairs(
        read_pairs(train, with_labels=True),
        read_pairs(query, with_labels=False),
        kb,
        config=config,
        also=read_other_lines(also),
    )
    write_table(path, COLUMNS, prediction_rows(found), digits=6, overwrite=overwrite)
    return found
