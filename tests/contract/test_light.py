"""A plain installation: stores without torch; what needs an extra ends in one line that names it."""

import json
import subprocess
import sys

import pytest

import genekb
from benchmarks.lib import measure_install
from genekb.share.push import push_store
from genekb.share.remotes import parse_address
from tests.support.distributions import ROOT, asked, closure, modules_beyond

SYMBOLS = ["CD3D", "MS4A1", "NKG7"]
HOME = ".local/share/genekb"  # where a user has stores
HIDE = """
import json, sys

class Finder:
    def __init__(self, finder, hidden):
        self.finder, self.hidden = finder, hidden

    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] in self.hidden else self.finder.find_spec(name, *rest)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Finder(finder, set(json.loads(sys.argv[1]))) for finder in sys.meta_path]
"""
API = """
import json, sys
from pathlib import Path
import genekb
home, shared, symbols = Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
kb = genekb.open("demo", home=home)
found = kb.resolve(symbols)
vectors = kb.vectors(symbols, encoder="hash-16").vectors
near = kb.search(vectors[0], encoder="hash-16", limit=2)
pulled = genekb.open(f"file://{shared}", home=home / "elsewhere")
print(json.dumps({
    "gene_ids": found.gene_ids.tolist(),
    "shape": vectors.shape,
    "nearest": near[0].symbol,
    "cosine": near[0].score,
    "n_genes": kb.sql("select count(*) as n from genes")["n"][0].as_py(),
    "pulled": pulled.manifest.digest,
}))
"""
# Commands that do their work, and what they print
WORK = {
    ("info", "--json"): '"demo@1"',
    ("info", "demo"): "hash-16",
    ("info", "--path", "demo"): "demo@1",
    ("info", "--models"): "minilm",
    ("resolve", "names.txt", "--kb", "demo"): "3 of 4 names",
    ("search", "T cell receptor", "--kb", "demo"): "CD3D",
    ("sql", "select symbol from genes where gene_id = 915", "--kb", "demo"): "CD3D",
    ("verify", "demo"): "14 files",
    ("diff", "demo", "demo"): "genes_added",
    ("export", "--kb", "demo", "-o", "out.parquet"): "n_genes",
    ("encode", "demo", "--vectors", "out.parquet", "--name", "imported"): "vectors taken",
    ("build", "--source", "genes.tsv", "--name", "own", "--model", "random-8"): "random-8",
    ("push", "demo", "again"): "digest",
    ("pull", "shared", "--home", "other"): "digest",
    ("lock", "demo", "--url", "SHARED"): "demo",
    ("pull", "--check"): "demo",
    ("gc",): "",
    ("--help",): "build",
}
# Commands that need more, and the extra that they name
MORE = {
    ("genekb", "build", "--source", "genes.tsv", "--name", "x", "--model", "wcp-8"): "encode",
    ("genekb", "build", "--source", "genes.tsv", "--name", "x", "--model", "hash-8"): "encode",
    ("genekb", "build", "--source", "genes.tsv", "--name", "x", "--model", "minilm"): "minilm",
    ("genekb", "build", "--source", "genes.tsv", "--name", "x", "--model", "biobert"): "encode",
    ("genekb", "build", "--source", "genes.tsv", "--name", "x", "--model", "random-8", "--engine", "ray"): "ray",
    ("genekb", "search", "T cell", "--kb", "demo", "--encoder", "hash-16"): "encode",
    ("genekb", "compare", "--kb", "demo"): "encode",
    ("genekb", "resolve", "cells.h5ad", "--kb", "demo"): "cells",
    ("genekb", "export", "--kb", "demo", "-o", "out.h5ad"): "cells",
    ("genekb", "encode", "demo", "--vectors", "cells.h5ad", "--name", "x"): "cells",
    ("genekb", "download", "fetched", "--gene", "names.txt", "--taxon", "human"): "fetch",
    ("genekb", "pull", "hf://datasets/owner/name"): "hub",
    ("genekb", "push", "demo", "hf://datasets/owner/name"): "hub",
    ("genekb", "pull", "s3://bucket/name"): "s3",
    ("genekb", "verify", "demo", "--sign", "key", "--new-key"): "sign",
    ("cellmodel", "cluster", "cells.h5ad", "--kb", "demo", "-o", "out.h5ad"): "cells",
    ("cellmodel", "eval", "cells.h5ad", "--truth", "type"): "cells",
    ("cellmodel", "model", "pull", "shared", "-o", "model"): "cells",
}
COMMANDS = """
import json, sys
from tests.support.in_process import call
print(json.dumps([call(*line) for line in json.loads(sys.argv[2])]))
"""


def fill(folder):
    """Make a demo store, the same one shared, a list of genes, a table of texts and what could be a cell file."""
    config = genekb.BuildConfig(name="demo", models=("hash-16", "wcp-16"))
    built = genekb.build(genekb.read_demo_table(), config, home=folder / HOME)
    push_store(genekb.open(built.folder), parse_address(str(folder / "shared")))
    (folder / "names.txt").write_text("\n".join([*SYMBOLS, "no such gene"]))
    (folder / "genes.tsv").write_text(
        "gene_id\tsymbol\tsummary\n915\tCD3D\tSubunit of T cells.\n931\tMS4A1\tOf B cells.\n"
    )
    (folder / "cells.h5ad").touch()
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("light"))


@pytest.fixture(scope="module")
def run_light(folder):
    """Run code in a process that finds no package beyond those of a plain installation."""
    blocked = json.dumps(modules_beyond(closure(asked())))

    def run(code, *arguments):
        done = subprocess.run(
            [sys.executable, "-c", HIDE + code, blocked, *arguments], capture_output=True, text=True, check=False,
            cwd=folder, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}", "HOME": str(folder)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="module")
def outcomes(run_light, folder):
    """How each command ended: its exit code, stdout and stderr; those of WORK in their order."""
    lines = [*(("genekb", *line) for line in WORK), *MORE, ("cellmodel", "--help"), ("cellmodel", "cluster", "--help")]
    filled = [[str(folder / "shared") if word == "SHARED" else word for word in line] for line in lines]
    return dict(zip(lines, run_light(COMMANDS, json.dumps(filled)), strict=True))


def test_python_opens_resolves_searches_and_pulls(run_light, folder):
    found = run_light(API, str(folder / HOME), str(folder / "shared"), json.dumps(SYMBOLS))
    assert found["gene_ids"] == [915, 931, 4818]
    assert found["shape"] == [3, 16]
    assert found["nearest"] == "CD3D"
    assert found["cosine"] == pytest.approx(1, abs=1e-5)
    assert found["n_genes"] == genekb.open("demo", home=folder / HOME).table("genes").num_rows
    assert found["pulled"] == genekb.open("demo", home=folder / HOME).manifest.digest


@pytest.mark.parametrize("line", WORK, ids=" ".join)
def test_commands_on_stores_work(outcomes, line):
    code, out, err = outcomes["genekb", *line]
    assert code == 0, err
    assert WORK[line] in out


@pytest.mark.parametrize("line", MORE, ids=" ".join)
def test_what_needs_an_extra_names_it_in_one_line(outcomes, line):
    code, out, err = outcomes[line]
    assert (code, out) == (4, ""), err
    last = err.splitlines()[-1]
    assert last.startswith(f"{line[0]}: error: ")
    assert f"pip install 'genekb-cellmodel[{MORE[line]}]'" in last
    assert "Traceback" not in err


def test_help_of_cellmodel_needs_no_extra(outcomes):
    assert all(outcomes["cellmodel", *words, "--help"][0] == 0 for words in ((), ("cluster",)))
    assert "scllm-dsc" in outcomes["cellmodel", "cluster", "--help"][1]


def test_the_shell_completes_nothing_of_a_cell_file_and_shows_no_error(run_light):
    code = """
import io, json, os
from tests.support.in_process import call
os.environ |= {"_GENEKB_COMPLETE": "complete_bash", "COMP_WORDS": "genekb resolve cells.h5ad --gene-key ",
               "COMP_CWORD": "4"}
print(json.dumps(call("genekb")))
"""
    code, out, err = run_light(code)
    assert (code, out.strip(), err) == (0, "", "")


def test_python_names_the_extra_of_cellmodel(run_light):
    code = """
import json, cellmodel
try:
    cellmodel.tl
except cellmodel.errors.NotAvailable as error:
    print(json.dumps(str(error)))
"""
    assert run_light(code) == "cellmodel.tl needs anndata; pip install 'genekb-cellmodel[cells]'"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A new environment with a plain installation of the wheel: its interpreter and its size."""
    folder = tmp_path_factory.mktemp("fresh")
    asking = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder / "one"), "tomli-w"]
    asked_registry = subprocess.run(asking, capture_output=True, text=True, check=False)
    if asked_registry.returncode:
        pytest.skip(f"the package registry gives nothing: {asked_registry.stderr.strip().splitlines()[-1]}")
    python = measure_install.install(measure_install.build_wheel(folder), folder / "env")
    return python, measure_install.measure(python)


@pytest.mark.slow
def test_a_fresh_plain_installation_is_small_and_has_no_torch(fresh):
    python, size = fresh
    assert size.mb <= measure_install.MOST_MB
    assert size.n_packages <= measure_install.MOST_PACKAGES
    there = {path.name.partition(".")[0] for path in measure_install.site_packages(python).iterdir()}
    assert {"genekb", "cellmodel", "duckdb", "pyarrow"} <= there
    assert not there & {"torch", "transformers", "sentence_transformers", "scipy", "sklearn", "pandas", "anndata"}


@pytest.mark.slow
def test_a_fresh_plain_installation_works(fresh, tmp_path):
    (python, _), folder = fresh, fill(tmp_path)
    options = {"capture_output": True, "text": True, "cwd": folder, "env": {"HOME": str(folder)}}
    arguments = ["[]", str(folder / HOME), str(folder / "shared"), json.dumps(SYMBOLS)]
    done = subprocess.run([python, "-c", API, *arguments], check=False, **options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["shape"] == [3, 16]
    for words, printed in WORK.items():
        line = [str(folder / "shared") if word == "SHARED" else word for word in words]
        done = subprocess.run([python.parent / "genekb", *line], check=False, **options)
        assert done.returncode == 0, (line, done.stderr)
        assert printed in done.stdout
    line = [python.parent / "cellmodel", "eval", "cells.h5ad", "--truth", "type"]
    done = subprocess.run(line, check=False, **options)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert done.stderr == "cellmodel: error: cellmodel needs anndata; pip install 'genekb-cellmodel[cells]'\n"
