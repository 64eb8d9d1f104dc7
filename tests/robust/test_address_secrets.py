"""User and password of an address are in no output, no file and no report: every command, every option that is text.

Commands and options are those of the programs themselves, so that a new one is tried by itself; a required argument
of a new name may need a value in :func:`given` for the command to come far.
"""

import base64
import gzip
import importlib
import inspect
from pathlib import Path
from typing import get_args
from urllib.parse import quote

import anndata
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr

import cellmodel as cm
import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.core.addresses import without_secrets
from genekb.share.push import push_store
from genekb.share.remotes import parse_address
from tests.robust.bad_files.cells import cells, save
from tests.support.commands import commands_of
from tests.support.in_process import call_here
from tests.support.loopback import serving

USER, PASSWORD = "zk3login", "Zk3:pass@Qw8/word"
LOGIN = f"{USER}:{quote(PASSWORD, safe='')}"
PIECES = (b"zk3login", b"Zk3", b"Qw8")
CLOSED = f"http://{LOGIN}@127.0.0.1:9/x"  # nothing listens there
MORE = {  # what makes a command quick, or lets it come to its options
    "cellmodel cluster": ["--recipe", "pca-kmeans", "--n-clusters", "2"],
    "cellmodel bench": ["--recipes", "pca-kmeans@none", "--seeds", "0", "--n-clusters", "2", "--dropout", "0.2"],
    "cellmodel attribute": ["--permutations", "5"],
    "cellmodel compare": ["--permutations", "5"],
    "genekb download": ["--mirror", "http://127.0.0.1:9/"],
    "genekb build": ["--model", "hash-8", "--dry-run"],
    "genekb info": ["--remote"],
}


def commands(program):
    return commands_of(importlib.import_module(f"genekb_cellmodel_cli.{program}").app)


COMMANDS = [(program, name) for program in ("genekb", "cellmodel") for name in commands(program)]


def holds_text(hint):
    return hint in {str, Path} or any(map(holds_text, get_args(hint)))


def params(program, name):
    """Options and arguments of a command, and which of them take text."""
    command = commands(program)[name]
    hints = inspect.unwrap(command.callback).__annotations__
    return command.params, [param for param in command.params if holds_text(hints.get(param.name))]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store, cells, clusters and a model that commands can go on from, and the store as a folder that is shared."""
    folder = tmp_path_factory.mktemp("made")
    home = tmp_path_factory.mktemp("home")
    store = build(genekb.read_demo_table(), BuildConfig(name="demo", models=("hash-16",)), home=home).folder
    path = save(cells(), folder)
    files = cm.tl.CellFiles([path], output=folder / "out.h5ad")
    cm.tl.cluster(files, genekb.open(store), recipe="pca-kmeans", n_clusters=2, save_model=folder / "model")
    push_store(genekb.open(store), parse_address(str(folder / "shared")))
    return {"store": store, "cells": path, "clustered": folder / "out.h5ad", "model": folder / "model", "home": home}


def given(param, program, name, made, here):
    """A value of a required argument that lets the command go on."""
    (here / "genes.tsv").write_text("gene_id\tsymbol\ttax_id\tname\tsummary\n1\tA\t9606\ta name\tA text of a gene.\n")
    (here / "genes.txt").write_text("CD3D\nCD3E\n")
    (here / "cells").mkdir(exist_ok=True)
    values = {
        **dict.fromkeys(("store", "kb", "old", "new"), made["store"]),
        **dict.fromkeys(("a", "b"), made["clustered"]),
        **dict.fromkeys(("truth", "label_key"), "label"),
        "path": made["clustered"] if program == "cellmodel" and name != "cluster" else made["cells"],
        "source": here / "genes.tsv",
        "folder": here / "cells",
        "key": here / "key",
        "output": here / "result.h5ad",
        "url": here / "shared",
        "model": made["model"] if program == "cellmodel" else "hash-8",
        "name": "mine",
        "query": "T cell" if name == "search" else "select 1",
        "kind": "dotplot",
    }
    return values.get(param.name, "value")


def spelt(param, value):
    return [param.opts[0], str(value)] if param.opts[0].startswith("-") else [str(value)]


def contents(folder):
    """Name and content of every file below a folder, decompressed, numbers left out."""
    for path in (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        content = path.read_bytes() + str(path.relative_to(folder)).encode()
        if path.suffix == ".parquet":
            content += str(pq.read_table(path).to_pydict()).encode()
        if content.startswith(b"\x1f\x8b"):
            content += gzip.decompress(path.read_bytes())
        if path.suffix == ".h5ad":
            with h5py.File(path) as file:
                found = []
                file.visititems(lambda *entry, found=found: found.append(described(*entry)))
                content += "".join(found).encode()
        if path.name in {"zarr.json", ".zgroup"}:
            members = zarr.open_group(path.parent, mode="r").members()
            content += "".join(described(*entry) for entry in members).encode()
        yield path, content


def described(name, item):
    """Name, attributes and texts of an entry of HDF5 or zarr."""
    is_text = hasattr(item, "dtype") and item.dtype.kind in "OSUT"
    return f"{name} {dict(item.attrs)} {np.asarray(item[()]).tolist() if is_text else ''}"


def told(content):
    return [piece for piece in PIECES if piece in content]


def check_silent(done, folder):
    printed = (done.out + done.err + "".join(done.warnings)).encode()
    assert told(printed) == [], printed.decode()
    assert {path.name: told(content) for path, content in contents(folder) if told(content)} == {}
    assert not [path for path in folder.rglob("*") if told(path.name.encode())]


@pytest.mark.parametrize(("program", "name"), COMMANDS)
def test_no_command_shows_or_keeps_the_password_of_an_address(program, name, made, tmp_path, capsys, monkeypatch):
    every, texts = params(program, name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("NCBI_EMAIL", "nobody@example.org")
    for number, tried in enumerate(texts):
        here = tmp_path / str(number)
        here.mkdir()
        needed = [param for param in every if param.required and param is not tried]
        words = [word for param in needed for word in spelt(param, given(param, program, name, made, here))]
        more = MORE.get(f"{program} {name}", [])
        more = [] if tried.opts[0] in more else more
        has_home = any("--home" in param.opts for param in every if param is not tried)
        home = ["--home", str(here / "home")] if has_home else []
        line = [program, "--debug", *name.split(), *words, *more, *home, *spelt(tried, CLOSED)]
        check_silent(call_here(line, capsys, monkeypatch), here)


@pytest.fixture(scope="module")
def address(made):
    """The store behind a web server, with user and password."""
    folder = made["cells"].parent / "shared"
    files = {f"/kb/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in folder.rglob("*")
             if path.is_file()}  # fmt: skip
    with serving(files=files) as server:
        yield server.url.replace("//", f"//{LOGIN}@") + "kb"


def test_results_and_reports_of_a_store_by_address_hold_no_password(address, made, tmp_path, capsys, monkeypatch):
    out, kb = tmp_path / "out", ["--kb", address, "--home", tmp_path / "home"]
    out.mkdir()
    clustered = out / "c.h5ad"
    for line in (
        ["cluster", made["cells"], *kb, "-o", clustered, "--report", out / "c.html", "--save-model", out / "model"],
        ["cluster", made["cells"], "--no-clusters", *kb, "-o", out / "e.zarr"],
    ):
        more = [] if "--no-clusters" in line else MORE["cellmodel cluster"]
        done = call_here(["cellmodel", "-v", *line, *more], capsys, monkeypatch)
        assert done.code == 0, done.err
        check_silent(done, tmp_path)
    command = anndata.read_h5ad(clustered).uns["cellmodel"]["command"]
    assert f"--kb {address.replace(LOGIN + '@', '')} --home" in command
    assert address.replace(LOGIN + "@", "") in (out / "c.html").read_text()


def test_a_report_leaves_out_what_an_earlier_version_recorded(made, tmp_path, capsys, monkeypatch):
    adata = anndata.read_h5ad(made["clustered"])
    adata.uns["cellmodel"]["command"] = f"cellmodel cluster cells.h5ad --kb {CLOSED} -o out.h5ad"
    (tmp_path / "out").mkdir()
    adata.write_h5ad(tmp_path / "old.h5ad")
    line = ["cellmodel", "report", tmp_path / "old.h5ad", "-o", tmp_path / "out" / "r.html"]
    check_silent(call_here(line, capsys, monkeypatch), tmp_path / "out")
    assert "--kb http://127.0.0.1:9/x -o" in (tmp_path / "out" / "r.html").read_text()


def test_commands_of_a_store_by_address_print_no_password(address, made, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line, code in (
        (["info", address], 0),
        (["info", address, "--json"], 0),
        (["search", "T cell", "--kb", address], 0),
        (["pull", address], 0),
        (["verify", address], 4),
        (["info", address, "--lineage"], 4),
        (["pull", address + "/elsewhere"], 4),
        (["lock", "demo", "--url", address], 3),
    ):
        done = call_here(["genekb", "-v", *line, "--home", tmp_path / "home"], capsys, monkeypatch)
        assert done.code == code, done.err
        assert "Traceback" not in done.err
        check_silent(done, tmp_path)


@pytest.mark.parametrize(
    ("text", "public"),
    [
        (f"at {CLOSED}, twice: {CLOSED}", "at http://127.0.0.1:9/x, twice: http://127.0.0.1:9/x"),
        (str(Path(f"http://{LOGIN}@h/x")), "http:/h/x"),
        ("https://token@h/x s3://me:pass@bucket/x@0123abcd", "https://h/x s3://bucket/x@0123abcd"),
        ("htp://me:p/a?s#s@h:80/x", "htp://h:80/x"),
        ("https://h/x?X-Amz-Signature=ab%20c&y=1&token=d#auth=e", "https://h/x?X-Amz-Signature=...&y=1&token=...#auth=..."),
        *[(same, same) for same in (
            "http://[::1]:80/human@2022-11", "https://h:8080/x@0123abcd", "hf://datasets/lab/human@v2", "a@b.org",
            "file:///data/human@2022-11", '{"url": "http://h:8080", "by": "me@b.org"}', "f(key=value)", "CL:0000084",
        )],
    ],
)  # fmt: skip
def test_of_an_address_in_a_text_the_secrets_alone_are_left_out(text, public):
    assert without_secrets(text) == public
    assert str(genekb.core.errors.NotAvailable(text)) == public


def test_a_login_is_sent_as_it_was_before_it_was_encoded(address, made, tmp_path):
    with serving() as server:
        with pytest.raises(genekb.core.errors.NotAvailable):
            genekb.open(server.url.replace("//", f"//{LOGIN}@") + "kb", home=tmp_path)
        sent = server.requests[0][1]["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent).decode() == f"{USER}:{PASSWORD}"


NO_HOSTS = [
    "http://xn--/x",
    f"http://{'a' * 64}.org/x",
    "http://\N{SNOWMAN WITHOUT SNOW}\N{PILE OF POO}.org/x",
    "http://a..b/x",
    "http://me:pass word@127.0.0.1:9/x",
]


@pytest.mark.parametrize("url", NO_HOSTS)
def test_a_host_that_is_none_is_one_line(url, made, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    (tmp_path / "genes.txt").write_text("CD3D\n")
    home = ["--home", tmp_path / "home"]
    for line, code in (
        (["pull", url, *home], 3),
        (["info", url, *home], 3),
        (["info", "--remote", "--catalog", url, *home], 3),
        (["download", tmp_path / "d", "--mirror", url], 2),
        (["download", tmp_path / "f", "--gene", tmp_path / "genes.txt", "--mirror", url], 2),
        (["encode", made["store"], "--model", "api:text-embedding-3-small", "--base-url", url, *home], 4),
    ):
        done = call_here(["genekb", *line], capsys, monkeypatch)
        assert done.code == code, done.err
        assert "Traceback" not in done.err


def test_a_path_may_not_be_an_address(made, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call_here(["cellmodel", "cluster", CLOSED, "-o", tmp_path / "o.h5ad"], capsys, monkeypatch)
    assert done.code == 2
    assert done.err.endswith("http:/127.0.0.1:9/x is an address; bring it to this machine and give its path\n")
    assert list(tmp_path.iterdir()) == []
