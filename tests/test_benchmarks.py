"""What the benchmarks compute themselves, and do not take from the packages."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp


@pytest.fixture(scope="module")
def low_data():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(Path(__file__).parents[1] / "benchmarks"), *sys.path])
        yield import_module("bench_low_data")


def test_thinning_leaves_that_many_molecules_none_invented_and_shallow_cells_whole(low_data):
    counts = np.random.default_rng(0).poisson(3, (6, 50))
    counts[0, 10:] = 0
    thinned = low_data.thin(sp.csr_matrix(counts.astype(np.float32)), 60, np.random.default_rng(1)).toarray()
    assert (thinned <= counts).all()
    assert thinned[1:].sum(axis=1).tolist() == [60] * 5
    np.testing.assert_array_equal(thinned[0], counts[0])


def test_the_purity_of_perfect_components_is_that_of_ranking_a_cells_own_type_first(low_data):
    labels = np.repeat([0, 1, 2], [20, 4, 1])
    for name, k in (("purity 15", 15), ("purity 5", 5)):
        shares = []
        for cell in range(25):
            others = [label == labels[cell] for place, label in enumerate(labels) if place != cell]
            shares.append(np.mean(sorted(others, reverse=True)[:k]))
        assert low_data.ceilings(labels)[name] == pytest.approx(np.mean(shares))
