"""What the benchmarks compute themselves, and do not take from the packages."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest

from benchmarks.speed import startup
from benchmarks.speed.frame import Figure, measure, row

ROOT = Path(__file__).parents[2] / "benchmarks"
PYTHON = [sys.executable, "-c", "import genekb"]


def test_the_readme_lists_every_script():
    text = (ROOT / "README.md").read_text()
    scripts = [path for path in ROOT.rglob("*.py") if "__main__" in path.read_text()]
    assert [path.stem for path in scripts if f"{path.stem}`" not in text] == []


@pytest.mark.parametrize(
    ("value", "processor", "limit", "is_floor", "is_missed"),
    [
        (0.9, None, 1.0, False, False),
        (1.1, None, 1.0, False, True),
        (1.1, 0.8, 1.0, False, False),
        (1.3, 1.1, 1.0, False, True),
        (9.9, None, None, False, False),
        (1.9, None, 2.0, True, True),
        (2.0, None, 2.0, True, False),
        (float("nan"), None, 1.0, False, True),
        (float("nan"), None, 1.0, True, True),
    ],
)
def test_a_figure_on_the_wrong_side_of_its_limit_is_missed(value, processor, limit, is_floor, is_missed):
    figure = Figure(what="a", value=value, processor=processor, unit="s", limit=limit, is_floor=is_floor)
    assert figure.is_missed is is_missed
    assert ("MISSED" in row(figure)) is is_missed


def test_the_budgets_of_a_real_start_fail_where_they_are_impossible(tmp_path, capsys):
    def start(_folder, *, limit):
        yield Figure(what="import genekb", value=startup.start_once(PYTHON)[0], unit="s", limit=limit)

    assert measure({"start-up": partial(start, limit=60.0)}, tmp_path, "budgets") == 0
    parts = {"start-up": partial(start, limit=60.0), "again": partial(start, limit=1e-6)}
    assert measure(parts, tmp_path, "budgets") == 1
    assert "missed: import genekb" in capsys.readouterr().err
    told = json.loads((tmp_path / "budgets.json").read_text())["figures"]
    assert [one["is_missed"] for subject in parts for one in told[subject]] == [False, True]
