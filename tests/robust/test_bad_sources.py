"""Bad sources, tables, vectors, stores and models: the expected line and exit code, and nothing changed or left."""

import hashlib
import importlib
import logging
import os
import re
import shlex
import subprocess
import sys
import tomllib

import pytest

import cellmodel as cm
from genekb.builder.plan import BuildConfig, build
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.store.home import list_store_folders
from genekb.store.reader import Store
from tests.robust.bad_files import sources as bad_sources
from tests.robust.bad_files import stores as bad_stores
from tests.support.processes import ROOT, call

KINDS = tomllib.loads((bad_sources.DATA / "bad" / "sources.toml").read_text(encoding="utf-8"))["kind"]
MAKERS = bad_sources.MAKERS
IN_A_PROCESS = ("gene-info-gzip-truncated", "store-byte-flipped", "vectors-pickle-with-code", "saved-model-deep")


@pytest.fixture(scope="module")
def base(ncbi_folder, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    folders = {
        taxon: build(
            read_ncbi_folder(ncbi_folder, taxa=[taxon]), BuildConfig(name=taxon, models=("hash-16", "wcp-8")), home=home
        ).folder
        for taxon in ("human", "mouse")
    }
    cells = bad_stores.write_cells(home / "cells.h5ad", kb=Store(folders["human"]))
    model = home / "model"
    files = cm.tl.CellFiles([cells], output=home / "out.h5ad")
    kb = Store(folders["human"])
    cm.tl.cluster(files, kb, recipe="pca-kmeans", n_clusters=2, key_added="fitted", save_model=model)
    good = bad_sources.Base(
        ncbi=ncbi_folder,
        base_home=home,
        store=folders["human"],
        mouse=folders["mouse"],
        cells=cells,
        model=model,
    )
    before = digests(home)
    yield good
    assert digests(home) == before


def digests(folder):
    """SHA-256 of every file below a folder, caches of vectors left out: they are made by reading."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and ".cache" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def command_line(kind, base, tmp_path):
    """The words of a kind's command, with the bad input made."""
    here = tmp_path / "here"
    here.mkdir()
    for name, text in kind.get("files", {}).items():
        (here / name).write_text(text, encoding="utf-8")
    if "files" not in kind:
        MAKERS[kind["id"]](here, base)
    places = {name: getattr(base, name) for name in base.__slots__} | {"here": here, "home": tmp_path / "home"}
    return [word.format(**places, out=tmp_path / "out.h5ad") for word in shlex.split(kind["run"])]


@pytest.fixture
def run_here(monkeypatch, capfd):
    """Run a command in this process as its users run it; give exit code, stdout and stderr."""

    def run(command, *args):
        monkeypatch.setattr(sys, "argv", [command, *args])
        with pytest.raises(SystemExit) as ended:
            importlib.import_module(f"genekb_cellmodel_cli.{command}").main()
        return ended.value.code, *capfd.readouterr()

    root, levels = logging.getLogger(), {name: logging.getLogger(name).level for name in ("genekb", "cellmodel")}
    handlers, level = root.handlers[:], root.level
    yield run
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, own in levels.items():
        logging.getLogger(name).setLevel(own)


def check(kind, ended, *, before, tmp_path):
    code, out, err = ended
    assert code == kind["exit"], err
    told = err.strip().splitlines()
    assert "Traceback" not in err
    if code == 0:
        assert re.search(kind["message"], out + err)
        assert {name: digest for name, digest in digests(tmp_path).items() if name in before} == before
        return
    start = "Error: " if code == 2 else f"{shlex.split(kind['run'])[0]}: error: "
    assert told[-1].startswith(start)
    assert sum("error:" in line.lower() for line in told) == 1
    assert re.search(kind["message"], told[-1]), told[-1]
    assert digests(tmp_path) == before


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind["id"]) for kind in KINDS])
def test_a_bad_input_ends_in_one_line_and_changes_nothing(kind, base, tmp_path, run_here):
    words = command_line(kind, base, tmp_path)
    before = digests(tmp_path)
    check(kind, run_here(*words), before=before, tmp_path=tmp_path)


def test_the_catalog_and_the_makers_name_the_same_kinds():
    assert sorted(kind["id"] for kind in KINDS if "files" not in kind) == sorted(MAKERS)
    assert len({kind["wrong"] for kind in KINDS}) == len(KINDS) >= 80


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind["id"]) for kind in KINDS if kind["id"] in IN_A_PROCESS])
def test_a_process_of_its_own_says_the_same(kind, base, tmp_path):
    words = command_line(kind, base, tmp_path)
    before = digests(tmp_path)
    check(kind, call(*words), before=before, tmp_path=tmp_path)


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from genekb_cellmodel_cli.{command} import main
main()
"""


def call_on_a_full_disk(command, *args):
    """Run a command that may write no file of more than 1,000 bytes: what a full disk says, errno apart."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED.format(command=command), *map(str, args)],
        capture_output=True, text=True, check=False, cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'cli'}"),
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


FULL = {
    "build": ("genekb build --source {ncbi} --model hash-16 --home {home}", 4),
    "import": ("genekb encode {store} --vectors {here}/words.txt --name mine --home {home}", 4),
    "encode": ("genekb encode {store} --model hash-64 --home {home}", 4),
    "export": ("genekb export --kb {store} --encoder hash-16 -o {here}/out.json", 3),
    "annotate": ("cellmodel annotate {cells} --kb {store} -o {here}/out.h5ad", 3),
    "model": (
        "cellmodel cluster {cells} --recipe pca-kmeans --knowledge none --n-clusters 2 --key-added new "
        "-o {here}/out.h5ad --save-model {here}/model",
        3,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_ends_in_one_line_and_leaves_nothing_that_looks_whole(name, base, tmp_path):
    bad_stores.word2vec(tmp_path, "2 2", "INS 1 2", "GCG 3 4")
    before = digests(tmp_path)
    places = {field: getattr(base, field) for field in base.__slots__} | {"here": tmp_path, "home": tmp_path / "home"}
    line, expected = FULL[name]
    code, out, err = call_on_a_full_disk(*(word.format(**places) for word in shlex.split(line)))
    assert (code, out) == (expected, ""), err
    assert "Traceback" not in err
    assert sum("error:" in line for line in err.splitlines()) == 1
    assert re.search("cannot (be written|write).* File too large", err.splitlines()[-1])
    assert list_store_folders(tmp_path / "home") == []
    assert {path for path in digests(tmp_path) if not path.startswith("home/")} == set(before)
