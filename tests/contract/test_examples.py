"""The examples in the docstrings of what people call run, and give what they say."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import cellmodel
import genekb

ROOT = Path(__file__).parents[2]
MODULES = ["genekb.api", "genekb.store.reader", "genekb.core.python"]
INSIDE = sorted(  # examples of what lies deeper: `kb` is the demo store, and those that need a user's cells are skipped
    {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in ("genekb", "cellmodel")
        for path in (ROOT / package).rglob("*.py")
        if ">>> " in path.read_text()
    }
    - set(MODULES)
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    genekb.build(name="demo", model="lsa-32", home=folder)
    return folder


def examples():
    finder = doctest.DocTestFinder(recurse=True)
    for name in MODULES:
        for found in finder.find(importlib.import_module(name)):
            if found.examples:
                yield pytest.param(found, id=found.name)


@pytest.mark.parametrize("example", list(examples()))
def test_an_example_runs(example, home, tmp_path, monkeypatch):
    monkeypatch.setenv("GENEKB_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    report = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(
        example, out=report.append, clear_globs=False
    )
    assert result.attempted
    assert not result.failed, "".join(report)


def test_a_function_that_speaks_python_keeps_its_name_signature_and_docs():
    signature = inspect.signature(genekb.build)
    assert list(signature.parameters)[:3] == ["source", "config", "taxon"]
    assert genekb.build.__name__ == "build"


@pytest.mark.parametrize("name", INSIDE)
def test_an_example_of_what_lies_deeper_gives_what_it_shows(name, demo_kb):
    module = importlib.import_module(name)
    names = vars(module) | {"kb": demo_kb, "gk": genekb, "cm": cellmodel}
    assert doctest.testmod(module, globs=names, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0
