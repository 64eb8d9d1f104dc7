import functools
import importlib
import inspect
from importlib.metadata import version
from pathlib import Path

import pytest

from genekb_cellmodel_cli import cellmodel as cellmodel_cli
from genekb_cellmodel_cli import genekb as genekb_cli
from tests.support.commands import commands_of
from tests.support.in_process import call_here

ROOT = Path(__file__).parents[2]
APPS = {"genekb": genekb_cli.app, "cellmodel": cellmodel_cli.app}


@pytest.mark.parametrize("package", ["genekb", "cellmodel"])
def test_every_public_name_can_be_imported_and_is_documented(package):
    module = importlib.import_module(package)
    assert sorted(module.__all__) == module.__all__
    assert set(module.__all__) <= set(dir(module))
    assert not {name for name in dir(module) if name in {"Any", "TYPE_CHECKING", "import_module"}}
    for name in module.__all__:
        assert inspect.getdoc(getattr(module, name)), f"{package}.{name} has no docstring"


@pytest.mark.parametrize("package", ["genekb", "cellmodel"])
def test_a_public_name_stays_what_it_is_after_its_module_was_imported(package):
    module = importlib.import_module(package)
    kinds = {name: type(getattr(module, name)) for name in module.__all__}
    assert kinds == {name: type(getattr(module, name)) for name in module.__all__}


@pytest.mark.parametrize("package", ["genekb", "cellmodel"])
def test_an_unknown_name_is_an_attribute_error(package):
    module = importlib.import_module(package)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("package", ["genekb", "cellmodel"])
def test_package_and_command_say_their_version(package, capsys, monkeypatch):
    assert importlib.import_module(package).__version__ == version("genekb-cellmodel")
    assert call_here([package, "--version"], capsys, monkeypatch).out == f"{package} {version('genekb-cellmodel')}\n"


SHELL_ALONE = {"cellmodel mcp"}  # a server, started by the program that asks it


@pytest.mark.parametrize("line", [f"{name} {words}" for name, app in APPS.items() for words in commands_of(app)])
def test_every_command_has_a_function_which_the_reference_names(line, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "_ext")
    names = importlib.import_module("commands").functions_of(*line.split(" ", 1))
    assert bool(names) is (line not in SHELL_ALONE)
    for name in names:
        package, *parts = name.split(".")
        assert inspect.getdoc(functools.reduce(getattr, parts, importlib.import_module(package))), name


TOOLS = [name for name in importlib.import_module("cellmodel.tl").__all__ if name != "CellFiles"]


@pytest.mark.parametrize("name", TOOLS)
def test_help_of_a_tool_names_each_of_its_parameters_once_and_what_it_raises(name):
    """Arguments that go to another tool are named there."""
    module = importlib.import_module("cellmodel.tl")
    tool, forwarded = getattr(module, name), set()
    lines = inspect.getdoc(tool).splitlines()
    if "settings" in lines:
        assert "Arguments of :func:`cluster`" in lines[lines.index("settings") + 1]
        forwarded = set(inspect.signature(module.cluster).parameters) - set(lines)
    for parameter in set(inspect.signature(tool).parameters) - forwarded:
        assert lines.count(parameter) == 1, parameter
        assert lines[lines.index(parameter) + 1].startswith("    "), parameter
    assert lines.count("Raises") == 1
    assert any(line.startswith(("From the shell: ``cellmodel ", "From the shell: ``genekb ")) for line in lines)
