"""Write the reference of commands from the programs: it takes the place of a line `<!-- commands of NAME -->`."""

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

import typer.main

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MARK = re.compile(r"^<!-- commands of (\w+) -->$", re.MULTILINE)


def commands_of(program: str) -> dict[str, typer.core.TyperCommand]:
    """Give every command of a program by the words that call it, such as `cluster` and `graph export`."""
    app = import_module(f"genekb_cellmodel_cli.{program}").app
    return dict(_below(typer.main.get_command(app)))


def _below(group: typer.core.TyperGroup, *words: str) -> Iterator[tuple[str, typer.core.TyperCommand]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _below(command, *words, name)
        else:
            yield " ".join((*words, name)), command


def section(program: str, words: str, command: typer.core.TyperCommand) -> str:
    """Write the reference of one command in Markdown: what it does, an example, its arguments and options."""
    text, _, example = " ".join(inspect.cleandoc(command.help or "").split()).partition("Example: ")
    context = typer.Context(command, info_name=f"{program} {words}")
    records = [record for parameter in command.params if (record := parameter.get_help_record(context))]
    options = "\n\n".join(f"`{names}`\n: {_escaped(what)}" for names, what in records)
    return f"## {program} {words}\n\n{_escaped(text)}\n\n```console\n{example}\n```\n\n{options}\n"


def _escaped(text: str) -> str:
    """Write plain text as Markdown: placeholders and brackets are not markup, and names between backticks stay so."""
    parts = text.split("`")
    return "`".join(part if index % 2 else re.sub(r"([\[\]<>*_])", r"\\\1", part) for index, part in enumerate(parts))


def reference(program: str) -> str:
    """Write all commands of a program, a section each."""
    return "\n".join(section(program, words, command) for words, command in commands_of(program).items())


def fill(_app: "Sphinx", _page: str, source: list[str]) -> None:
    """Put the reference in the place of its mark."""
    source[0] = MARK.sub(lambda mark: reference(mark[1]), source[0])


def setup(app: "Sphinx") -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
