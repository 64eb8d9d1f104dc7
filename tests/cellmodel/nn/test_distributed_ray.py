"""Cell paths made by workers of a Ray cluster from the file of the cells are those made here."""

import dataclasses
import logging
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

from cellmodel.core.config import RunConfig, SemanticsConfig
from cellmodel.core.device import Compute
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import ReadConfig
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.io.writers import WriteConfig, write_cells
from cellmodel.nn.distributed import on_ray
from cellmodel.tl._demo import find_demo_cells
from cellmodel.tl._slots import cluster_task
from cellmodel.tl._task import StreamConfig, run_on_file
from genekb import BuildConfig, build, read_demo_table
from genekb import open as open_store


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def kb(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    return open_store(build(read_demo_table(), BuildConfig(name="demo", models=("hash-64",)), home=home).folder)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "cells.zarr"
    write_cells(read_anndata(find_demo_cells()), path)
    return path


def squares(shared, rows):
    """Squares of a range; the first worker that takes the middle one ends at once."""
    start, end = rows
    if start == 2 and shared is not None and not Path(shared).exists():
        Path(shared).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return [number**2 for number in range(start, end)]


def refuse(shared, rows):
    raise InputUnusable("row 3 is damaged")


def text_of(path, output, kb, config, *, mode="yes"):
    where = WriteConfig(output=output)
    task, stream = cluster_task(kb, config), StreamConfig(mode=mode)
    return run_on_file(path, task, read=ReadConfig(), write=where, stream=stream).result


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(cluster, tmp_path):
    found = dict(on_ray(squares, str(tmp_path / "killed"), [(0, 2), (2, 4), (4, 5)], n_workers=2))
    assert (tmp_path / "killed").exists()
    assert found == {(0, 2): [0, 1], (2, 4): [4, 9], (4, 5): [16]}


@pytest.mark.slow
def test_what_a_worker_refuses_is_said_in_one_line(cluster):
    with pytest.raises(InputUnusable, match=r"^row 3 is damaged$"):
        list(on_ray(refuse, None, [(0, 2)], n_workers=1))


@pytest.mark.slow
def test_paths_are_the_same_bits_here_on_ray_and_nearly_those_in_memory(cluster, cells, kb, tmp_path, monkeypatch):
    monkeypatch.setattr("cellmodel.core.arrays.WHOLE_CELLS", 100)
    monkeypatch.setattr("cellmodel.core.arrays.BLOCK_CELLS", 100)
    config = RunConfig(n_clusters=5, n_words=0, semantics=SemanticsConfig(sentences="sampled", n_sampled=50))
    result = text_of(cells, tmp_path / "here.zarr", kb, config)
    here = result.text
    compute = Compute(engine="ray", n_workers=2)
    there = text_of(cells, tmp_path / "there.zarr", kb, replace(config, compute=compute)).text
    for a, b in zip(here.paths, there.paths, strict=True):
        np.testing.assert_array_equal(a, b)
    whole = text_of(cells, tmp_path / "whole.zarr", kb, config, mode="no")
    np.testing.assert_allclose(here.z, whole.text.z, atol=2e-5)
    assert result.sentences.n_sentences == whole.sentences.n_sentences == 50
    for a, b in zip(result.sentences.agreement, whole.sentences.agreement, strict=True):
        assert dataclasses.astuple(a)[1:] == pytest.approx(dataclasses.astuple(b)[1:], abs=0.02)
    leading, whole_leading = ([set(row.genes[:4]) for row in each.sentences.clusters] for each in (result, whole))
    assert leading == whole_leading
