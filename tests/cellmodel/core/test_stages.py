"""Stages are kept when they are done and only then."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cellmodel.core.errors import InputUnusable, WorkUnwritten
from cellmodel.core.stages import KEY, LOCK, Stages


def write_numbers(arrays):
    values = arrays.create("values", shape=(3, 2), dtype=np.float32)
    values[:] = np.arange(6).reshape(3, 2)
    arrays.save("names", np.array(["a", "b"]))
    return {"total": 15.0}


def fail(arrays):
    arrays.save("values", np.zeros(2))
    raise ValueError("half-way")


@pytest.fixture
def work(tmp_path):
    """Folder of a run of which one stage is done."""
    first = Stages(tmp_path / "work", key={"seed": 0})
    first.run("numbers", write_numbers)
    first.release()
    return first.folder


def test_a_stage_that_is_done_is_read_and_not_made_again(work):
    again = Stages(work, key={"seed": 0}).run("numbers", fail)
    assert again.record == {"total": 15.0}
    assert isinstance(again.arrays["values"], np.memmap)
    np.testing.assert_array_equal(again.arrays["values"], [[0, 1], [2, 3], [4, 5]])
    assert again.arrays["names"].tolist() == ["a", "b"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_arrays_that_are_forgotten_take_no_memory_and_are_there(tmp_path):
    def resident_mb():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssFile"))

    stages = Stages(tmp_path / "work", key={})
    found = stages.run("large", lambda arrays: arrays.save("values", np.ones(8_000_000)) or {}).arrays["values"]
    assert found.sum() == 8_000_000
    before = resident_mb()
    stages.forget()
    assert resident_mb() < before - 50  # of 61
    assert found.sum() == 8_000_000


def test_a_stage_that_stops_half_way_is_made_again(tmp_path):
    stages = Stages(tmp_path / "work", key={})
    with pytest.raises(ValueError, match="half-way"):
        stages.run("numbers", fail)
    assert stages.run("numbers", write_numbers).arrays["values"].shape == (3, 2)


def test_stages_of_another_run_are_dropped(work):
    other = Stages(work, key={"seed": 1})
    assert {path.name for path in other.folder.iterdir()} == {KEY, LOCK}
    assert json.loads((other.folder / KEY).read_text()) == {"seed": 1}


@pytest.mark.parametrize("removal", ['Stages(folder, key={"seed": 1})', 'Stages(folder, key={"seed": 0}).remove()'])
def test_stages_whose_removal_was_killed_are_not_taken_for_whole(work, removal):
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from cellmodel.core.stages import Stages\n"
        "unlink, folder = os.unlink, Path(sys.argv[1])\n"
        "def once(*args, **settings):\n"
        "    unlink(*args, **settings); os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.unlink = once\n"
        f"{removal}\n"
    )
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[3]))
    killed = subprocess.run([sys.executable, "-c", code, work], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(ValueError, match="half-way"):
        Stages(work, key={"seed": 0}).run("numbers", fail)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputUnusable, match="holds other files, it is never used; give another `work_dir`"):
        Stages(tmp_path, key={})
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_arrays_that_need_pickle_are_refused(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        Stages(tmp_path / "work", key={}).run("objects", lambda arrays: arrays.save("a", np.array([{}])) or {})


def test_two_runs_do_not_share_a_folder(tmp_path):
    first = Stages(tmp_path / "work", key={})
    with pytest.raises(InputUnusable, match=r"another run works in .*work; wait for it, or give another `work_dir`"):
        Stages(tmp_path / "work", key={})
    first.remove()
    assert not (tmp_path / "work").exists()
    Stages(tmp_path / "work", key={}).run("numbers", write_numbers)


def test_a_disk_that_refuses_is_one_line_and_what_was_done_is_kept(tmp_path):
    stages = Stages(tmp_path / "work", key={})
    stages.run("numbers", write_numbers)

    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WorkUnwritten, match="No space left on device; free space, or give another `work_dir`"):
        stages.run("more", full)
    assert (tmp_path / "work" / "numbers").is_dir()
