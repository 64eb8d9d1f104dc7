"""The command `genekb compare`: encoders by shared neighbors and known terms, or by gene-level tasks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

import genekb
from genekb.core.messages import counted
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of
from genekb_cellmodel_cli.app.output import Columns, note, show, table
from genekb_cellmodel_cli.app.signature import Arguments

if TYPE_CHECKING:
    from genekb.query.compare import Comparison
    from genekb.query.knowledge import Knowledge
    from genekb.query.tasks.scores import TaskComparison, TaskRow

_N_PUBLISHED: Final = 3  # best published figures of a task that are shown
_N_LISTED: Final = 5


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What is scored on tasks; all but the folder need it."""

    tasks: Annotated[
        Path | None,
        typer.Option(help="Score tasks instead: folder of tables NAME.tsv (term, gene_id or gene, label[, split])."),
    ] = None
    knowledge: Annotated[
        str | None,
        typer.Option(
            help="With --tasks: real, shuffled, name, symbol, masked, random, parted by commas; the first four if left "
            "out. masked: texts without symbols, words of the own name, and words of the terms (terms.tsv: task, name)."
        ),
    ] = None
    scored_on: Annotated[
        Literal["test", "inner"],
        typer.Option(help="With --tasks: the part called test, or each fold by the others, to choose with."),
    ] = "test"
    kb_b: Annotated[
        str | None, typer.Option("--kb-b", help="With --tasks: another store to score, such as an older release.")
    ] = None
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="With --tasks: table of the figures to write, .tsv or .csv."),
        options.A_TABLE,
    ] = None
    overwrite: options.Overwrite = False

    def check(self) -> None:
        """Refuse options that say nothing without tasks."""
        given = {"--knowledge": self.knowledge, "--kb-b": self.kb_b, "-o": self.output}
        name = next((name for name, value in given.items() if value is not None), None)
        if self.tasks is None and (name or self.scored_on != "test"):
            raise typer.BadParameter(f"{name or '--scored-on'} is for tasks; give --tasks a folder of tables")

    def kinds(self) -> "tuple[Knowledge, ...] | None":
        """Give what vectors may know, if it was chosen."""
        from genekb.query.knowledge import KNOWLEDGE

        if self.knowledge is None:
            return None
        asked = [part.strip() for part in self.knowledge.split(",")]
        unknown = next((each for each in asked if each not in KNOWLEDGE), None)
        if unknown is not None:
            raise typer.BadParameter(f"--knowledge is {', '.join(KNOWLEDGE)}, parted by commas, not {unknown!r}")
        return tuple(each for each in KNOWLEDGE if each in asked)


def _compare_on_tasks(
    store: options.NamedStore, given: TaskOptions, *, encoders: Sequence[str] | None, seed: int, json: bool
) -> None:
    """Score encoders on tasks, write what was asked for and print the figures."""
    from genekb.files.replace import Target, check_targets
    from genekb.query.tasks.scores import compare_tasks, write_task_table

    if given.tasks is None:
        raise ValueError("no folder of tasks")
    kinds = given.kinds()
    targets = [] if given.output is None else [Target(given.output)]
    check_targets(targets, inputs=[given.tasks], overwrite=given.overwrite)
    stores = [store.open(name) for name in dict.fromkeys([store.name, *([given.kb_b] if given.kb_b else [])])]
    found = compare_tasks(
        stores, given.tasks, encoders=encoders, knowledge=kinds, scored_on=given.scored_on, seed=seed,
    )  # fmt: skip
    if given.output is not None:
        write_task_table(found, given.output, overwrite=given.overwrite)
    written = {} if given.output is None else {"table": str(given.output)}
    show(asdict(found) | written, [*_lines(found), *(f"{name}: {path}" for name, path in written.items())], json=json)
    for line in () if json else _notes(found):
        note(line)


def _shown(found: "TaskComparison") -> list["TaskRow"]:
    """Rows without the published figures that are neither the best nor of the first way to compare."""
    from genekb.query.tasks.scores import best_published

    shown = best_published(found.rows, n_best=_N_PUBLISHED)
    return [row for row in found.rows if row.knowledge != "published" or row in shown]


def _lines(found: "TaskComparison") -> Iterator[str]:
    part = "test" if found.scored_on == "test" else "inner folds, test left alone"
    yield f"AUROC on {part}: mean over the terms, 95 % interval by bootstrap of the terms"
    columns: Columns = {
        "task": "task",
        **({"store": lambda row: row.store_id.partition(":")[0]} if len(found.store_ids) > 1 else {}),
        "encoder": lambda row: f"{row.encoder} {row.variant}".strip(),
        "knowledge": "knowledge",
        "AUROC": "auroc",
        "95 %": lambda row: _interval(row.low, row.high),
        "to the first": "difference",
        "95 % ": lambda row: _interval(row.difference_low, row.difference_high),
        "terms": lambda row: row.n_terms or None,
        "genes": lambda row: row.n_genes or None,
        "missing": lambda row: row.n_missing if row.n_terms else None,
    }
    rows = _shown(found)
    for task in dict.fromkeys(row.task for row in rows):
        yield from ("", *table(columns, [row for row in rows if row.task == task]))


def _interval(low: float | None, high: float | None) -> str:
    return f"{low:.3f} to {high:.3f}" if low is not None else ""


def _notes(found: "TaskComparison") -> Iterator[str]:
    for task, names in found.unknown.items():
        if names:
            yield f"{task}: {counted(len(names), 'name')} not in {found.store_ids[0]}: {_listed(names)}"
    for task, names in found.skipped_terms.items():
        if names:
            yield f"{task}: {len(names):,} terms lack a class where they are trained or scored: {_listed(names)}"
    yield from (f"left out: {why}" for why in found.left_out)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _N_LISTED:,} more; --json lists all" if len(names) > _N_LISTED else ""
    return ", ".join(names[:_N_LISTED]) + more


def _score(name: str) -> Callable[[Any], Any]:
    return lambda task: getattr(task.score, name)


_TASK_COLUMNS: Columns = {
    "vocabulary": "vocabulary",
    "encoder": "encoder",
    "genes": _score("n_genes"),
    "terms": _score("n_terms"),
    "share": _score("knn_share"),
    "shuffled": _score("shuffled"),
    "chance": _score("chance"),
    "gain": _score("gain"),
    "95 %": lambda task: f"{task.score.gain_low:.3f} to {task.score.gain_high:.3f}",
    "kNN": _score("knn_accuracy"),
    "held out": "held_out",
}


def compare(
    store: options.NamedStore,
    tasks: TaskOptions,
    arguments: Arguments = arguments_of("genekb.compare", "kb", neighbors={"min": 1}, genes={"min": 0}),
    json: options.Json = False,
) -> None:
    """Compare encoders of a store: shared neighbors, kernel alignment, and what their vectors know of genes.

    With --tasks: how well they predict terms of genes, beside controls, intervals and published figures.

    Example: genekb compare --kb human --tasks gene_tasks -o tasks.tsv
    """
    tasks.check()
    neighbors, genes = arguments["neighbors"], arguments["genes"]
    if tasks.tasks is not None:
        if arguments["vocabulary"] or (neighbors, genes) != (10, 10_000):
            raise typer.BadParameter("--neighbors, --genes and --vocabulary are for a comparison without --tasks")
        _compare_on_tasks(store, tasks, encoders=arguments["encoder"], seed=arguments["random_state"], json=json)
        return
    if 0 < genes <= neighbors:
        raise typer.BadParameter(f"--genes must be above --neighbors ({neighbors}), got {genes}")
    result = genekb.compare(store.open(), **arguments)
    note_not_pulled(result.not_pulled)
    show(asdict(result), _comparison_lines(result, n_asked=genes), json=json)
    for name in () if json else result.skipped:
        note(f"left out: {name}: too few of the compared genes share its terms")


def _comparison_lines(result: "Comparison", *, n_asked: int) -> Iterator[str]:
    sample = " (a sample; --genes 0 takes all)" if result.n_genes == n_asked else ""
    yield from (f"{result.store_id}: {result.n_genes:,} genes{sample}, {result.n_neighbors} neighbors", "")
    if result.pairs:
        columns: Columns = {
            "first": "first",
            "second": "second",
            "shared neighbors": "neighbor_overlap",
            "by chance": lambda _: result.chance_overlap,
            "CKA": "cka",
        }
        yield from (*table(columns, result.pairs), "", _PAIRS_READ, "")
    if result.tasks:
        yield from (*table(_TASK_COLUMNS, result.tasks), "", _TASKS_READ)


_PAIRS_READ = (
    "shared neighbors: mean fraction of a gene's nearest genes that both give; CKA: 1 where the vectors are the same "
    "but for rotation and scale"
)
_TASKS_READ = (
    "share: mean fraction of a gene's nearest genes that have a term in common with it; gain: that minus the same for "
    "permuted vectors, more than chance where its interval is above 0"
)


def note_not_pulled(encoder_ids: Sequence[str]) -> None:
    """Say which encoders were left where the store was pulled from."""
    if encoder_ids:
        note(f"left out, not pulled: {', '.join(encoder_ids)}")
