"""Messages of the library name arguments; the command line alone spells them as options."""

import ast
import re
from pathlib import Path

import pytest

from genekb_cellmodel_cli import cellmodel, genekb
from genekb_cellmodel_cli.app.output import as_options, name_options_of
from genekb_cellmodel_cli.app.running import MOVED
from tests.support.commands import commands_of

ROOT = Path(__file__).parents[2]
OPTION = re.compile(r"(?<![\w-])--[a-z]")
OF_OTHERS = "ray start --head"


def _strings(tree):
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    prose = {
        id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value.replace(OF_OTHERS, "")


@pytest.mark.parametrize("package", ["genekb", "cellmodel"])
def test_no_string_of_the_library_names_an_option(package):
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text[:80]!r}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, text in _strings(ast.parse(path.read_text()))
        if OPTION.search(text)
    ]
    assert not found


@pytest.mark.parametrize("package", ["genekb", "cellmodel", "cli"])
def test_nothing_names_a_command_that_went(package):
    gone = re.compile(rf"[`\"]({'|'.join(MOVED)})[ `\"]")
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / package).rglob("*.py")
        for name in gone.findall(path.read_text())
        if path.name != "running.py"
    }
    assert not found


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("use overwrite=True, or another `key_added`", "use --overwrite, or another --key-added"),
        ('give `kb`, or knowledge="none"', "give --kb, or --knowledge none"),
        ('within="COLUMN=A,B"', "--within COLUMN=A,B"),
        ("`genekb info` with `models` lists them", "`genekb info --models` lists them"),
        ("`nothing` of this command, x=1 and y=True", "`nothing` of this command, x=1 and y=True"),
    ],
)
def test_the_command_line_spells_arguments_as_its_options(message, printed):
    name_options_of(commands_of(cellmodel.app)["cluster"])
    assert as_options(message) == printed


def test_an_argument_of_another_command_that_a_message_names_is_an_option_of_it():
    found = {
        hit
        for package in ("genekb", "cellmodel")
        for path in (ROOT / package).rglob("*.py")
        for hit in re.findall(r"`[a-z]+ [a-z-]+` with `[a-z_]+`", path.read_text())
    }
    assert found
    for message in found:
        program, command, option = as_options(message).strip("`").split()
        commands = commands_of({"genekb": genekb, "cellmodel": cellmodel}[program].app)
        assert option in {name for param in commands[command].params for name in param.opts}, message
