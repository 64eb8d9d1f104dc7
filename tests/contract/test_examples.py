"""The examples in the docstrings of what people call run, and give what they say."""

import doctest
import importlib
import inspect
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import duckdb
import numpy as np
import pytest

import cellmodel as cm
import genekb
from tests.robust.bad_files.cells import GENES, counts
from tests.robust.bad_files.cells import cells as make_cells
from tests.support.in_process import call

ROOT = Path(__file__).parents[2]
SPACES = ("genekb", "cellmodel.tl", "cellmodel.pl", "cellmodel.io.get")
PUBLIC = {  # what people call, by the names on the pages of the reference
    f"{space}.{name}": getattr(importlib.import_module(space), name)
    for space in SPACES
    for name in importlib.import_module(space).__all__
}
PUBLIC |= {f"cellmodel.{name}": getattr(cm, name) for name in cm.__all__ if not inspect.ismodule(getattr(cm, name))}
PUBLIC |= {f"cellmodel.bench.{name}": getattr(cm.bench, name) for name in ("bench", "eval", "perturb_eval")}
MODULES = sorted({one.__module__ for one in PUBLIC.values()} | {"cellmodel.io.graph"})
WITHOUT = {  # what asks a network or for a password, goes on until it is ended, or takes minutes
    *(f"genekb.{name}" for name in ("download", "fetch", "keygen", "sign")),
    *(f"cellmodel.bench.{name}" for name in ("bench", "perturb_eval")),
    *("cellmodel.demo", "cellmodel.view"),
}
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
    genekb.build(name="demo", model="wcp-32", home=folder)
    return folder


@pytest.fixture(scope="module")
def cells(home):
    """A folder with cells, the same clustered, and the model that clustered them."""
    folder, kb = home / "given", genekb.open("demo", home=home)
    folder.mkdir()
    genes = dict.fromkeys([*GENES, *kb.table("genes")["symbol"].to_pylist()])
    values = np.tile(counts(), (2, 2))
    adata = make_cells(values, genes=[*genes][: values.shape[1]], names=[f"cell{row}" for row in range(len(values))])
    adata.write_h5ad(folder / "cells.h5ad")
    cm.tl.cluster(adata, kb, n_clusters=2, save_model=folder / "model")
    adata.write_h5ad(folder / "clustered.h5ad")
    return folder


def examples():
    finder = doctest.DocTestFinder(recurse=True)
    for name in MODULES:
        for found in finder.find(importlib.import_module(name)):
            if found.examples:  # those of the tools work on whole cells
                marks = [pytest.mark.slow] if name.startswith("cellmodel") else []
                yield pytest.param(found, id=found.name, marks=marks)


@pytest.mark.parametrize(
    "name", [name for name, one in PUBLIC.items() if inspect.isroutine(one) and name not in WITHOUT]
)
def test_what_people_call_has_an_example(name):
    assert ">>> " in PUBLIC[name].__doc__
    assert "+SKIP" not in PUBLIC[name].__doc__


@pytest.mark.parametrize("example", list(examples()))
def test_an_example_runs(example, home, ncbi_folder, tmp_path, monkeypatch, request):
    monkeypatch.setenv("GENEKB_HOME", str(home))
    shutil.copytree(ncbi_folder, tmp_path / "2022-11")
    if example.name.startswith("cellmodel"):
        shutil.copytree(request.getfixturevalue("cells"), tmp_path, dirs_exist_ok=True)
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


VECTORS = (ROOT / "docs" / "guide" / "vectors.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", VECTORS, re.DOTALL)


@pytest.fixture(scope="module")
def exported(demo_home, tmp_path_factory):
    """A folder with the files that the page on vectors begins with, of the demo store."""
    folder = tmp_path_factory.mktemp("vectors")
    for line in blocks("console")[0].splitlines():
        words = shlex.split(line.replace("--kb human", f"--kb demo --home {demo_home}"), comments=True)
        code, _, err = call(*words[:-1], folder / words[-1])
        assert code == 0, err
    return folder


@pytest.fixture
def nearest(demo_kb):
    return [hit.symbol for hit in demo_kb.neighbors("CD3D", limit=4)]


def test_the_lines_of_python_load_the_vectors(exported, demo_kb, nearest, monkeypatch):
    monkeypatch.chdir(exported)
    names = {}
    for block in blocks("python"):
        exec(block, names)
    assert names["t_cell"].numpy().tobytes() == demo_kb.vectors([915, 916]).vectors.tobytes()
    assert names["symbols"][names["rows"][0]].tolist() == ["CD3D", *nearest]
    assert names["dim"] == demo_kb.vectors([915]).vectors.shape[1]


def test_the_lines_of_sql_find_the_nearest_genes(exported, nearest, monkeypatch):
    monkeypatch.chdir(exported)
    (query,) = blocks("sql")
    assert [symbol for symbol, _ in duckdb.sql(query).fetchall()] == ["CD3D", *nearest]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("Rscript") is None, reason="needs R")
def test_the_lines_of_r_without_a_package_find_the_nearest_genes(exported, nearest):
    done = subprocess.run(["Rscript", "-e", blocks("r")[-1]], cwd=exported, capture_output=True, text=True, check=True)
    assert done.stdout.split()[:5] == ["CD3D", *nearest]
