"""The order of cells; work in threads gives its results in order, takes few items ahead, and hands errors on."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellmodel.core.arrays import ahead, content_order, in_order, n_threads


@given(seed=st.integers(0, 2**32 - 1), n_cells=st.integers(1, 40), n_values=st.integers(1, 6))
def test_cells_are_ordered_as_by_sorting_their_features_one_after_the_other(seed, n_cells, n_values):
    features = np.random.default_rng(seed).integers(-n_values, n_values, (n_cells, 3)).astype(np.float32)
    rows = [tuple(row) for row in features.tolist()]
    expected = sorted(range(n_cells), key=lambda cell: (rows[cell], cell))
    assert content_order(features).tolist() == expected


@pytest.mark.parametrize("values", [[0.0, -0.0, 0.0], [1.0, 1.0, 1.0]])
def test_cells_that_do_not_differ_stay_as_they_stand(values):
    assert content_order(np.array(values)[:, None]).tolist() == [0, 1, 2]


@pytest.fixture(params=["1", "3"])
def threads(request, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", request.param)
    assert n_threads() == int(request.param)
    return n_threads()


def test_results_come_in_the_order_of_the_items(threads):
    def work(number):
        time.sleep(0.01 * (number % 3 == 0))  # some are done after the next ones
        return number**2

    assert list(in_order(work, range(20))) == [number**2 for number in range(20)]
    assert list(ahead(iter(range(20)))) == list(range(20))


def test_no_more_items_are_taken_than_fit(threads):
    taken = []
    results = in_order(lambda number: number, (taken.append(number) or number for number in range(50)))
    assert next(results) == 0
    assert len(taken) <= threads + 1
    results.close()
    assert len(taken) <= threads + 1


@pytest.mark.parametrize("how", ["work", "source"])
def test_an_error_comes_where_its_result_would(threads, how):
    def source():
        for number in range(9):
            if how == "source" and number == 4:
                raise OSError("cut short")
            yield number

    def work(number):
        if how == "work" and number == 4:
            raise OSError("cut short")
        return number

    found = []
    with pytest.raises(OSError, match="cut short"):
        found.extend(in_order(work, ahead(source())))
    assert found == list(range(4))[: len(found)]
    assert how == "source" or len(found) == 4  # a source that fails takes with it what waits


def test_without_a_setting_there_is_a_thread_a_core(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert n_threads() >= 1
