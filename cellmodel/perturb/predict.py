"""Labels of pairs of perturbation and gene whose perturbation was never seen, predicted from those that were."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

import genekb
from cellmodel.core.errors import InputUnusable
from cellmodel.io.records import Lineage
from cellmodel.io.writers import check_targets, output
from cellmodel.perturb.auc import mean_gene_auc
from cellmodel.perturb.features import Known, Vectors, pair_features
from cellmodel.perturb.model import (
    Calibration,
    Stack,
    calibrate,
    fit_stack,
    fold_of,
    frequencies,
    frequencies_out_of_fold,
    out_of_fold,
)
from cellmodel.perturb.neighbors import N_SHOWN, Neighbor, nearest_trained
from cellmodel.perturb.tables import MIN_TRAINED, PairTable, check_training, read_pairs
from cellmodel.perturb.texts import GeneTexts, TextKnowledge, gene_texts
from genekb.core.messages import counted, table_text
from genekb.files.replace import Target

log = logging.getLogger(__name__)
TRAINED, PREDICTED = "trained", "predicted"
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
    also: str  # file of that table
    auc_out_of_fold: float  # mean over genes and groups of training perturbations, each predicted by the others
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
            "n_perturbations_shared_with_also": self.n_shared,
            "knowledge": self.config.knowledge,
            **asdict(self.lineage),
        }


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Names:
    """Rows of vectors by name; several names of one gene are one row."""

    texts: GeneTexts
    row: dict[str, int]

    def rows(self, names: Sequence[str]) -> Int[np.ndarray, " name"]:
        return np.array([self.row[name] for name in names], dtype=np.int64)

    def known(self, table: PairTable) -> Known:
        labels = np.asarray(table.labels, dtype=np.float64)
        return Known(rows=self.rows(table.perturbations), columns=self.rows(table.genes), values=labels)


def _look_up(tables: Sequence[PairTable], kb: genekb.Store, config: PerturbConfig) -> _Names:
    names = sorted({name for table in tables for name in (*table.perturbations, *table.genes)})
    texts = gene_texts(names, kb, encoder=config.encoder, knowledge=config.knowledge)
    first: dict[object, int] = {}
    row = {
        name: first.setdefault(gene or name, place)
        for place, (name, gene) in enumerate(zip(names, texts.gene_ids.tolist(), strict=True))
    }
    return _Names(texts=texts, row=row)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Compact:
    """Vectors of the perturbations and genes that occur, and places of rows among them."""

    vectors: Vectors
    perturbations: Int[np.ndarray, " perturbation"]  # rows, sorted
    genes: Int[np.ndarray, " gene"]

    def known(self, pairs: Known) -> Known:
        rows, columns = self.places(pairs)
        return Known(rows=rows, columns=columns, values=pairs.values)

    def places(self, pairs: Known) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
        return np.searchsorted(self.perturbations, pairs.rows), np.searchsorted(self.genes, pairs.columns)


def _compact(texts: GeneTexts, pairs: Sequence[Known]) -> _Compact:
    perturbations = np.unique(np.concatenate([one.rows for one in pairs]))
    genes = np.unique(np.concatenate([one.columns for one in pairs]))
    vectors = Vectors(perturbations=texts.vectors[perturbations], genes=texts.vectors[genes])
    return _Compact(vectors=vectors, perturbations=perturbations, genes=genes)


def predict_pairs(
    train: PairTable, query: PairTable, kb: genekb.Store, *, config: PerturbConfig, also: PairTable | None = None
) -> Prediction:
    """Predict labels of pairs by the texts of the perturbed and of the responding genes.

    Every temperature, weight and calibration is set on groups of training perturbations; labels of the query are not
    looked at. ``also``: labels of other cell lines, used for perturbations that they share. Raises ``InputUnusable``
    where the training table is refused, see :func:`cellmodel.perturb.tables.check_training`, or fewer than 20 trained
    perturbations have a text.
    """
    check_training(train)
    names = _look_up([train, query, *([also] if also else [])], kb, config)
    known = names.known(train)
    asked = names.known(replace(query, labels=np.zeros(len(query))))
    other = names.known(also) if also else None
    _check_texts(names.texts, known, train.source)
    compact = _compact(names.texts, [known, asked, *([other] if other else [])])
    model = _Model.fit(compact, known, other, names.texts.names)
    scores, probabilities, used_other = model.predict(asked)
    has_text = names.texts.has_vector[asked.rows]
    rates = model.rates[compact.places(asked)[1]]
    scores = np.where(has_text, scores, 0.0)
    probabilities = np.where(has_text, probabilities, rates)
    label_of = dict(zip(zip(known.rows.tolist(), known.columns.tolist(), strict=True), known.values, strict=True))
    pairs = list(zip(asked.rows.tolist(), asked.columns.tolist(), strict=True))
    own = np.array([label_of.get(pair, np.nan) for pair in pairs])
    is_own = np.isfinite(own)
    trained_rows, trained_columns = set(known.rows.tolist()), set(known.columns.tolist())
    new = sorted({row for row, _ in pairs} - trained_rows)
    found = nearest_trained(new, np.array(sorted(trained_rows)), names.texts)
    near = dict(zip(new, found, strict=True))
    notes = [
        _note(
            is_own=bool(is_own[place]),
            is_trained=row in trained_rows,
            is_new_gene=column not in trained_columns,
            has_text=bool(has_text[place]),
            also=also.source if also and used_other[place] else "",
        )
        for place, (row, column) in enumerate(pairs)
    ]
    known_names = set(np.array(names.texts.names)[names.texts.gene_ids > 0].tolist())
    return Prediction(
        query=query,
        score=np.where(is_own, own - rates, scores),
        probability=np.where(is_own, own, probabilities),
        source=tuple(TRAINED if one else PREDICTED for one in is_own.tolist()),
        note=tuple(notes),
        neighbors={
            name: near[names.row[name]] for name in dict.fromkeys(query.perturbations) if names.row[name] in near
        },
        unknown=tuple(sorted(set(names.row) - known_names)),
        n_trained=len(trained_rows),
        n_shared=model.n_shared,
        also=also.source if also else "",
        auc_out_of_fold=model.auc,
        config=config,
        lineage=names.texts.lineage,
    )


def _check_texts(texts: GeneTexts, known: Known, source: str) -> None:
    n_known = int(np.count_nonzero(texts.has_vector[np.unique(known.rows)]))
    if n_known < MIN_TRAINED:
        raise InputUnusable(
            f"{counted(n_known, 'trained perturbation')} of {source} have a text in {texts.lineage.store_id}, at least "
            f"{MIN_TRAINED} are needed; is it the store of their species?"
        )


def _note(*, is_own: bool, is_trained: bool, is_new_gene: bool, has_text: bool, also: str) -> str:
    notes = [
        (is_trained and not is_own, _OTHER_GENES),
        (not has_text and not is_own, _NO_TEXT),
        (is_new_gene, _NEW_GENE),
        (also and has_text and not is_own, f"labels of {also} used"),
    ]
    return "; ".join(text for is_so, text in notes if is_so)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Model:
    """Weights and calibration of a training table, and what they are used with."""

    compact: _Compact
    known: Known
    other: Known | None  # of other cell lines, where enough perturbations are shared
    stack: Stack
    stack_with_other: Stack | None
    rates: Float[np.ndarray, " gene"]
    calibration: Calibration
    auc: float
    n_shared: int

    @classmethod
    def fit(cls, compact: _Compact, known: Known, other: Known | None, names: Sequence[str]) -> "_Model":
        """Fit everything to features that are out of fold."""
        known, n_genes = compact.known(known), len(compact.genes)
        other = compact.known(other) if other else None
        trained = np.unique(known.rows)
        folds = np.zeros(len(compact.perturbations), dtype=np.int64)
        folds[trained] = fold_of([names[row] for row in compact.perturbations[trained].tolist()])
        features = out_of_fold(known, folds, compact.vectors)
        stack = fit_stack(features, known, n_genes=n_genes)
        scores, left_out = _scores(features, known, folds, n_genes=n_genes)
        shared = np.isin(known.rows, other.rows) if other else np.zeros(len(known.rows), dtype=bool)
        n_shared, with_other = len(np.unique(known.rows[shared])), None
        if other and n_shared < MIN_TRAINED:
            log.warning(
                "%d trained perturbations are in the other table, %d are needed; not used", n_shared, MIN_TRAINED
            )
            other, n_shared = None, 0
        elif other:
            both, part = _with_other(features[shared], other, known.take(shared), compact.vectors), known.take(shared)
            with_other = fit_stack(both, part, n_genes=n_genes)
            scores[shared], left_out[shared] = _scores(both, part, folds, n_genes=n_genes)
        rates = frequencies_out_of_fold(known, folds, n_genes=n_genes)
        return cls(
            compact=compact,
            known=known,
            other=other,
            stack=stack,
            stack_with_other=with_other,
            rates=frequencies(known, n_genes=n_genes),
            calibration=calibrate(scores, rates, known.values),
            auc=_mean_over_folds(known, folds, left_out),
            n_shared=n_shared,
        )

    def predict(self, asked: Known) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Score and probability of pairs, and which of them used labels of other cell lines."""
        rows, columns = self.compact.places(asked)
        features = pair_features(self.known, rows, columns, self.compact.vectors)
        scores = self.stack.score(features, columns)
        used = np.zeros(len(rows), dtype=bool)
        if self.other is not None and self.stack_with_other is not None:
            used = np.isin(rows, self.other.rows)
            if used.any():
                part = Known(rows=rows[used], columns=columns[used], values=asked.values[used])
                both = _with_other(features[used], self.other, part, self.compact.vectors)
                scores[used] = self.stack_with_other.score(both, columns[used])
        return scores, self.calibration.probability(scores, self.rates[columns]), used


def _with_other(
    features: Float[np.ndarray, "pair feature"], other: Known, pairs: Known, vectors: Vectors
) -> Float[np.ndarray, "pair feature"]:
    return np.concatenate([features, pair_features(other, pairs.rows, pairs.columns, vectors)], axis=1)


def _scores(
    features: Float[np.ndarray, "pair feature"], known: Known, folds: Int[np.ndarray, " row"], *, n_genes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of known pairs by features out of fold: with weights of all groups, and of the other groups alone."""
    left_out, of_pair = np.empty(len(known.rows)), folds[known.rows]
    for fold in np.unique(of_pair).tolist():
        inside = of_pair == fold
        stack = fit_stack(features[~inside], known.take(~inside), n_genes=n_genes)
        left_out[inside] = stack.score(features[inside], known.columns[inside])
    return fit_stack(features, known, n_genes=n_genes).score(features, known.columns), left_out


def _mean_over_folds(known: Known, folds: Int[np.ndarray, " row"], scores: Float[np.ndarray, " pair"]) -> float:
    """Mean AUC over genes inside each group of perturbations, which have offsets of their own; mean of groups."""
    of_pair = folds[known.rows]
    inside = [of_pair == fold for fold in np.unique(of_pair).tolist()]
    return float(np.mean([mean_gene_auc(known.columns[one], known.values[one], scores[one]) for one in inside]))


def prediction_columns() -> list[str]:
    """Columns of a table of predictions."""
    numbered = [
        f"{name}_{rank}" for rank in range(1, N_SHOWN + 1) for name in ("nearest", "similarity", "shared", "sentence")
    ]
    return ["perturbation", "gene", "score", "p", "source", "note", *numbered]


def prediction_rows(found: Prediction) -> Iterator[list[Any]]:
    """Rows of a table of predictions."""
    near = {
        name: [value for one in neighbors for value in (one.name, one.similarity, one.term, one.sentence)]
        for name, neighbors in found.neighbors.items()
    }
    columns = (found.score.tolist(), found.probability.tolist(), found.source, found.note)
    for (perturbation, gene), *values in zip(found.query.pairs, *columns, strict=True):
        yield [perturbation, gene, *values, *_filled(near.get(perturbation, []))]


def _filled(values: list[Any]) -> list[Any]:
    return values + [None] * (4 * N_SHOWN - len(values))


def write_predictions(found: Prediction, path: Path, *, overwrite: bool = False) -> None:
    """Write predictions as .tsv, or as .csv where the name says so."""
    text = table_text(path, prediction_columns(), prediction_rows(found), digits=6)
    with output(Target(path), overwrite=overwrite) as part:
        part.write_text(text, encoding="utf-8")


def predict_files(
    train: Path,
    query: Path,
    kb: genekb.Store,
    path: Path,
    *,
    config: PerturbConfig,
    also: Path | None = None,
    overwrite: bool = False,
) -> Prediction:
    """Predict the pairs of a table from those of another, and write them; see :func:`predict_pairs`."""
    check_targets([Target(path)], inputs=[train, query, *([also] if also else [])], overwrite=overwrite)
    found = predict_pairs(
        read_pairs(train, with_labels=True),
        read_pairs(query, with_labels=False),
        kb,
        config=config,
        also=read_pairs(also, with_labels=True) if also else None,
    )
    write_predictions(found, path, overwrite=overwrite)
    return found
