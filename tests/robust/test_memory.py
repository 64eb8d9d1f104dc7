"""``--max-memory``: an input that needs more ends in one line with exit code 3, whatever library reads it."""

import gzip
import os
import subprocess
import sys

import h5py
import numpy as np
import pyarrow as pa
import pytest

import genekb
from genekb.core.resources import parse_size
from tests.robust.bad_files.cell_files import chunks_of, with_array
from tests.support.processes import ROOT

MAIN = "import sys; sys.argv[0] = 'genekb'; from genekb_cellmodel_cli.genekb import main; main()"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no other system enforces the limit")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    genekb.build(genekb.read_demo_table(), genekb.BuildConfig(name="demo", models=("hash-8",)), home=home)
    return home


def zarr_of_zeros(folder):
    """Cells with a chunk of 4 GB of zeros in 130 kB, where 3,840 bytes are declared."""
    import numcodecs
    import zarr

    path = with_array(folder, chunks=(24, 40), compressors=numcodecs.Zstd())
    zarr.open_group(path, mode="r+", use_consolidated=False)["layers/odd"][:] = 1
    with pa.CompressedOutputStream(str(chunks_of(path, "layers/odd")[0]), "zstd") as stream:
        for _ in range(64):
            stream.write(bytes(1 << 26))
    return f"resolve {path} --kb demo"


def table_of_ones(folder):
    """A table of 240 million numbers, gzipped: one of zeros would be read, for they are not kept."""
    with gzip.open(folder / "cells.csv.gz", "wb", compresslevel=1) as stream:
        stream.write(b"cell," + b",".join(b"g%d" % gene for gene in range(20_000)) + b"\n")
        for cell in range(12_000):
            stream.write(b"c%d" % cell + b",1" * 20_000 + b"\n")
    return f"resolve {folder / 'cells.csv.gz'} --kb demo"


def pickle_of_a_huge_memo(folder):
    """A pickle that numbers an object 2^30, for which the unpickler makes room."""
    (folder / "v.pkl").write_bytes(b"(dr\xff\xff\xff\x3f.")
    return f"encode demo --vectors {folder / 'v.pkl'} --name mine"


MAKERS = [zarr_of_zeros, pickle_of_a_huge_memo, pytest.param(table_of_ones, marks=pytest.mark.slow)]


@pytest.mark.parametrize("make", MAKERS)
def test_an_input_that_needs_more_memory_ends_in_one_line(make, home, tmp_path):
    options = ("--quiet", "--max-memory", "1500MB")  # quiet: no lines of progress on a slow machine
    words = [sys.executable, "-c", MAIN, *options, *make(tmp_path).split(), "--home", str(home)]
    environment = dict(os.environ, PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'cli'}")
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("genekb: error: too little memory (")
    assert "more than 1.5 GB is needed; allow more (--max-memory" in done.stderr
    assert done.stderr.count("\n") == 1


GROWTH = """
import re, sys
from pathlib import Path
import h5py
from cellmodel.io.guard import check_pointers

def peak_mb():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

before, path = peak_mb(), Path(sys.argv[1])
with h5py.File(path) as file:
    check_pointers(path, "X", file["X"], shape=(50_000, 3), by_columns=False)
print(peak_mb() - before)
"""


def test_pointers_in_chunks_of_one_are_read_in_little_memory(tmp_path):
    with h5py.File(tmp_path / "cells.h5ad", "w") as file:
        indptr = file.create_dataset("X/indptr", (50_001,), "<i4", chunks=(1,))
        for start in range(0, 50_001, 5_000):
            indptr[start : start + 5_000] = range(start, min(start + 5_000, 50_001))
        file["X/data"], file["X/indices"] = np.ones(50_000, dtype="<f4"), np.zeros(50_000, dtype="<i4")
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(tmp_path / "cells.h5ad")],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 120  # read at once, 320


def test_a_size_has_a_unit_of_thousands_or_of_1024():
    assert [parse_size(text) for text in ("8GB", "1.5 G", "512MiB", "1000")] == [8 * 10**9, 15 * 10**8, 1 << 29, 1000]
    for text in ("", "0", "-1GB", "8 cows", "GB", "nanGB"):
        with pytest.raises(ValueError, match="is no size of memory; give a number with a unit, such as 8GB"):
            parse_size(text)
