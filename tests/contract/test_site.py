"""The site of the docs is built without a warning; its tutorials run."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXTERNAL = re.compile(
    r"""<(?:script|img|iframe)[^>]+src=["']?(?:https?:)?//|<link[^>]+rel="stylesheet"[^>]+href="https?:"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("sphinx", reason="the docs are built with the extra docs: make docs")
    source = tmp_path_factory.mktemp("site")
    for name in ("docs", "artifacts", "tests/data"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("_build", "generated", "stores", "demo")
        )
    for page in ROOT.glob("*.md"):
        shutil.copy(page, source)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", "html"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stderr
    return source / "html"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert {"start.html", "reference/cellmodel.html", "reference/api/generated/cellmodel.tl.cluster.html"} <= {
        page.relative_to(site).as_posix() for page in pages
    }
    assert [page.name for page in pages if EXTERNAL.search(page.read_text())] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "tutorials").glob("*.md")), ids=lambda page: page.stem)
def test_each_drawing_cell_of_a_tutorial_has_its_image(site, page):
    n_drawing = sum("cm.pl." in cell for cell in re.findall(r"```{code-cell}.*?```", page.read_text(), re.DOTALL))
    cells = re.split(r'<div class="cell ', (site / "tutorials" / f"{page.stem}.html").read_text())[1:]
    drawing = [cell for cell in cells if "cm.pl." in re.sub(r"<[^>]+>", "", cell)]
    assert [len(drawing), sum("<img" in cell for cell in drawing)] == [n_drawing, n_drawing]


@pytest.mark.slow
def test_a_command_and_its_functions_link_each_other(site, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "_ext")
    linked = importlib.import_module("commands").command_by_function()
    api = site / "reference" / "api" / "generated"
    for name, command in linked.items():
        program, label = command.split(" ")[0], command.replace(" ", "-")
        page = "genekb.Store" if name.startswith("genekb.Store.") else name
        assert f'{program}.html#command-{label}"' in (api / f"{page}.html").read_text(), name
        assert f'generated/{page}.html#{name}"' in (site / "reference" / f"{program}.html").read_text(), name
