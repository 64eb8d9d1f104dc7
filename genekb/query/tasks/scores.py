"""Score the encoders of stores on gene-level tasks, beside their controls and published figures."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float

from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.core.progress import Progress, progress
from genekb.files.tables import write_table
from genekb.query.compare import chosen_encoders, resampled_interval
from genekb.query.knowledge import Knowledge, KnowledgeVectors, knowledge_vectors, why_without_name
from genekb.query.tasks.ridge import Points, score_rounds
from genekb.query.tasks.tables import PUBLISHED, GeneTask, ScoredOn, Term, read_tasks
from genekb.sources.base import read_header, read_rows
from genekb.store.reader import Store

DEFAULT_KNOWLEDGE: Final[tuple[Knowledge, ...]] = ("real", "shuffled", "name", "symbol")
VARIANTS: Final = ("", "all_genes", "sum", "shared_genes", "product", "concat")  # after the task's name in a column
N_RESAMPLED: Final = 2_000
_GO_TERM: Final = re.compile(r"GO:\d{7}$")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRow:
    """Figures of one encoder, or of one published embedding, on one task."""

    task: str
    store_id: str = ""  # empty for published figures
    encoder: str  # encoder id, or name of a published embedding
    knowledge: str  # what the vectors know, see :class:`genekb.query.knowledge.KnowledgeVectors`, or ``published``
    auroc: float  # mean over the terms
    low: float | None = None  # low, high: 95 % bootstrap interval over the terms; None for fewer than two
    high: float | None = None
    n_terms: int = 0
    n_genes: int = 0  # genes of the task with a vector
    n_missing: int = 0  # genes of the task without one, those that the store does not know among them
    # AUROC minus that of the first row of the task, on the terms that both have, with a 95 % interval over them; None
    # for the first row and for published figures
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    variant: str = ""  # of a published figure: what its column says after the task's name
    by_term: Mapping[str, float] | None = None  # AUROC of each term


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskComparison:
    """Encoders of stores on tasks."""

    store_ids: tuple[str, ...]
    scored_on: ScoredOn
    rows: tuple[TaskRow, ...]
    # by task: names and GeneIDs that the first store does not know; genes that it knows and that have no text, by
    # ``ENCODER knowledge`` only where the control lacks more than the encoder
    unknown: Mapping[str, tuple[str, ...]]
    missing: Mapping[str, Mapping[str, tuple[int, ...]]]
    skipped_terms: Mapping[str, tuple[str, ...]]  # by task, terms without both classes among the genes with a vector
    left_out: tuple[str, ...]  # tables, encoders and controls that were not used, and why


def compare_tasks(
    stores: Sequence[Store],
    folder: Path,
    *,
    encoders: Sequence[str] | None = None,
    knowledge: Sequence[Knowledge] | None = None,
    scored_on: ScoredOn = "test",
    seed: int = 0,
    progress: Progress = progress,
) -> TaskComparison:
    """Score vectors on the tables of a folder by class-balanced kernel ridge regression.

    Nothing is chosen: the kernel exp(-2 (1 - cosine)) and the penalty 3 serve every term and encoder, so that the parts
    called ``test`` are scored and not used otherwise. ``stores``: the first resolves names of genes; others, such as an
    older release, are scored on the same genes. ``knowledge``: if left out, :data:`DEFAULT_KNOWLEDGE`. ``scored_on``:
    ``test``: trained on all folds. ``inner``: each fold scored by the others, ``test`` left alone. Raises
    ``SourceUnusable`` if a table is not right, ``NotAvailable`` if an encoder, or a control of it, is not there.
    """
    tasks, tables_left = read_tasks(folder, stores[0])
    notes = [f"{name}: {why}" for name, why in tables_left.items()]
    for task in tasks:
        if scored_on == "inner" and not any(term.rounds["inner"] for term in task.terms):
            raise SourceUnusable(f"{folder}/{task.name}: inner scores need two folds beside test; score it on test")
    wanted = [
        (store, encoder_id, kind)
        for store in stores
        for encoder_id in chosen_encoders(store, encoders, to="score")
        for kind in _knowledge_of(store, encoder_id, knowledge, notes)
    ]
    scorer = _Scorer(tasks=tasks, scored_on=scored_on, seed=seed, progress=progress, n_all=len(wanted) * len(tasks))
    for store, encoder_id, kind in wanted:
        scorer.add(store, encoder_id, kind, notes, is_asked=knowledge is not None)
    notes += [f"{task.name}: {task.n_repeated:,} rows repeat one before them" for task in tasks if task.n_repeated]
    published = read_published(folder, [task.name for task in tasks]) if scored_on == "test" else ()
    rows = [*_with_differences(scorer.rows, seed=seed), *published]
    order = {task.name: number for number, task in enumerate(tasks)}
    return TaskComparison(
        store_ids=tuple(store.store_id for store in stores),
        scored_on=scored_on,
        rows=tuple(sorted(rows, key=lambda row: order[row.task])),
        unknown={task.name: task.unknown for task in tasks},
        missing=scorer.missing,
        skipped_terms={name: tuple(terms) for name, terms in scorer.skipped.items()},
        left_out=tuple(dict.fromkeys(notes)),
    )


def _knowledge_of(
    store: Store, encoder_id: str, asked: Sequence[Knowledge] | None, notes: list[str]
) -> Iterator[Knowledge]:
    """Give what an encoder is scored with; a control of the store only as it is, unless more is asked for."""
    if asked is not None:
        if "name" in asked and (why := why_without_name(store, encoder_id)):
            raise NotAvailable(f"{why}; leave it out of `knowledge`, or choose encoders with `encoder`")
        yield from dict.fromkeys(asked)
        return
    kind = store.manifest.kind(encoder_id)
    for each in ("real",) if kind.is_control else DEFAULT_KNOWLEDGE:
        why = why_without_name(store, encoder_id) if each == "name" else ""
        if each == "name" and kind.is_remote:
            why = f'{encoder_id} is behind a network; ask for its control with knowledge="name"'
        if why:
            notes.append(why)
        else:
            yield each


def _with_differences(rows: Sequence[TaskRow], *, seed: int) -> Iterator[TaskRow]:
    """Compare each row with the first one of its task, term by term."""
    first: dict[str, TaskRow] = {}
    for row in rows:
        base = first.setdefault(row.task, row)
        own, others = row.by_term or {}, base.by_term or {}
        differences = np.array([own[name] - others[name] for name in own if name in others])
        if base is row or not len(differences):
            yield row
            continue
        low, high = bootstrap_interval(differences, seed=seed)
        yield replace(row, difference=float(differences.mean()), difference_low=low, difference_high=high)


def _is_answer(store: Store, encoder_id: str, task: GeneTask) -> bool:
    """Whether an encoder is made of the annotations that a task asks for: those of GO."""
    recipe = store.manifest.recipe(encoder_id)
    parts = [part.rpartition("=")[0] for part in str(recipe["model_id"]).split(",")] if recipe["kind"] == "mix" else []
    if any(_is_answer(store, part, task) for part in parts if part in store.manifest.encoders):
        return True
    is_go = recipe["kind"] == "terms" and "go" in str(recipe["model_id"]).split(",")
    return is_go and any(_GO_TERM.match(term.name) for term in task.terms)


class _Scorer:
    """Rows of figures as they are made."""

    def __init__(
        self, *, tasks: Sequence[GeneTask], scored_on: ScoredOn, seed: int, progress: Progress, n_all: int
    ) -> None:
        self.rows: list[TaskRow] = []
        self.missing: dict[str, dict[str, tuple[int, ...]]] = {task.name: {} for task in tasks}
        self.skipped: dict[str, dict[str, None]] = {task.name: {} for task in tasks}
        self._tasks, self._scored_on, self._seed, self._progress = tasks, scored_on, seed, progress
        self._n_all, self._n_done = n_all, 0
        self._gene_ids = np.unique(np.concatenate([task.gene_ids for task in tasks]))
        self._by_symbol: dict[bytes, list[TaskRow]] = {}  # rows of symbols, which encoders of the same genes share

    def add(self, store: Store, encoder_id: str, kind: Knowledge, notes: list[str], *, is_asked: bool) -> None:
        """Score one encoder with one kind of knowledge on every task."""
        if kind == "masked":  # of each task the words of its own terms
            self.rows += [row for task in self._tasks if (row := self._masked(task, store, encoder_id)) is not None]
            return
        try:
            found = knowledge_vectors(
                store, encoder_id, knowledge=kind, gene_ids=self._gene_ids, seed=self._seed,
                progress=self._count(f"names read by {encoder_id}", len(self._gene_ids)),
            )  # fmt: skip
        except NotAvailable as error:
            if is_asked or kind != "name":
                raise
            notes.append(f"control 'name' of {encoder_id}: {error}")
            return
        if not len(found.gene_ids):
            raise SourceUnusable(f"no gene of the tasks has a vector by {encoder_id} in {store.store_id}")
        key = store.store_id.encode() + found.gene_ids.tobytes()
        if kind == "symbol" and key in self._by_symbol:
            self.rows += [replace(row, encoder=encoder_id) for row in self._by_symbol[key]]
            self._n_done += len(self._tasks)
            return
        held = [task for task in self._tasks if _is_answer(store, encoder_id, task)]
        notes += [f"{task.name}: {encoder_id} is made of GO annotations, which are its answers" for task in held]
        self._n_done += len(held)
        made = [self._score(task, found, store.store_id) for task in self._tasks if task not in held]
        rows = [row for row in made if row is not None]
        if kind == "symbol":
            self._by_symbol[key] = rows
        self.rows += rows

    def _masked(self, task: GeneTask, store: Store, encoder_id: str) -> TaskRow | None:
        if _is_answer(store, encoder_id, task):
            self._n_done += 1
            return None
        count = self._count(f"masked texts read by {encoder_id}", len(task.gene_ids))
        found = knowledge_vectors(
            store, encoder_id, knowledge="masked", gene_ids=task.gene_ids, words=task.words, progress=count
        )
        return self._score(task, found, store.store_id)

    def _count(self, what: str, total: int) -> Callable[[int], None]:
        """Give a callback that adds up what is done; several genes may have one name, so that it may end early."""
        done = 0

        def advance(number: int) -> None:
            nonlocal done
            done += number
            self._progress(what, done, total)

        return advance

    def _score(self, task: GeneTask, found: KnowledgeVectors, store_id: str) -> TaskRow | None:
        self._progress("tasks", self._n_done, self._n_all)
        self._n_done += 1
        missing = np.setdiff1d(task.gene_ids, found.gene_ids)
        self.missing[task.name].setdefault(f"{store_id} {found.encoder_id} {found.knowledge}", tuple(missing.tolist()))
        areas = {term.name: self._score_term(term, found) for term in task.terms}
        known = {name: area for name, area in areas.items() if not math.isnan(area)}
        self.skipped[task.name] |= dict.fromkeys(areas.keys() - known.keys())
        if not known:
            return None
        low, high = bootstrap_interval(np.array(list(known.values())), seed=self._seed)
        return TaskRow(
            task=task.name,
            store_id=store_id,
            encoder=found.encoder_id,
            knowledge=found.knowledge,
            auroc=float(np.mean(list(known.values()))),
            low=low,
            high=high,
            n_terms=len(known),
            n_genes=len(task.gene_ids) - len(missing),
            n_missing=len(missing) + len(set(task.unknown) - set(map(str, task.gene_ids.tolist()))),
            by_term=known,
        )

    def _score_term(self, term: Term, found: KnowledgeVectors) -> float:
        place = np.searchsorted(found.gene_ids, term.genes).clip(max=len(found.gene_ids) - 1)
        here = (found.gene_ids[place] == term.genes).all(axis=1)
        rounds = [
            replace(each, train=each.train[here], scored=each.scored[here]) for each in term.rounds[self._scored_on]
        ]
        points = Points(vectors=found.vectors, members=place[here])
        return score_rounds(points, term.has_term[here], rounds, seed=self._seed)


def bootstrap_interval(figures: Float[np.ndarray, " term"], *, seed: int) -> tuple[float | None, float | None]:
    """95 % interval of the mean over terms, see :func:`resampled_interval`; None for fewer than two terms."""
    if len(figures) < 2:  # noqa: PLR2004 - one term has no interval
        return None, None
    return resampled_interval(figures, np.random.default_rng([seed, 3]), n_resampled=N_RESAMPLED)


_COLUMNS: Final = (
    *("task", "store", "encoder", "knowledge", "variant", "auroc", "low", "high"),
    *("difference", "difference_low", "difference_high", "n_terms", "n_genes", "n_missing"),
)


def write_task_table(found: TaskComparison, path: Path, *, overwrite: bool = False) -> None:
    """Write the rows of figures as a table, published ones too; ``OutputUnusable`` if the file exists."""
    rows = ((row.task, row.store_id, *(getattr(row, name) for name in _COLUMNS[2:])) for row in found.rows)
    write_table(path, _COLUMNS, rows, digits=6, overwrite=overwrite)


def best_published(rows: Sequence[TaskRow], *, n_best: int) -> list[TaskRow]:
    """Give the best published figures of each task, of one way to compare: that of all genes where there is one."""
    best = []
    for task in dict.fromkeys(row.task for row in rows):
        own = [row for row in rows if row.task == task and row.knowledge == PUBLISHED]
        variant = next((each for each in VARIANTS if any(row.variant == each for row in own)), "")
        own = [row for row in own if row.variant == variant]
        best += sorted(own, key=lambda row: -row.auroc)[:n_best]
    return best


def read_published(folder: Path, tasks: Sequence[str]) -> tuple[TaskRow, ...]:
    """Read ``published.tsv``: a row an embedding, a column a task, with what was compared behind its name."""
    path = next(filter(Path.is_file, (folder / f"{PUBLISHED}.tsv{ending}" for ending in ("", ".gz"))), None)
    if path is None:
        return ()
    header = read_header(path)
    if "embedding" not in header:
        raise SourceUnusable(f"{path} has no column 'embedding'; it needs one, and a column a task")
    rows, _ = read_rows(path, header, null_values=("", "-"))
    of_column = {column: found for column in header if (found := _task_of(column, tasks))}
    return tuple(
        TaskRow(
            task=task, encoder=row["embedding"], knowledge=PUBLISHED, variant=variant, auroc=_figure(path, row[column])
        )
        for column, (task, variant) in of_column.items()
        for row in rows.to_pylist()
        if row[column] is not None
    )


def _task_of(column: str, tasks: Sequence[str]) -> tuple[str, str] | None:
    """Task of a column, and what stands behind its name."""
    for variant in VARIANTS:
        task = column.removesuffix(f"_{variant}") if variant else column
        if task in tasks:
            return task, variant
    return None


def _figure(path: Path, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise SourceUnusable(f"{path}: {text!r} is no AUROC, a number in [0, 1]")
    return value
