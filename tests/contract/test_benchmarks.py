"""What the benchmarks compute themselves, and do not take from the packages."""

import json
from pathlib import Path

import pytest

from benchmarks.speed import budgets, startup

ROOT = Path(__file__).parents[2] / "benchmarks"


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
        (1.9, None, 2.0, True, True),
        (2.0, None, 2.0, True, False),
        (float("nan"), None, 1.0, False, True),
        (float("nan"), None, 1.0, True, True),
    ],
)
def test_a_figure_on_the_wrong_side_of_its_limit_is_missed(value, processor, limit, is_floor, is_missed):
    figure = budgets.Figure(
        subject="store",
        what="a",
        value=value,
        processor=processor,
        unit="s",
        limit=limit,
        is_floor=is_floor,
        command="b",
    )
    assert figure.is_missed is is_missed
    assert ("MISSED" in budgets.table([figure])) is is_missed


def test_the_budgets_of_a_real_start_fail_where_they_are_impossible(tmp_path, capsys):
    code = "import genekb"
    kept, missed = (startup.measure(code, code, limit_s=limit) for limit in (60.0, 1e-6))
    assert (kept.is_missed, missed.is_missed) == (False, True)
    figures = [
        budgets.Figure(subject="start-up", what=code, value=start.wall_s, unit="s", limit=start.limit_s, command="c")
        for start in (kept, missed)
    ]
    assert budgets.report(figures[:1], tmp_path) == 0
    assert budgets.report(figures, tmp_path) == 1
    assert "missed: import genekb" in capsys.readouterr().err
    told = json.loads((tmp_path / "budgets.json").read_text())["figures"]
    assert [figure["is_missed"] for figure in told] == [False, True]
