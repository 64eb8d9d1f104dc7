"""Files have the mode that the umask gives; too little memory, and files that may not be read, end in one line."""

import os
import shutil
import stat
import subprocess
import sys

import pytest

import genekb
from genekb.core.resources import resource_fault
from tests.support.demo import demo_cells
from tests.support.in_process import call_here
from tests.support.processes import ROOT

# Of all commands that write; {here} is a folder, {home} a home in it, cells.h5ad lies in the folder
WRITING = (
    "genekb build --model wcp-16 --home {home}",
    "genekb encode demo --model hash-16 --home {home}",
    *(f"genekb export --kb demo --encoder wcp-16 -o {{here}}/v.{kind} --home {{home}}"
      for kind in ("npy", "json", "safetensors", "parquet", "duckdb")),
    "genekb search insulin --kb demo --home {home} --encoder hash-16",
    "genekb verify demo --sign {here}/key --new-key --home {home}",
    "genekb push demo {here}/shared --home {home} --catalog {here}/catalog.toml",
    "genekb pull {here}/shared --home {here}/pulled",
    "genekb lock demo --url {here}/shared --file {here}/genekb.lock --home {home}",
    "cellmodel cluster {here}/cells.h5ad --kb demo --home {home} --n-clusters 4 --recipe genept-s -o {here}/c.h5ad "
    "--report {here}/c.html --save-model {here}/model --encoder wcp-16",
    "cellmodel cluster {here}/cells.h5ad --knowledge none --n-clusters 4 --recipe pca-kmeans --out-of-core yes "
    "--work-dir {here}/work -o {here}/o.h5ad",
    "cellmodel cluster --no-clusters {here}/cells.h5ad --knowledge none --recipe pca-kmeans -o {here}/e.zarr",
    "cellmodel attribute {here}/c.h5ad --kb demo --home {home} --encoder wcp-16 --permutations 3 --tables {here}/t "
    "-o {here}/a.h5ad",
    "cellmodel compare {here}/c.h5ad {here}/c.h5ad --kb demo --home {home} --encoder wcp-16 --permutations 3 "
    "-o {here}/m.csv --plot {here}/m.svg",
    "cellmodel model push {here}/model {here}/models",
    "cellmodel model pull {here}/models -o {here}/model2",
)  # fmt: skip


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    demo_cells()[::4].write_h5ad(path)
    return path


def write_all(here, cells, capsys, monkeypatch):
    shutil.copyfile(cells, here / "cells.h5ad")
    for command in WRITING:
        words = command.format(here=here, home=here / "home").split()
        outcome = call_here(words, capsys, monkeypatch)
        assert outcome.code == 0, (command, outcome.err)


@pytest.mark.parametrize("umask", [pytest.param(0o022, marks=pytest.mark.slow), 0o027])
def test_every_file_has_the_mode_of_the_umask(umask, cells, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GENEKB_SIGN_PASSWORD", "of the test")
    before = os.umask(umask)
    try:
        here = tmp_path / "here"
        here.mkdir()
        write_all(here, cells, capsys, monkeypatch)
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in here.rglob("*")}
    wrong = {
        str(path.relative_to(here)): oct(mode)
        for path, mode in modes.items()
        if mode != (0o777 if path.is_dir() else 0o666) & ~umask
    }
    assert wrong == {"key": "0o600"}  # the private key alone
    assert {"wcp.safetensors", "arrays.safetensors", "v.safetensors", "themes.tsv"} <= {path.name for path in modes}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    genekb.build(genekb.read_demo_table(), genekb.BuildConfig(name="demo", models=("wcp-16",)), home=home)
    return home


def python(code, *args, before=()):
    words = [*before, sys.executable, "-c", code, *map(str, args)]
    environment = dict(os.environ, PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'cli'}")
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stdout, done.stderr


MAIN = "import sys; sys.argv[0] = 'genekb'; from genekb_cellmodel_cli.genekb import main; main()"


def without_rights():
    """Words before a command that take root's right to read every file; none for another user."""
    if os.geteuid():
        return ()
    if not shutil.which("setpriv"):
        pytest.skip("root may read every file, and setpriv is not here to take that right")
    return ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all")


@pytest.mark.parametrize(
    ("command", "unreadable"),
    [
        ("search --kb demo insulin", "wcp.safetensors"),
        ("verify demo", "part-00000.parquet"),
        ("push demo {here}/shared", "names.parquet"),
        ("info demo", "manifest.json"),
        ("update demo --source {here}/genes.tsv --name demo@2", "part-00000.parquet"),
    ],
)
def test_a_file_that_may_not_be_read_is_named_and_not_called_damaged(command, unreadable, home, tmp_path):
    copy = shutil.copytree(home, tmp_path / "home", ignore=shutil.ignore_patterns(".cache"))
    (tmp_path / "genes.tsv").write_text("gene_id\tsymbol\ttax_id\tname\tsummary\n915\tCD3D\t9606\tCD3\tof T cells\n")
    (path,) = copy.rglob(unreadable)
    path.chmod(0)
    words = [*command.format(here=tmp_path).split(), "--home", copy]
    code, _, err = python(MAIN, *words, before=without_rights())
    assert code == 4, err
    assert (
        err == f"genekb: error: {path}: permission denied; let its owner allow it (chmod), or take a copy of your own\n"
    )


LITTLE = """
import resource, sys
def leave(n_bytes):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + n_bytes, resource.RLIM_INFINITY))
"""
LIBRARIES = """
import mmap, tempfile, threading
import duckdb, h5py, numpy as np, pyarrow as pa, torch
from safetensors.numpy import load_file, save_file
from genekb.core.resources import resource_fault
file = tempfile.NamedTemporaryFile()
save_file({"a": np.zeros(1 << 25, np.uint8)}, file.name)
database = duckdb.connect(config={"threads": 1})
database.sql("select 1").fetchall()
chunk = h5py.File(tempfile.TemporaryFile(), "w").create_dataset(
    "x", data=np.ones(1 << 23), chunks=(1 << 23,), compression="gzip", shuffle=True
)
chunk.file.flush()
asking = {
    "hdf5": lambda: chunk[0],
    "numpy": lambda: np.ones(1 << 25),
    "torch": lambda: torch.ones(1 << 25),
    "arrow": lambda: pa.allocate_buffer(1 << 28),
    "duckdb": lambda: database.sql("select range r from range(30000000) order by hash(r)").fetchall(),
    "safetensors": lambda: load_file(file.name),
    "mmap": lambda: mmap.mmap(-1, 1 << 28),
    "thread": lambda: threading.Thread(target=print).start(),
}
leave(1 << 22)
for name, ask in asking.items():
    try:
        ask()
    except Exception as error:
        try:
            raise ValueError("a file is damaged") from error
        except ValueError as caught:
            print(name, resource_fault(caught))
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_too_little_memory_is_known_whatever_library_lacks_it():
    code, out, err = python(LITTLE + LIBRARIES)
    assert code == 0, err
    found = [line.split(" ", 1) for line in out.splitlines()]
    assert [name for name, _ in found] == ["hdf5", "numpy", "torch", "arrow", "duckdb", "safetensors", "mmap", "thread"]
    assert all(text.startswith("too little memory (") and "OMP_NUM_THREADS=1" in text for _, text in found), out


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_store_that_does_not_fit_into_memory_is_not_called_damaged(home):
    load = "import pyarrow.parquet, genekb.store.verify, genekb_cellmodel_cli.genekb\n"
    code, _, err = python(LITTLE + load + "leave(1 << 16)\n" + MAIN, "verify", "demo", "--home", home)
    assert code == 4, err
    assert err.startswith("genekb: error: too little memory (")
    assert err.count("\n") == 1


def test_what_no_resource_is_behind_stays_what_it_is():
    assert resource_fault(ValueError("out of memory, says a file")) is None
    assert resource_fault(OSError("it is damaged")) is None
    assert resource_fault(OSError("filter returned failure during read")) is None
    assert resource_fault(FileNotFoundError(2, "No such file", "cannot allocate")) is None


def test_a_command_whose_stderr_is_closed_ends_as_its_work_does(home, tmp_path):
    build = ("build", "--model", "hash-8", "--home", tmp_path)
    closed = ("sh", "-c", 'exec "$@" 2>&-', "sh")
    assert python(MAIN, *build, before=closed)[0] == 0
    assert python(MAIN, "verify", "demo", "--home", tmp_path, before=closed)[0] == 0
    assert python(MAIN, "info", "absent", "--home", tmp_path, before=closed) == (4, "", "")
