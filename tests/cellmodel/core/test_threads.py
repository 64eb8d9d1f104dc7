"""Work in threads gives its results in order, takes few items ahead, and hands errors on."""

import time

import pytest

from cellmodel.core.arrays import ahead, in_order, n_threads


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
