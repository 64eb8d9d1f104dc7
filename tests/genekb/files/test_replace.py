"""Results beside their place: what processes that were killed left goes, what others are writing stays."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from genekb.core.errors import OutputUnusable
from genekb.files.replace import replace_atomically, temporary_folder, temporary_sibling


def sibling_of(process, path):
    return path.with_name(temporary_sibling(path).name.replace(f"-{os.getpid()}.", f"-{process}."))


@pytest.fixture
def gone():
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_process_left_goes_and_what_a_running_one_writes_stays(tmp_path, gone):
    output = tmp_path / "out.h5ad"
    left, written = sibling_of(gone, output), sibling_of(os.getppid(), output)
    mine, other = temporary_sibling(output), sibling_of(gone, tmp_path / "other.h5ad")
    for path in (left, written, other):
        path.write_text("half")
    mine.mkdir()
    assert temporary_sibling(output) == mine
    assert sorted(tmp_path.iterdir()) == sorted([written, other])


def test_what_another_machine_left_goes_when_it_is_a_day_old(tmp_path):
    old, new = (tmp_path / f".model.node{number}-1.part" for number in (1, 2))
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (0, time.time() - 2 * 86_400))
    temporary_sibling(tmp_path / "model")
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
    temporary_sibling(output)
    assert len(list(tmp_path.iterdir())) == len(names) + 2


def refuse(*_):
    raise OSError


def folder_of(path, text):
    path.mkdir()
    (path / "a").write_text(text)
    return path


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_folder_is_replaced_and_what_a_kill_between_the_two_renames_put_aside_returns(tmp_path, gone, is_replaced):
    target = folder_of(tmp_path / "model", "old")
    part = folder_of(temporary_sibling(target), "new")
    if is_replaced:
        replace_atomically(part, target, overwrite=True)
    else:
        for path, name in ((target, "old"), (part, "part")):
            path.rename(tmp_path / part.name.replace(f"-{os.getpid()}.part", f"-{gone}.{name}"))
        temporary_sibling(target)
    assert (target / "a").read_text() == ("new" if is_replaced else "old")
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("has_links", [True, False], ids=["links", "no links"])
@pytest.mark.parametrize("make", [folder_of, lambda path, text: path.write_text(text) and path], ids=["folder", "file"])
def test_what_is_there_is_not_replaced_unasked_and_the_new_result_is_kept_beside(
    tmp_path, monkeypatch, make, has_links
):
    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    path = tmp_path / "cells.of.mine.zarr"

    def text_of(result):
        return (result / "a" if result.is_dir() else result).read_text()

    for number, name in enumerate(["cells.of.mine.zarr", "cells.of.mine-2.zarr", "cells.of.mine-3.zarr"]):
        part = make(temporary_sibling(path), str(number))
        if number == 0:
            replace_atomically(part, path, overwrite=False)
        else:
            with pytest.raises(
                OutputUnusable, match=rf"mine\.zarr exists and is not replaced; .* in \S+/{name}: rename"
            ):
                replace_atomically(part, path, overwrite=False)
        assert text_of(tmp_path / name) == str(number)
    replace_atomically(make(temporary_sibling(path), "new"), path, overwrite=True)
    assert text_of(path) == "new"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_link_to_a_folder_is_replaced_and_the_folder_stays(tmp_path):
    folder_of(tmp_path / "theirs", "precious")
    (tmp_path / "model").symlink_to(tmp_path / "theirs")
    replace_atomically(folder_of(temporary_sibling(tmp_path / "model"), "new"), tmp_path / "model", overwrite=True)
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
