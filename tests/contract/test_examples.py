"""The examples in the docstrings of what people call run, and give what they say."""

import doctest
import importlib
import inspect
import shutil
from pathlib import Path

import pytest

import cellmodel as cm
import genekb
from tests.robust.bad_files.cells import cells as make_cells

ROOT = Path(__file__).parents[2]
MODULES = [
    "genekb.api",
    "genekb.query.doctor",
    "genekb.store.reader",
    "cellmodel.core.config",
    "cellmodel.io.get",
    "cellmodel.pl._maps",
    "cellmodel.pl._tools",
    "cellmodel.tl",
    "cellmodel.tl._compare",
    "cellmodel.tl._explain",
    "cellmodel.tl._names",
    "cellmodel.tl._samples",
]
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
    kb = genekb.build(name="demo", model="lsa-32", home=folder)
    adata = make_cells()
    adata.write_h5ad(folder / "cells.h5ad")
    cm.tl.cluster(adata, kb, n_clusters=2)
    adata.write_h5ad(folder / "clustered.h5ad")
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
    for name in ("cells.h5ad", "clustered.h5ad"):
        shutil.copy(home / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
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
    names = vars(module) | {"kb": demo_kb, "gk": genekb, "cm": cm}
    assert doctest.testmod(module, globs=names, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0
