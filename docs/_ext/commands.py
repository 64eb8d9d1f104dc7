"""Write the reference of commands from the programs: it takes the place of a line `<!-- commands of NAME -->`.

A command is linked with the functions that do the same, and their docstrings with it.
"""

import inspect
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

import typer.main

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MARK = re.compile(r"^<!-- commands of (\w+) -->$", re.MULTILINE)
NAMED = re.compile(r"(?<!`)(`{1,2})((?:genekb|cellmodel) [^`<]+?)\1(?!`)")
# where functions have the names of commands
SPACES = {"genekb": ("genekb",), "cellmodel": ("cellmodel.tl", "cellmodel.bench", "cellmodel")}
OTHER_NAMES = {
    "genekb encode": ("genekb.encode", "genekb.import_vectors"),
    "genekb download": ("genekb.download", "genekb.fetch"),
    "genekb info": ("genekb.open", "genekb.path", "genekb.list_stores", "genekb.models"),
    "genekb resolve": ("genekb.Store.resolve", "genekb.Store.coverage"),
    "genekb search": ("genekb.Store.search", "genekb.Store.neighbors"),
    "genekb lock": ("genekb.lock", "cellmodel.tl.lock"),
    "genekb pull": ("genekb.pull", "genekb.sync"),
    "genekb sql": ("genekb.Store.sql",),
    "genekb verify": ("genekb.verify", "genekb.sign", "genekb.keygen"),
    "cellmodel annotate": ("cellmodel.tl.annotate", "cellmodel.tl.annotate_markers"),
    "cellmodel cluster": ("cellmodel.tl.cluster", "cellmodel.tl.embed"),
    "cellmodel doctor": ("genekb.doctor",),
    "cellmodel export": ("cellmodel.tl.cell_type_terms", "cellmodel.tl.export_graph", "cellmodel.io.read_graph"),
    "cellmodel model pull": ("cellmodel.tl.pull", "cellmodel.tl.sync"),
    "cellmodel model push": ("cellmodel.tl.push",),
    "cellmodel perturb": ("cellmodel.tl.perturb", "cellmodel.bench.perturb_eval"),
}


@cache
def commands_of(program: str) -> dict[str, typer.core.TyperCommand]:
    """Give every command of a program by the words that call it, such as `cluster` and `model pull`."""
    app = import_module(f"genekb_cellmodel_cli.{program}").app
    return dict(_below(typer.main.get_command(app)))


def _below(group: typer.core.TyperGroup, *words: str) -> Iterator[tuple[str, typer.core.TyperCommand]]:
    for name in group.commands:
        command = group.get_command(typer.Context(group), name)
        if hasattr(command, "commands"):
            yield from _below(command, *words, name)
        else:
            yield " ".join((*words, name)), command


@cache
def functions_of(program: str, words: str) -> tuple[str, ...]:
    """Give the functions that do what a command does, by their names in the reference; empty where there are none."""
    command, name = f"{program} {words}", re.sub("[ -]", "_", words)
    if command == "cellmodel plot":
        return tuple(f"cellmodel.pl.{each}" for each in import_module("cellmodel.pl").__all__)
    found = [f"{space}.{name}" for space in SPACES[program] if name in import_module(space).__all__]
    return OTHER_NAMES.get(command, tuple(found[:1]))


@cache
def command_by_function() -> dict[str, str]:
    """Give the command of each function that has one."""
    commands = ((program, words) for program in SPACES for words in commands_of(program))
    return {name: f"{program} {words}" for program, words in commands for name in functions_of(program, words)}


def section(program: str, words: str, command: typer.core.TyperCommand) -> str:
    """Write the reference of one command in Markdown: what it does, an example, its arguments and options."""
    text, _, example = " ".join(inspect.cleandoc(command.help or "").split()).partition("Example: ")
    context = typer.Context(command, info_name=f"{program} {words}")
    records = [record for parameter in command.params if (record := parameter.get_help_record(context))]
    options = "\n\n".join(f"`{names}`\n: {_escaped(what)}" for names, what in records)
    functions = ", ".join(f"{{py:obj}}`{name}`" for name in functions_of(program, words))
    python = f"In Python: {functions}.\n\n" if functions else ""
    title = f"({_label(f'{program} {words}')})=\n## {program} {words}"
    return f"{title}\n\n{_escaped(text)}\n\n```console\n{example}\n```\n\n{python}{options}\n"


def _label(command: str) -> str:
    return f"command-{command.replace(' ', '-')}"


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


def link(_app: "Sphinx", _what: str, name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Link the commands that a docstring names; add that of its function after the first paragraph, if it does not."""
    text = NAMED.sub(_linked, "\n".join(lines))
    command = command_by_function().get(name)
    if command and f"<{_label(command)}>" not in text:
        first, _, rest = text.partition("\n\n")
        text = f"{first}\n\nFrom the shell: {_reference(command, command)}.\n\n{rest}"
    lines[:] = text.split("\n")


def _linked(found: re.Match[str]) -> str:
    program, _, words = found[2].partition(" ")
    starts = (name for name in commands_of(program) if f"{words} ".startswith(f"{name} "))
    name = max(starts, key=len, default="")
    return _reference(found[2], f"{program} {name}") if name else found[0]


def _reference(text: str, command: str) -> str:
    return f":ref:`{text} <{_label(command)}>`"


def setup(app: "Sphinx") -> dict[str, bool]:
    """Connect to Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("source-read", fill)
    app.connect("autodoc-process-docstring", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
