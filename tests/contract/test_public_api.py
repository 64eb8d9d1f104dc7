import importlib
import inspect
from importlib.metadata import version

import pytest

from tests.support.in_process import call_here


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


@pytest.mark.parametrize("name", importlib.import_module("cellmodel.tl").__all__)
def test_help_of_a_tool_names_each_of_its_parameters_once_and_what_it_raises(name):
    tool = getattr(importlib.import_module("cellmodel.tl"), name)
    lines = inspect.getdoc(tool).splitlines()
    for parameter in inspect.signature(tool).parameters:
        assert lines.count(parameter) == 1, parameter
        assert lines[lines.index(parameter) + 1].startswith("    "), parameter
    assert lines.count("Raises") == 1
    assert any(line.startswith("From the shell: ``cellmodel ") for line in lines)
