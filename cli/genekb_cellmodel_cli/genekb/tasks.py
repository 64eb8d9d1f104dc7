"""The part of `genekb compare` that scores gene-level tasks: options, and what is printed."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from genekb.core.messages import counted
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.output import Columns, note, show, table

if TYPE_CHECKING:
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
    plot: Annotated[
        Path | None, typer.Option(help="With --tasks: dot plot to write, .svg, .png or .pdf."), options.A_PLOT
    ] = None
    overwrite: options.Overwrite = False

    def check(self) -> None:
        """Refuse options that say nothing without tasks."""
        given = {"--knowledge": self.knowledge, "--kb-b": self.kb_b, "-o": self.output, "--plot": self.plot}
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


def compare_on_tasks(
    store: options.NamedStore, given: TaskOptions, *, encoders: Sequence[str] | None, seed: int, json: bool
) -> None:
    """Score encoders on tasks, write what was asked for and print the figures."""
    from genekb.files.replace import Target, check_targets
    from genekb.query.tasks.scores import compare_tasks, write_task_table

    if given.tasks is None:
        raise ValueError("no folder of tasks")
    kinds = given.kinds()
    if given.plot is not None:
        from cellmodel.pl._canvas import check_format

        check_format(given.plot)
    targets = [Target(path) for path in (given.output, given.plot) if path is not None]
    check_targets(targets, inputs=[given.tasks], overwrite=given.overwrite)
    stores = [store.open(name) for name in dict.fromkeys([store.name, *([given.kb_b] if given.kb_b else [])])]
    found = compare_tasks(
        stores, given.tasks, encoders=encoders, knowledge=kinds, scored_on=given.scored_on, seed=seed,
    )  # fmt: skip
    if given.output is not None:
        write_task_table(found, given.output, overwrite=given.overwrite)
    if given.plot is not None:
        from cellmodel.pl._benchmarks import draw_tasks

        draw_tasks(_shown(found), given.plot, overwrite=given.overwrite)
    written = {name: str(path) for name, path in (("table", given.output), ("plot", given.plot)) if path is not None}
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
