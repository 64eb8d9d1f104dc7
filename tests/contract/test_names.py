"""Names that others wrote: none leaves its folder, none stands for two files, none steers a terminal."""

import csv
import json
import shutil
import unicodedata
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.core.errors import NotAvailable, SourceUnusable, StoreCorrupt
from genekb.core.messages import printable, table_text
from genekb.files.atomic import find_clash, is_plain_path
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.sources.table import read_gene_table
from genekb.store.home import check_name, find_store
from genekb.store.manifest import StoredFile, read_manifest
from genekb_cellmodel_cli.app.output import print_json
from tests.support.in_process import call

OUTSIDE = (
    *("", ".", "..", "/", "/etc/passwd", "../x", "a/../../x", "a/./b", "./a", "a//b", "a/", "~/x", "-x", ".hidden"),
    *(
        "a\\b",
        "..\\x",
        "C:x",
        "C:/x",
        "\\\\host\\share",
        "//host/share",
        "file:///x",
        "a\0b",
        "a\nb",
        "a\x1b[2Jb",
        "a b",
    ),
    *("e\u0301.parquet", "\u00e9.parquet", "a\u202eb", "a\u200bb", "\uff0e\uff0e/x", "\u2024\u2024/x", "a/b\ufeff"),
    *("con", "NUL.parquet", "a/aux", "com1.txt", "a.", "a./b", "a" * 300, "/".join("abcdefghij")),
)


@pytest.fixture(scope="module")
def folder(ncbi_folder, tmp_path_factory):
    source = read_ncbi_folder(ncbi_folder, taxa=["human"])
    config = BuildConfig(name="human", models=("hash-8", "random-8"))
    return build(source, config, home=tmp_path_factory.mktemp("home")).folder


@pytest.fixture
def changed(folder, tmp_path):
    """Makes a store with another manifest, whose digest is right."""

    def make(**changes):
        copy = shutil.copytree(folder, tmp_path / "store")
        (copy / "manifest.json").write_text(replace(read_manifest(folder), **changes).to_json())
        return copy

    return make


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_that_is_not_plain_is_refused(folder, changed, path):
    assert not is_plain_path(path)
    files = (*read_manifest(folder).files, StoredFile(path=path, n_bytes=1, n_rows=0, sha256="0" * 64))
    with pytest.raises(StoreCorrupt, match="is no plain path below the store; do not use this store"):
        genekb.open(changed(files=files))


@pytest.mark.parametrize("path", ["manifest.json", "manifest.json.minisig", "genes.parquet.part"])
def test_a_manifest_lists_neither_itself_nor_what_is_being_written(folder, changed, path):
    files = (*read_manifest(folder).files, StoredFile(path=path, n_bytes=1, n_rows=0, sha256="0" * 64))
    with pytest.raises(StoreCorrupt, match="is no plain path below the store"):
        genekb.open(changed(files=files))


@pytest.mark.parametrize("path", ["genes.parquet", "GENES.parquet", "Embeddings", "genes.parquet/x"])
def test_two_names_that_one_system_takes_for_the_same_are_refused(folder, changed, path):
    files = (*read_manifest(folder).files, StoredFile(path=path, n_bytes=1, n_rows=0, sha256="0" * 64))
    with pytest.raises(StoreCorrupt, match="twice, or a file and a folder alike"):
        genekb.open(changed(files=files))


def test_files_of_one_folder_do_not_clash():
    assert find_clash(["a/b", "a/c", "b", "c/a/b"]) == ""


@pytest.mark.parametrize("key", ["../../x", "a/b", "", "x\u202ey", "x\x1b]0;title\x07"])
def test_an_encoder_whose_id_is_no_folder_name_is_refused(folder, changed, key):
    encoders = dict(read_manifest(folder).encoders)
    encoders[key] = encoders.pop(next(iter(encoders)))
    with pytest.raises(StoreCorrupt, match=r"holds the name .*, which is no plain name"):
        genekb.open(changed(encoders=encoders))


@pytest.mark.parametrize("field", ["name", "release"])
@pytest.mark.parametrize("value", ["../x", "a\x1b[2J", "\u043duman", "a\n"])
def test_a_store_whose_name_is_not_plain_is_refused(changed, field, value):
    with pytest.raises(StoreCorrupt, match=r"holds the name .*, which is no plain name"):
        genekb.open(changed(**{field: value}))


@pytest.mark.parametrize("name", ["human\n", "human@2022\n", "../human", "hum\u0430n", "human@../x", "@x", "human@a@b"])
def test_a_name_that_a_user_gives_has_plain_characters(name):
    with pytest.raises(SourceUnusable, match="is not NAME or NAME@RELEASE"):
        check_name(name)


@pytest.mark.parametrize(
    "pointer", ["../..", "/etc", "..", "", ".", "a" * 10_000_000, "0" * 7, "g" * 64, "\u0660" * 64]
)
def test_a_pointer_that_holds_no_digest_points_nowhere(folder, tmp_path, pointer):
    place = tmp_path / "stores" / "human@2022-11"
    shutil.copytree(folder, place / folder.name)
    shutil.copy(folder / "manifest.json", tmp_path / "manifest.json")  # what ../.. would find
    (place / "current").write_text(pointer)
    with pytest.raises(NotAvailable, match="no store 'human'"):
        find_store("human", tmp_path)


def test_a_file_that_is_a_link_gives_the_promised_bytes_or_nothing(folder, tmp_path):
    store, blobs = tmp_path / "store", tmp_path / "blobs"  # as the cache of the Hugging Face hub lays them out
    shutil.copytree(folder, store)
    blobs.mkdir()
    (store / "names.parquet").rename(blobs / "names")
    (store / "names.parquet").symlink_to(blobs / "names")
    assert genekb.open(store).resolve(["CD3D"]).gene_ids.tolist() == [915]
    secret = bytearray((blobs / "names").read_bytes())
    secret[100] ^= 1
    (blobs / "names").write_bytes(secret)
    with pytest.raises(StoreCorrupt, match="has other bytes than its manifest says"):
        genekb.open(store).resolve(["CD3D"])


@pytest.mark.parametrize("target", ["/dev/zero", "/etc", "missing"])
def test_a_link_to_what_is_no_file_is_missing(folder, tmp_path, target):
    store = shutil.copytree(folder, tmp_path / "store")
    (store / "names.parquet").unlink()
    (store / "names.parquet").symlink_to(target)
    with pytest.raises(StoreCorrupt, match=r"names\.parquet is missing or not"):
        genekb.open(store)


@given(text=st.text())
def test_no_character_that_is_not_seen_reaches_the_terminal(text):
    shown = printable(text)
    assert all(char in "\n\t" or unicodedata.category(char)[0] != "C" for char in shown)
    assert shown == text or any(
        unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for char in text
    )


def test_a_table_for_people_holds_no_formula_and_steers_no_terminal():
    texts = ["=cmd|' /C calc'!A0", "+1+1", "-", "@SUM(A1)", "\t=1", "\x1b[2Jx\u202e", "a\tb", "-1.5", "+2e3", "=\n"]
    rows = [[text, 1, -0.5, float("nan"), None, True] for text in texts]
    for name, delimiter in (("t.csv", ","), ("t.tsv", "\t")):
        text = table_text(Path(name), ["name", "n", "x", "y", "z", "is"], rows)
        header, *read = csv.reader(StringIO(text, newline=""), delimiter=delimiter)
        assert header == ["name", "n", "x", "y", "z", "is"]
        assert [row[1:] for row in read] == [["1", "-0.5", "", "", "True"]] * len(texts)
        shown = ["'=cmd|' /C calc'!A0", "'+1+1", "'-", "'@SUM(A1)", "'\t=1", r"\x1b[2Jx\u202e"]
        assert [row[0] for row in read] == [*shown, "a\tb", "-1.5", "+2e3", "'=\n"]


HOSTILE = "T\x1b]0;owned\x07\x1b[2J\u202ecell\u200b\x9b31m\r\u2028"


@pytest.fixture(scope="module")
def hostile_home(tmp_path_factory):
    home = tmp_path_factory.mktemp("hostile")
    table = home / "genes.tsv"
    rows = [f"{n}\tG{n}\t9606\t{HOSTILE}\tSummary {HOSTILE} of gene {n}." for n in range(1, 9)]
    table.write_text(
        "gene_id\tsymbol\ttax_id\tname\tsummary\n" + "\n".join(rows).replace("\r", "") + "\n", newline="\n"
    )
    build(read_gene_table(table, release="1"), BuildConfig(name="evil", models=("wcp-2",)), home=home)
    return home


@pytest.mark.parametrize(
    "command",
    [
        ["sql", "select name, symbol from genes", "--kb", "evil"],
        ["sql", "select name from genes", "--kb", "evil", "--json"],
        ["resolve", f"genes-{HOSTILE}.txt", "--kb", "evil"],
        ["info", f"evil{HOSTILE}"],
    ],
    ids=["sql", "sql-json", "file", "store"],
)
def test_what_a_command_prints_cannot_steer_the_terminal(hostile_home, command):
    _, out, err = call("genekb", *command, "--home", hostile_home)
    hidden = {char for char in out + err if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"}}
    assert hidden <= {"\n", "\t"}
    assert "Traceback" not in err
    assert "\\x1b" in out + err or "\\u001b" in out
    if "--json" in command:
        assert any(HOSTILE.split("\r", maxsplit=1)[0] in name for (name,) in json.loads(out)["rows"])


def test_json_on_stdout_holds_the_characters_themselves(capsys):
    print_json({"name": HOSTILE})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"name": HOSTILE}
    assert "\u202e" not in shown
