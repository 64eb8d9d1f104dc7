"""Results beside their place: what processes that were killed left goes, what others are writing stays."""

import os
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from genekb.core.errors import OutputUnusable
from genekb.files import replace as replacing
from genekb.files.replace import own_sibling, take_place, temporary_folder


def sibling_of(process, path):
    return path.with_name(own_sibling(path).name.replace(f"-{os.getpid()}.", f"-{process}."))


@pytest.fixture
def gone():
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_process_left_goes_and_what_a_running_one_writes_stays(tmp_path, gone):
    output = tmp_path / "out.h5ad"
    left, written = sibling_of(gone, output), sibling_of(os.getppid(), output)
    mine, other = own_sibling(output), sibling_of(gone, tmp_path / "other.h5ad")
    for path in (left, written, other):
        path.write_text("half")
    mine.mkdir()
    assert own_sibling(output) == mine
    assert sorted(tmp_path.iterdir()) == sorted([written, other])


def test_what_another_machine_left_goes_when_it_is_a_day_old(tmp_path):
    old, new = (tmp_path / f".model.node{number}-1.part" for number in (1, 2))
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (0, time.time() - 2 * 86_400))
    own_sibling(tmp_path / "model")
    assert list(tmp_path.iterdir()) == [new]


def test_names_that_only_look_alike_and_links_are_left_alone(tmp_path, gone):
    output = tmp_path / "out.h5ad"
    (tmp_path / "precious").write_text("mine")
    names = [
        ".out.h5ad.part",
        f"out.h5ad.a-{gone}.part",
        f".out.h5ad.a-{gone}.part.old.h5ad",
        ".out.h5ad.a-b.part",
        f".out.h5ad.a-{'9' * 20}.part",
    ]
    for name in names:
        (tmp_path / name).write_text("mine")
    sibling_of(gone, output).symlink_to(tmp_path / "precious")
    own_sibling(output)
    assert len(list(tmp_path.iterdir())) == len(names) + 2


def folder_of(path, text):
    path.mkdir()
    (path / "a").write_text(text)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is a moment between two renames")
def test_a_folder_that_is_replaced_is_there_and_whole_at_every_moment(tmp_path):
    target = folder_of(tmp_path / "model", "0")
    seen, is_over = set(), threading.Event()

    def look():
        while not is_over.is_set():
            opened = os.open(target, os.O_RDONLY)
            seen.add(bool(opened))
            os.close(opened)

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(1, 100):
        take_place(folder_of(own_sibling(target), str(number)), target, overwrite=True)
    is_over.set()
    reader.join()
    assert seen == {True}
    assert (target / "a").read_text() == "99"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("has_call", [True, False], ids=["by the system's call", "where there is no such call"])
@pytest.mark.parametrize("make", [folder_of, lambda path, text: path.write_text(text) and path], ids=["folder", "file"])
def test_what_is_there_is_not_replaced_unasked_and_the_new_result_is_kept_beside(tmp_path, monkeypatch, make, has_call):
    if not has_call:
        monkeypatch.setattr(replacing.ctypes, "CDLL", lambda *_, **__: object())
    path = tmp_path / "cells.of.mine.zarr"

    def text_of(result):
        return (result / "a" if result.is_dir() else result).read_text()

    for number, name in enumerate(["cells.of.mine.zarr", "cells.of.mine-2.zarr", "cells.of.mine-3.zarr"]):
        part = make(own_sibling(path), str(number))
        if number == 0:
            take_place(part, path, overwrite=False)
        else:
            with pytest.raises(
                OutputUnusable, match=rf"mine\.zarr exists and is not replaced; .* in \S+/{name}: rename"
            ):
                take_place(part, path, overwrite=False)
        assert text_of(tmp_path / name) == str(number)
    take_place(make(own_sibling(path), "new"), path, overwrite=True)
    assert text_of(path) == "new"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_link_to_a_folder_is_replaced_and_the_folder_stays(tmp_path):
    folder_of(tmp_path / "theirs", "precious")
    (tmp_path / "model").symlink_to(tmp_path / "theirs")
    take_place(folder_of(own_sibling(tmp_path / "model"), "new"), tmp_path / "model", overwrite=True)
    assert (tmp_path / "model" / "a").read_text() == "new"
    assert (tmp_path / "theirs" / "a").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "theirs"]


def test_temporary_folders_go_with_their_block_and_those_of_killed_processes_with_the_next_one(
    tmp_path, monkeypatch, gone
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_folder("train") as first:
        (first / "values.npy").write_text("half")
        left = first.rename(first.with_name(first.name.replace(f"-{os.getpid()}-", f"-{gone}-")))
        first.mkdir()
    assert list(tmp_path.iterdir()) == [left]
    with temporary_folder("train") as second:
        assert list(tmp_path.iterdir()) == [second]
    assert list(tmp_path.iterdir()) == []
