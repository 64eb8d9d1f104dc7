import h5py
import numpy as np
import pytest

from cellmodel.core.errors import InputUnusable
from cellmodel.io.guard.hdf5_heap import check_heaps
from tests.robust.bad_files.heaps import with_size

ENDLESS = "that HDF5 would read without end; the file is damaged"


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w") as file:
        file["names"] = [f"cell {number}" for number in range(1_000)]
    return path


@pytest.mark.parametrize("size", [0, 1])
def test_free_space_that_leads_nowhere_is_refused(texts, size):
    check_heaps(texts)
    with pytest.raises(InputUnusable, match=ENDLESS):
        check_heaps(with_size(texts, 0, size))


def test_a_length_that_comes_round_to_nothing_is_refused(texts):
    with pytest.raises(InputUnusable, match=ENDLESS):
        check_heaps(with_size(texts, 3, 2**64 - 16))


@pytest.mark.parametrize("size", [1, 2**20, 2**63])
def test_a_length_that_leads_on_is_left_to_hdf5(texts, size):
    check_heaps(with_size(texts, 3, size))


def test_a_heap_that_lies_across_two_blocks_is_seen(texts, monkeypatch):
    with_size(texts, 0, 0)
    for n_bytes in (5, 4096, texts.read_bytes().index(b"GCOL") + 2):
        monkeypatch.setattr("cellmodel.io.guard.hdf5_heap._BLOCK_BYTES", n_bytes)
        with pytest.raises(InputUnusable, match=ENDLESS):
            check_heaps(texts)
        texts.touch()


def test_the_letters_alone_are_no_heap(tmp_path):
    path = tmp_path / "cells.h5"
    with h5py.File(path, "w") as file:
        file["bytes"] = np.frombuffer(b"GCOL" + bytes(64), dtype=np.uint8)
    check_heaps(path)
