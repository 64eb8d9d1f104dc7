"""Stores that were pulled with one of their encoders: what they can do, they do, and say what was left out."""

import json
import os

import duckdb
import pytest

import genekb
from genekb.builder.diff import diff_stores
from genekb.core.errors import NotAvailable
from genekb.query.compare import compare
from genekb.query.export import export_store
from genekb.share.lock import check_pin, pin_store, sync, write_pins
from genekb.share.pull import PullConfig, pull_store
from genekb.share.push import push_store
from genekb.share.remotes import parse_address
from genekb.store.search import search_genes
from genekb.store.vectors import CACHE
from tests.genekb.share.test_share import QUICK
from tests.support.in_process import call_here


@pytest.fixture(scope="module")
def whole(demo_store):
    return demo_store("hash-32", "wcp-16", "random-16")


@pytest.fixture(scope="module")
def shared(whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    push_store(whole, parse_address(str(folder)))
    return folder


@pytest.fixture(scope="module")
def home(shared, tmp_path_factory):
    """Home with the store, of which one encoder was pulled."""
    home = tmp_path_factory.mktemp("part")
    pull_store(parse_address(str(shared)), PullConfig(encoders=("wcp-16",)), home=home)
    return home


@pytest.fixture(scope="module")
def part(home):
    return genekb.open("demo", home=home)


@pytest.fixture(scope="module")
def left(whole):
    return tuple(whole.encoder_id(name) for name in ("hash-32", "random-16"))


def test_a_comparison_is_one_of_the_encoders_that_are_here(whole, part, left):
    found = compare(part)
    expected = compare(whole, encoder=["wcp-16"])
    assert found.not_pulled == left
    assert (found.encoders, found.n_genes, found.tasks) == (expected.encoders, expected.n_genes, expected.tasks)
    assert compare(part, encoder=["wcp-16"]).not_pulled == compare(whole).not_pulled == ()
    with pytest.raises(
        NotAvailable, match=r"hash-32-.* was not pulled; `genekb pull .*` with encoder=.hash-32. brings it"
    ):
        compare(part, encoder=["hash-32"])


def test_a_diff_compares_the_encoders_that_both_have_here(whole, part, left):
    for old, new in ((whole, part), (part, whole)):
        found = diff_stores(old, new)
        assert [move.encoder for move in found.moved] == ["wcp-16"]
        assert (found.not_pulled, found.only_in_old, found.only_in_new) == (left, (), ())
    assert diff_stores(whole, whole).not_pulled == ()


def test_a_duckdb_file_holds_the_encoders_that_are_here(whole, part, left, tmp_path):
    found = export_store(part, tmp_path / "part.duckdb", kind="duckdb")
    assert (found.encoders, found.not_pulled) == ((whole.encoder_id("wcp-16"),), left)
    export_store(whole, tmp_path / "whole.duckdb", kind="duckdb", encoder="wcp-16")
    rows = []
    for name in ("part", "whole"):
        with duckdb.connect(str(tmp_path / f"{name}.duckdb"), read_only=True) as connection:
            tables = [row[0] for row in connection.execute("show tables").fetchall()]
            rows.append([connection.execute(f'from "{table}" order by all').fetchall() for table in tables])
    assert rows[0] == rows[1]


def test_a_search_and_a_lock_take_what_is_here(part, left, tmp_path):
    found = search_genes(part, "T cell receptor signalling", limit=3)
    assert found.encoders == (part.encoder_id("wcp-16"),)
    assert "was not pulled" in found.skipped[left[0]]
    assert pin_store(part).encoders == (part.encoder_id("wcp-16"),)


def test_a_store_of_which_no_encoder_is_here_asks_for_one(shared, tmp_path):
    pulled = pull_store(parse_address(str(shared)), PullConfig(encoders=("wcp-16",)), home=tmp_path)
    note = pulled.path.parent / ".pulled.json"
    note.write_text(json.dumps({pulled.path.name: {"url": str(shared), "encoders": []}}))
    for path in sorted((pulled.path / "embeddings").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(NotAvailable, match=r"bring all of it with `genekb pull"):
        compare(genekb.open(pulled.path))


def test_the_commands_say_what_they_left_out(whole, home, left, tmp_path, capsys, monkeypatch):
    told = f"left out, not pulled: {', '.join(left)}"
    here = ("--home", home)
    for args in (("compare", "--kb", "demo"), ("export", "--kb", "demo", "-o", tmp_path / "out.duckdb")):
        done = call_here(("genekb", *args, *here), capsys, monkeypatch)
        assert (done.code, done.err.count(told)) == (0, 1)
    done = call_here(("genekb", "diff", whole.folder, "demo", *here), capsys, monkeypatch)
    assert (done.code, done.out.count(told)) == (0, 1)
    for args in (("compare", "--kb", "demo"), ("diff", whole.folder, "demo")):
        done = call_here(("genekb", *args, *here, "--json"), capsys, monkeypatch)
        assert json.loads(done.out)["not_pulled"] == list(left)


def test_a_sync_adds_what_a_pin_needs_and_nothing_else_is_asked_for(whole, shared, tmp_path):
    pull_store(parse_address(str(shared)), PullConfig(encoders=("wcp-16",)), home=tmp_path / "home")
    lock = tmp_path / "genekb.lock"
    write_pins([pin_store(whole, encoders=["wcp-16", "hash-32"], url=str(shared))], lock)
    ((pin, pulled),) = sync(lock, home=tmp_path / "home", retry=QUICK)
    hashed = whole.encoder_id("hash-32")
    assert pulled.n_bytes_now == sum(file.n_bytes for file in whole.manifest.files if hashed in file.path)
    assert check_pin(pin, tmp_path / "home") == []


def test_what_was_here_and_damaged_is_looked_at_once_more_after_a_pull(whole, shared, tmp_path):
    lock = tmp_path / "genekb.lock"
    write_pins([pin_store(whole, url=str(shared))], lock)
    ((pin, pulled),) = sync(lock, home=tmp_path / "home", retry=QUICK)
    (pulled.path / "genes.parquet").write_bytes(b"damaged")
    ((_, again),) = sync(lock, home=tmp_path / "home", retry=QUICK)
    assert again.n_bytes_now == (whole.folder / "genes.parquet").stat().st_size
    assert check_pin(pin, tmp_path / "home") == []


def test_a_cache_that_differs_from_its_store_is_made_anew_by_a_sync(whole, shared, tmp_path):
    lock = tmp_path / "genekb.lock"
    write_pins([pin_store(whole, encoders=["wcp-16"], url=str(shared))], lock)
    ((pin, pulled),) = sync(lock, home=tmp_path / "home", retry=QUICK)
    genekb.open("demo", home=tmp_path / "home").vector_table("wcp-16")
    cached = pulled.path.parent / CACHE / pin.digest[:16] / whole.encoder_id("wcp-16") / "vectors.npy"
    before = cached.stat()
    cached.write_bytes(cached.read_bytes()[:-8] + bytes(8))
    os.utime(cached, ns=(before.st_atime_ns, before.st_mtime_ns))  # so that nothing but its bytes tells
    assert check_pin(pin, tmp_path / "home")[0].startswith("the cache of wcp-16")
    assert sync(lock, home=tmp_path / "home", retry=QUICK)[0][1].n_bytes_now == 0
    assert check_pin(pin, tmp_path / "home") == []
