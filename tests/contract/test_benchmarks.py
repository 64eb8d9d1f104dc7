"""What the benchmarks compute themselves, and do not take from the packages."""

import json

import numpy as np
import pytest
import scipy.sparse as sp

from benchmarks.quality.clusters import low_data
from benchmarks.speed import budgets, startup


def test_thinning_leaves_that_many_molecules_none_invented_and_shallow_cells_whole():
    counts = np.random.default_rng(0).poisson(3, (6, 50))
    counts[0, 10:] = 0
    thinned = low_data.thin(sp.csr_matrix(counts.astype(np.float32)), 60, np.random.default_rng(1)).toarray()
    assert (thinned <= counts).all()
    assert thinned[1:].sum(axis=1).tolist() == [60] * 5
    np.testing.assert_array_equal(thinned[0], counts[0])


def test_the_purity_of_perfect_components_is_that_of_ranking_a_cells_own_type_first():
    labels = np.repeat([0, 1, 2], [20, 4, 1])
    for name, k in (("purity 15", 15), ("purity 5", 5)):
        shares = []
        for cell in range(25):
            others = [label == labels[cell] for place, label in enumerate(labels) if place != cell]
            shares.append(np.mean(sorted(others, reverse=True)[:k]))
        assert low_data.ceilings(labels)[name] == pytest.approx(np.mean(shares))


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
