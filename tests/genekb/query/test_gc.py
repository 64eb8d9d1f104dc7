import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.builder.update import add_encoders
from genekb.core.errors import SourceUnusable
from genekb.encoders import load_encoder
from genekb.share.lock import pin_store, write_pins
from genekb.store.home import find_store, list_store_folders
from genekb.store.verify import verify_store
from genekb.store.writer import locked
from tests.support.in_process import call_here

ROOT = Path(__file__).parents[3]
CONFIG = BuildConfig(name="human", models=("hash-8",))


@pytest.fixture(scope="module")
def built_home(human, tmp_path_factory):
    """A home where one name has had two stores, both with caches."""
    home = tmp_path_factory.mktemp("home")
    for models in (("hash-8",), ("hash-16",)):
        result = build(human, replace(CONFIG, models=models), home=home)
        genekb.open(result.folder, home=home).vector_table()
    return home


@pytest.fixture
def home(built_home, tmp_path):
    return Path(shutil.copytree(built_home, tmp_path / "home"))


@pytest.fixture
def folder(home):
    return home / "stores" / "human@2022-11"


def snapshot(home):
    return {path.relative_to(home): path.stat().st_size for path in sorted(home.rglob("*"))}


def names(found, home):
    return {item.path.relative_to(home / "stores" / "human@2022-11").as_posix(): item.reason for item in found}


def make_leftovers(folder):
    """What ended builds, caches and writes leave, and the bytes of it."""
    building = folder / ".building-0123456789abcdef"
    (building / "embeddings").mkdir(parents=True)
    (building / "genes.parquet").write_bytes(b"x" * 100)
    (building / "embeddings" / "part.parquet").write_bytes(b"x" * 50)
    gone = folder / ".cache" / "fedcba9876543210" / "hash-8-aa"
    gone.mkdir(parents=True)
    (gone / "vectors.npy").write_bytes(b"x" * 30)
    half = next(path for path in (folder / ".cache").iterdir() if path.name != "fedcba9876543210")
    (half / ("hash-8-aa." + "0" * 32 + ".part")).mkdir()
    (folder / ".removing-abc").mkdir()
    (folder / "current.part").write_bytes(b"x" * 7)
    return {
        ".building-0123456789abcdef": "an unfinished build",
        ".cache/fedcba9876543210": "a cache of a store that is gone",
        f".cache/{half.name}/hash-8-aa.{'0' * 32}.part": "an unfinished cache",
        ".removing-abc": "a removal that was interrupted",
        "current.part": "an unfinished file",
    }


def test_leftovers_go_and_stores_stay_whole(home, folder):
    before = snapshot(home)
    leftovers = make_leftovers(folder)
    result = genekb.gc(home=home, superseded=False)
    assert names(result.removed, home) == leftovers
    assert result.n_bytes == 187
    assert snapshot(home) == before
    assert verify_store(find_store("human", home)).faults == ()
    assert [item.reason for item in result.left] == ["superseded; superseded=True removes it"]


def test_a_dry_run_tells_the_same_and_writes_nothing(home, folder):
    make_leftovers(folder)
    (folder / ".lock").unlink(missing_ok=True)
    before = snapshot(home)
    told = genekb.gc(home=home, superseded=True, dry_run=True)
    assert snapshot(home) == before
    assert genekb.gc(home=home, superseded=True).removed == told.removed
    assert genekb.gc(home=home, superseded=True).removed == ()


def test_superseded_stores_go_with_their_caches_on_request(home, folder):
    current = find_store("human", home)
    old = next(path for path in folder.iterdir() if len(path.name) == 64 and path != current)
    result = genekb.gc(home=home, superseded=True)
    assert names(result.removed, home) == {
        old.name: "a superseded store",
        f".cache/{old.name[:16]}": "a cache of a store that is gone",
    }
    assert list_store_folders(home) == [current]
    assert verify_store(current).faults == ()
    assert {path.name for path in (folder / ".cache").iterdir()} == {current.name[:16]}


def test_a_name_that_is_being_written_is_passed_over(home, folder):
    make_leftovers(folder)
    with locked(folder):
        before = snapshot(home)
        for dry_run in (True, False):
            result = genekb.gc(home=home, superseded=True, dry_run=dry_run)
            assert result.removed == ()
            assert [item.path for item in result.left] == [folder]
            assert "another process is writing human@2022-11" in result.left[0].reason
        assert snapshot(home) == before


def test_what_genekb_did_not_make_stays_and_is_told(home, folder):
    mine = [folder / "notes.txt", folder / ".building-mine", folder / "a", home / "stores" / "my notes"]
    mine += [folder / ".cache" / "keep", folder / "thesis.part", home / "stores" / "list.txt"]
    for path in mine:
        if path.suffix:
            path.write_text("mine")
        else:
            path.mkdir()
            (path / "file").write_text("mine")
    result = genekb.gc(home=home, superseded=False)
    assert all(path.exists() for path in mine)
    assert {item.path for item in result.left if item.reason == "not made by genekb"} == set(mine)


def test_a_superseded_store_with_a_file_of_the_user_stays(home, folder):
    current = find_store("human", home)
    old = next(path for path in folder.iterdir() if len(path.name) == 64 and path != current)
    (old / "embeddings" / "notes.txt").write_text("mine")
    result = genekb.gc(home=home, superseded=True)
    assert result.removed == ()
    assert names(result.left, home)[old.name] == "it holds embeddings/notes.txt, not made by genekb"


def test_links_are_not_followed(home, folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    links = [folder / ".building-0123456789abcdef", folder / ".cache" / "0123456789abcdef", home / "stores" / "other@1"]
    links += [folder / ".removing-x", folder / ("0" * 64)]
    for link in links:
        link.symlink_to(outside)
    building = folder / ".building-00000000000000ff"
    building.mkdir()
    (building / "out").symlink_to(outside)
    result = genekb.gc(home=home, superseded=True)
    assert (outside / "precious").read_text() == "mine"
    assert all(link.is_symlink() for link in links)
    assert set(links) <= {item.path for item in result.left}
    assert not building.exists()


@pytest.mark.parametrize("pointer", ["", "0" * 64, "../elsewhere"])
def test_nothing_is_superseded_where_no_store_is_current(home, folder, pointer):
    shutil.copytree(find_store("human", home), folder.parent / "elsewhere")
    (folder / "current").write_text(pointer)
    result = genekb.gc(home=home, superseded=True)
    assert [item for item in result.removed if item.reason == "a superseded store"] == []
    assert len([path for path in folder.iterdir() if len(path.name) == 64]) == 2


def test_a_kill_in_the_middle_leaves_whole_stores_and_the_next_run_ends_it(home, folder):
    current = find_store("human", home)
    old = next(path for path in folder.iterdir() if len(path.name) == 64 and path != current)
    code = (
        "import shutil, os, sys, time\n"
        "from pathlib import Path\n"
        "unlink = os.unlink\n"
        "def slow(*args, **kwargs):\n"
        "    unlink(*args, **kwargs); print('removed one', flush=True); time.sleep(60)\n"
        "os.unlink = slow\n"
        "import genekb\n"
        "genekb.gc(home=sys.argv[1], superseded=True)\n"
    )
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout.readline() == "removed one\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not old.exists()
    assert list_store_folders(home) == [current]
    assert verify_store(current).faults == ()
    result = genekb.gc(home=home, superseded=True)
    assert names(result.removed, home)[f".removing-{old.name}"] == "a removal that was interrupted"
    assert [path.name for path in folder.iterdir() if path.name.startswith(".removing-")] == []


def test_a_home_that_is_not_there_holds_nothing(tmp_path):
    assert genekb.gc(home=tmp_path / "none", superseded=True).removed == ()
    assert not (tmp_path / "none").exists()


@pytest.fixture(scope="module")
def generations(human, tmp_path_factory):
    """A store, and three more that gained an encoder each: files are shared by hard links. Oldest first."""
    home = tmp_path_factory.mktemp("generations")
    folders = [build(human, CONFIG, home=home).folder]
    for model in ("hash-16", "random-8", "random-16"):
        folders.append(add_encoders(genekb.open(folders[-1]), [model], load=load_encoder, home=home).folder)
    return folders


@pytest.fixture
def line(generations, tmp_path):
    """A copy of them, still sharing, beside a lock file that pins the first."""
    subprocess.run(["cp", "-a", generations[0].parents[2], tmp_path / "home"], check=True)
    folders = [tmp_path / "home" / "stores" / folder.parent.name / folder.name for folder in generations]
    write_pins([pin_store(genekb.open(folders[0]))], tmp_path / "first.lock")
    return folders


def disk_use(home):
    """Bytes of all files, each counted once."""
    found = {(status.st_dev, status.st_ino): status.st_size for status in map(os.stat, home.rglob("*.*"))}
    return sum(found.values())


def kept(line):
    return [folder.is_dir() for folder in line]


@pytest.mark.parametrize("dry_run", [True, False])
def test_bytes_are_those_that_are_freed(line, generations, tmp_path, dry_run):
    before = disk_use(tmp_path / "home")
    result = genekb.gc(home=tmp_path / "home", superseded=True, dry_run=dry_run)
    assert len(result.removed) == 3
    own = ("manifest.json", "README.md", "croissant.json")  # the rest is shared with the current store
    assert result.n_bytes == sum((folder / name).stat().st_size for folder in generations[:3] for name in own)
    if dry_run:
        assert disk_use(tmp_path / "home") == before
        result = genekb.gc(home=tmp_path / "home", superseded=True)
    assert before - disk_use(tmp_path / "home") == result.n_bytes
    assert verify_store(line[-1]).faults == ()


def test_what_superseded_stores_take_is_reported_without_removing_them(line, tmp_path):
    report = genekb.gc(home=tmp_path / "home", superseded=False)
    assert (report.removed, report.n_superseded, kept(line)) == ((), 3, [True] * 4)
    removed = genekb.gc(home=tmp_path / "home", superseded=True)
    assert report.n_bytes_superseded == removed.n_bytes
    assert (removed.n_superseded, removed.n_bytes_superseded) == (0, 0)


@pytest.mark.parametrize("n_newest", [1, 2, 3, 9])
def test_the_newest_of_each_name_stay(line, tmp_path, n_newest):
    result = genekb.gc(home=tmp_path / "home", superseded=True, keep_newest=n_newest)
    assert kept(line) == [number + n_newest >= 4 for number in range(4)]
    reasons = [item.reason for item in result.left]
    assert reasons == [f"superseded, but among the {n_newest} newest of its name"] * (min(n_newest, 4) - 1)


def test_what_a_lock_file_pins_stays(line, tmp_path):
    lock = tmp_path / "first.lock"
    result = genekb.gc(home=tmp_path / "home", superseded=True, lock=lock)
    assert kept(line) == [True, False, False, True]
    assert [item.reason for item in result.left] == [f"superseded, but pinned by {lock}"]
    assert verify_store(line[0]).faults == ()
    lock.write_text("version = 99\n")
    with pytest.raises(SourceUnusable, match="no lock file"):
        genekb.gc(home=tmp_path / "home", superseded=True, lock=lock)


def test_the_command_finds_lock_files_and_says_which_option_removes_what(line, tmp_path, capsys, monkeypatch):
    home, project, elsewhere = tmp_path / "home", tmp_path / "project", tmp_path / "elsewhere"

    def gc(*options):
        return call_here(["genekb", "gc", "--home", home, *options], capsys, monkeypatch)

    for number, folder in ((1, project), (2, elsewhere)):
        folder.mkdir()
        monkeypatch.chdir(folder)
        call_here(["genekb", "lock", line[number].name, "--home", home], capsys, monkeypatch)
    (home / ".locks.json").unlink()
    out = gc().out
    assert f"left {line[2]} (superseded, but pinned by {elsewhere / 'genekb.lock'})" in out
    assert re.search(
        r"superseded stores: 2, [\d,]+ bytes; `genekb gc --superseded` removes them, `--keep-newest N`", out
    )
    assert gc("--lock", tmp_path / "none").code == 3
    content = json.loads(gc("--superseded", "--lock", project / "genekb.lock", "--dry-run", "--json").out)
    assert [Path(item["path"]) for item in content["removed"]] == [line[0]]
    call_here(["genekb", "lock", line[0].name, "--home", home, "--file", tmp_path / "my.lock"], capsys, monkeypatch)
    assert gc("--keep-newest", "1").code == 0
    assert kept(line) == [True, False, True, True]
