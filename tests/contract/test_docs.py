"""What the docs name exists, and what exists is named."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import genekb
from genekb_cellmodel_cli import cellmodel as cellmodel_cli
from genekb_cellmodel_cli import genekb as genekb_cli
from tests.support.commands import commands_of

ROOT = Path(__file__).parents[2]
APPS = {"genekb": genekb_cli.app, "cellmodel": cellmodel_cli.app}
COMMANDS = {name: commands_of(app) for name, app in APPS.items()}
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]


def examples():
    for page in PAGES:
        for block in re.findall(r"```(?:console|bash)?\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.splitlines():
                if line.split(" ")[0] in APPS:
                    yield f"{page.name}: {line}"


@pytest.mark.parametrize("example", sorted(set(examples())))
def test_every_example_names_a_command_and_options_that_exist(example):
    words = shlex.split(example.split(": ", 1)[1])
    commands = COMMANDS[words[0]]
    command = commands[words[1] if words[1] in commands else " ".join(words[1:3])]
    known = {option for parameter in command.params for option in parameter.opts}
    used = {word for word in words[2:] if word.startswith("-") and word != "-"}
    assert used <= known, f"unknown: {used - known}"


@pytest.fixture
def made(monkeypatch):
    """What writes the reference of commands."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "_ext")
    return importlib.import_module("commands")


@pytest.mark.parametrize("name", APPS)
def test_the_reference_of_commands_holds_every_command_and_option(name, made):
    source = [(ROOT / "docs" / "reference" / f"{name}.md").read_text()]
    made.fill(None, "", source)
    parts = dict(re.findall(rf"^## {name} ([\w -]+)\n(.*?)(?=^## |\Z)", source[0], re.DOTALL | re.MULTILINE))
    assert parts.keys() == COMMANDS[name].keys()
    for command, made_by in COMMANDS[name].items():
        options = {parameter.opts[0] for parameter in made_by.params if not getattr(parameter, "hidden", False)}
        assert options - set(re.findall(r"[\w-]+", parts[command])) == set(), command


def listed_in_the_reference(page):
    text = (ROOT / "docs" / "reference" / "api" / page).read_text()
    for part in text.split(".. currentmodule:: ")[1:]:
        module = part.split("\n", 1)[0]
        yield from (f"{module}.{name}" for name in re.findall(r"^   ([\w.]+)$", part, re.MULTILINE))


@pytest.mark.parametrize(
    ("page", "spaces"),
    [("genekb.md", ["genekb"]), ("cellmodel.md", ["cellmodel", "cellmodel.tl", "cellmodel.pl", "cellmodel.io.get"])],
)
def test_the_reference_of_python_lists_every_public_name_and_no_other(page, spaces):
    modules = [importlib.import_module(space) for space in spaces]
    public = {
        f"{one.__name__}.{name}"
        for one in modules
        for name in one.__all__
        if not hasattr(getattr(one, name), "__path__")
    }
    listed = list(listed_in_the_reference(page))
    assert len(listed) == len(set(listed))
    assert public - {"cellmodel.get"} - set(listed) == set()
    assert {name for name in listed if name.rpartition(".")[0] in spaces} - public == set()


def test_commands_and_functions_that_do_the_same_are_linked(made):
    listed = {name for page in ("genekb.md", "cellmodel.md") for name in listed_in_the_reference(page)}
    linked = made.command_by_function()
    assert {name for name in linked if not name.startswith("genekb.Store.")} <= listed
    assert all(hasattr(genekb.Store, name.rpartition(".")[2]) for name in linked if ".Store." in name)
    alone = {words for program in COMMANDS for words in COMMANDS[program] if not made.functions_of(program, words)}
    assert alone == {"mcp"}
    lines = ["Do it, as `genekb build` does.", "", "Parameters"]
    made.link(None, "function", "genekb.build", None, None, lines)
    assert lines[0] == "Do it, as :ref:`genekb build <command-genekb-build>` does."
    lines = ["Draw.", "", "Parameters"]
    made.link(None, "function", "cellmodel.pl.umap", None, None, lines)
    assert lines[2] == "From the shell: :ref:`cellmodel plot <command-cellmodel-plot>`."


@pytest.mark.parametrize(("name", "command"), [(name, command) for name in COMMANDS for command in COMMANDS[name]])
def test_every_help_has_an_example(name, command):
    result = CliRunner().invoke(APPS[name], [*command.split(), "--help"])
    assert result.exit_code == 0
    assert f"Example: {name} {command}" in " ".join(result.output.split())


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_file_that_where_is_what_names_exists():
    roots = [ROOT, *(ROOT / name for name in ("cellmodel", "genekb", "cli/genekb_cellmodel_cli"))]
    page = (ROOT / "docs" / "architecture.md").read_text()
    section = page[page.index("## Where is what") :].split("\n## ")[0]
    named = [row.split("|")[2] for row in section.splitlines() if row.startswith("|")]
    absent = []
    for cell in named:
        folder = ""
        for name in re.findall(r"(?<!a new )`([\w./]+/\w+|[\w./]+\.(?:py|toml|j2))`", cell):
            path = name.replace("cli/.../", "") if "/" in name else f"{folder}/{name}"
            folder = path.rpartition("/")[0]
            if "NAME" not in path and not any((root / path).exists() for root in roots):
                absent.append(path)
    assert absent == []


def test_cited_keys_stand_in_the_bibliography():
    known = set(re.findall(r"@\w+\{(\w+),", (ROOT / "docs" / "references.bib").read_text()))
    for package in ("genekb", "cellmodel"):
        for path in (ROOT / package).rglob("*.py"):
            cited = set(re.findall(r":cite:`(\w+)`", path.read_text()))
            assert cited <= known, f"{path.name} cites {cited - known}"
