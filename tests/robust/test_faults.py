"""A writer killed at any step, a reader of damaged bytes: a right store or a clear error, never a wrong vector."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.core.errors import GeneKBError
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.store.home import list_store_folders
from genekb.store.verify import verify_store

ROOT = Path(__file__).parents[2]
CONFIG = BuildConfig(name="human", models=("hash-32", "wcp-16"))

# Every change of the disk that a commit consists of goes through one of these calls; the process dies before the n-th.
KILLED = """
import os, signal, sys
from pathlib import Path
last, home, old, new, job = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5]
import genekb
import genekb.builder.assemble
genekb.builder.assemble.SHARD_SIZE = 6
from genekb.builder.plan import BuildConfig, build
from genekb.encoders import load_encoder
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.builder.update import add_encoders, plan_update, update
steps = 0
def counted(call):
    def step(*args, **settings):
        global steps
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **settings)
    return step
source = read_ncbi_folder(new if job == "update" else old, taxa=["human"])
config = BuildConfig(name="human", models=("hash-32", "wcp-16"))
for name in ("replace", "rename", "fsync", "mkdir", "unlink", "rmdir"):
    setattr(os, name, counted(getattr(os, name)))
if job == "build":
    result = build(source, config, home=home)
else:
    kb = genekb.open("human@2020-01", home=home)
    if job == "update":
        result = update(kb, source, plan_update(kb, source), home=home)
    else:
        result = add_encoders(kb, ["hash-16"], load=load_encoder, home=home)
print(steps, result.manifest.digest)
"""


def run(job, last, home, folders):
    return subprocess.run(
        [sys.executable, "-c", KILLED, str(last), str(home), *map(str, folders), job],
        capture_output=True, text=True, cwd=ROOT, env=dict(os.environ, PYTHONPATH=str(ROOT)), check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folders(old_ncbi_folder, ncbi_folder):
    return old_ncbi_folder, ncbi_folder


def prepared(job, home, folders):
    """Make the home as the job finds it."""
    if job != "build":
        build(read_ncbi_folder(folders[0], taxa=["human"]), CONFIG, home=home)
    return home


def check_killed_at(job, step, *, tmp_path, folders, expected):
    home = prepared(job, tmp_path / f"{job}-{step}", folders)
    before = {folder: verify_store(folder).faults for folder in list_store_folders(home)}
    killed = run(job, step, home, folders)
    assert killed.returncode == -signal.SIGKILL
    for folder in list_store_folders(home):  # what is visible is whole, whatever was going on
        assert verify_store(folder).faults == ()
    assert all((folder / "manifest.json").is_file() for folder in before)
    again = run(job, 0, home, folders)
    assert again.returncode == 0, again.stderr
    assert again.stdout.split()[1] == expected
    for folder in list_store_folders(home):
        assert verify_store(folder).faults == ()
    assert not list(home.rglob(".building-*"))
    assert not list((home / "stores").rglob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize("job", ["build", "update", "encode"])
def test_a_writer_killed_before_any_step_leaves_whole_stores_and_is_gone_on_with(job, tmp_path, folders):
    whole = run(job, 0, prepared(job, tmp_path / "whole", folders), folders)
    assert whole.returncode == 0, whole.stderr
    n_steps, digest = whole.stdout.split()
    assert int(n_steps) > 20
    for step in [*range(1, int(n_steps), 1 if job == "build" else 5), int(n_steps)]:
        check_killed_at(job, step, tmp_path=tmp_path, folders=folders, expected=digest)
        shutil.rmtree(tmp_path / f"{job}-{step}")


def test_a_build_killed_before_its_commit_is_gone_on_with(tmp_path, folders):
    whole = run("build", 0, tmp_path / "whole", folders)
    n_steps, digest = whole.stdout.split()
    for step in (2, int(n_steps) - 2):
        check_killed_at("build", step, tmp_path=tmp_path, folders=folders, expected=digest)


@pytest.fixture(scope="module")
def built(ncbi_folder, tmp_path_factory):
    return build(read_ncbi_folder(ncbi_folder, taxa=["human"]), CONFIG, home=tmp_path_factory.mktemp("home")).folder


def everything_read(folder):
    """Read all that a reader can give: vectors of both encoders, names, texts, a search, a count by SQL."""
    kb = genekb.open(folder)
    genes = [915, 916, 3630, 4069]
    return (
        kb.vectors(genes, encoder="hash-32").vectors.tobytes(),
        kb.vectors(genes, encoder="wcp-16").vectors.tobytes(),
        kb.resolve(["CD3D", "MARCH1", "SEPT2"]).gene_ids.tolist(),
        kb.texts(genes),
        [
            (hit.gene_id, round(hit.score, 4))
            for hit in kb.search("insulin", encoder="wcp-16", mode="semantic", limit=3)
        ],
        kb.sql("select count(*) as n, sum(hash(text)) as h from texts").to_pylist(),
    )


def refusal(folder, right):
    """Read everything; give the error, or nothing where all that was read is right."""
    try:
        assert everything_read(folder) == right
    except GeneKBError as error:
        return error
    return None


@pytest.mark.parametrize("harm", ["flip a byte", "cut in half", "remove", "append"])
def test_a_damaged_file_never_gives_a_wrong_answer(built, tmp_path, harm):
    right = everything_read(built)
    for number, path in enumerate(sorted(path for path in built.rglob("*") if path.is_file())):
        folder = Path(shutil.copytree(built, tmp_path / str(number) / built.name))
        damaged = folder / path.relative_to(built)
        raw = damaged.read_bytes()
        place = int(np.random.default_rng(number).integers(len(raw)))
        flipped = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        if harm == "remove":
            damaged.unlink()
        else:
            damaged.write_bytes({"flip a byte": flipped, "cut in half": raw[: len(raw) // 2]}.get(harm, raw + b"\0"))
        error = refusal(folder, right)
        if error is None:  # the file holds nothing of what was read, or is rebuilt from another
            assert path.name in {
                *("README.md", "croissant.json", "recipe.json", "orthologs.parquet", "annotations.parquet")
            }
            continue
        assert "\n" not in str(error)
        assert damaged.name in str(error) or "manifest.json" in str(error) or "digest" in str(error)
