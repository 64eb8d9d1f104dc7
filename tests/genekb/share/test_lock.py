"""Lock file, catalog and signatures: two machines and two projects with the same bytes, and who made them."""

import os
import tomllib

import pytest

import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.core.errors import NotAvailable, SourceUnusable, StoreCorrupt
from genekb.share.catalog import add_to_catalog, address_of, find_listed, list_manifest, read_catalog
from genekb.share.lock import check_pin, pin_store, sync, write_pins
from genekb.share.pull import PullConfig, pull_store
from genekb.share.push import push_store
from genekb.share.remotes import parse_address
from genekb.share.signing import keygen, sign, verify_signature
from genekb.store.lockfile import read_pins
from genekb.store.verify import verify_store
from tests.genekb.share.test_share import QUICK, content, served
from tests.support.in_process import call, call_here, call_json
from tests.support.loopback import serving
from tests.support.processes import ROOT


@pytest.fixture
def home(human, tmp_path):
    build(human, BuildConfig(name="human", models=("hash-16", "wcp-8")), home=tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def built(home):
    return genekb.open("human", home=home)


@pytest.fixture
def shared(built, tmp_path):
    push_store(built, parse_address(str(tmp_path / "shared")))
    return tmp_path / "shared"


def test_a_lock_file_gives_another_machine_the_same_bytes(built, shared, tmp_path):
    write_pins([pin_store(built, encoders=["wcp-8"], url=str(shared))], tmp_path / "genekb.lock")
    (pin, pulled), *rest = sync(tmp_path / "genekb.lock", home=tmp_path / "other", retry=QUICK)
    assert (rest, pin.digest) == ([], built.manifest.digest)
    for name, body in content(pulled.path).items():
        assert (built.folder / name).read_bytes() == body
    assert check_pin(pin, tmp_path / "other") == []
    assert sync(tmp_path / "genekb.lock", home=tmp_path / "other", retry=QUICK)[0][1] is None


def test_what_a_push_or_a_lock_would_harm_is_refused_before_anything_is_sent(
    built, home, tmp_path, capsys, monkeypatch
):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "cells.csv").write_text("cell,CD3D\na,1\n")
    before = content(built.folder)
    for line, why in (
        (("push", built.folder, built.folder), "is an input"),
        (("push", built.folder, built.folder / "shared"), "lies inside"),
        (("push", "human", tmp_path / "new", "--catalog", tmp_path / "cells.csv"), "is no catalog"),
        (("push", "human", tmp_path / "new", "--catalog", tmp_path / "pipe"), "is a pipe or a device"),
        (("lock", "human", "--file", tmp_path / "pipe"), "is a pipe or a device"),
        (("lock", "human", "--file", tmp_path), "is a folder of other files"),
    ):
        found = call_here(["genekb", *line, "--home", home], capsys, monkeypatch)
        assert (found.code, why in found.err, found.err.count("\n")) == (3, True, 1), found.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.csv", "home", "pipe"]
    assert content(built.folder) == before


def test_a_newer_store_of_the_name_does_not_move_a_project_that_is_locked(
    built, human, home, shared, tmp_path, monkeypatch
):
    project = tmp_path / "project" / "notebooks"
    project.mkdir(parents=True)
    write_pins([pin_store(built, url=str(shared))], project.parent / "genekb.lock")
    newer = build(human, BuildConfig(name="human", models=("hash-32",)), home=home).manifest.digest
    push_store(genekb.open(newer, home=home), parse_address(str(shared)))
    assert genekb.open("human", home=home).manifest.digest == newer
    monkeypatch.chdir(project)
    assert genekb.open("human", home=home).manifest.digest == built.manifest.digest
    assert genekb.open("human@2022-11", home=home).manifest.digest == built.manifest.digest
    with pytest.raises(NotAvailable, match=r"genekb.lock pins human to .* `genekb pull` brings it"):
        genekb.open("human", home=tmp_path / "other")
    sync(project.parent / "genekb.lock", home=tmp_path / "other", retry=QUICK)
    assert genekb.open("human", home=tmp_path / "other").manifest.digest == built.manifest.digest


def test_a_pin_that_nothing_fits_is_told(built, shared, tmp_path):
    path = tmp_path / "genekb.lock"
    write_pins([pin_store(built)], path)
    with pytest.raises(NotAvailable, match=r"has no address of it; build or copy it"):
        sync(path, home=tmp_path / "other", retry=QUICK)
    write_pins([pin_store(built, url=str(shared))], path)
    path.write_text(path.read_text().replace(built.manifest.digest, "0" * 64))
    with pytest.raises(NotAvailable, match="has no version 0000"):
        sync(path, home=tmp_path / "other", retry=QUICK)


@pytest.mark.parametrize(
    "text",
    ["version = 2", "not toml", 'version = 1\n[[store]]\nname = "x"', "\x00", "version = 1\nstore = 3"],
)
def test_a_damaged_lock_file_is_said_to_be_none(tmp_path, text):
    (tmp_path / "genekb.lock").write_text(text)
    with pytest.raises(SourceUnusable, match=r"is no lock file .*remove it, then write it again with `genekb lock`"):
        read_pins(tmp_path / "genekb.lock")


def test_a_lock_file_of_a_later_version_is_not_written_over(tmp_path):
    (tmp_path / "genekb.lock").write_text("version = 2")
    with pytest.raises(SourceUnusable, match="its version is 2, 1 is read here"):
        write_pins([], tmp_path / "genekb.lock")
    assert (tmp_path / "genekb.lock").read_text() == "version = 2"


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "human@../x", "human/2022", "", "human@"])
def test_a_pin_names_no_folder_outside_the_stores(built, tmp_path, name):
    path = tmp_path / "genekb.lock"
    write_pins([pin_store(built)], path)
    path.write_text(path.read_text().replace("human@2022-11", name))
    with pytest.raises(SourceUnusable, match="is no store's name"):
        read_pins(path)


def test_a_pin_under_another_stores_name_is_told(built, shared, tmp_path):
    path = tmp_path / "genekb.lock"
    write_pins([pin_store(built, url=str(shared))], path)
    path.write_text(path.read_text().replace("human@2022-11", "human@2023-01"))
    with pytest.raises(StoreCorrupt, match=r"gives human@2022-11 where .* pins human@2023-01; pin it again"):
        sync(path, home=tmp_path / "other", retry=QUICK)


def test_a_relative_address_is_one_from_the_lock_file_on_wherever_a_command_runs(
    built, home, shared, tmp_path, monkeypatch, capsys
):
    (tmp_path / "project" / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project" / "notebooks")
    (tmp_path / "project" / "genekb.lock").write_text("version = 1\n")
    done = call_here(("genekb", "lock", "human", "--url", "../../shared", "--home", home), capsys, monkeypatch)
    assert done.code == 0, done.err
    (pin,) = read_pins(tmp_path / "project" / "genekb.lock")
    assert pin.url == "../shared"
    for place in (tmp_path / "project", tmp_path):
        monkeypatch.chdir(place)
        sync(tmp_path / "project" / "genekb.lock", home=place / "home2", retry=QUICK)
        assert check_pin(pin, place / "home2") == []


def test_entries_of_other_kinds_stay_where_they_are(built, tmp_path):
    path = tmp_path / "genekb.lock"
    path.write_text('version = 1\nkept = "as it is"\n\n[[other]]\npath = "x"\n')
    write_pins([pin_store(built)], path)
    content = tomllib.loads(path.read_text())
    assert (content["kept"], content["other"]) == ("as it is", [{"path": "x"}])
    assert [pin.digest for pin in read_pins(path)] == [built.manifest.digest]


def test_a_catalog_lists_what_can_be_pulled_and_moves_with_its_folder(built, tmp_path):
    place = tmp_path / "kb"
    pushed = push_store(built, parse_address(str(place / "human")))
    add_to_catalog(list_manifest(built.manifest, pushed.url, catalog=place / "catalog.toml"), place / "catalog.toml")
    with serving(files=served(place)) as server:
        (entry,) = read_catalog(server.url + "kb/catalog.toml", retry=QUICK)
        assert entry.url == f"{server.url}kb/human@{built.manifest.digest}"
        assert (entry.name, entry.n_genes, entry.licences) == (
            "human@2022-11", built.manifest.n_genes, built.manifest.licences,
        )  # fmt: skip
        config = PullConfig(digest=entry.digest, retry=QUICK)
        address = parse_address(find_listed([entry], "human").url)
        assert pull_store(address, config, home=tmp_path / "home2").digest == built.manifest.digest
    with pytest.raises(NotAvailable, match=r"has no 'mouse' \(it has: human@2022-11\)"):
        find_listed([entry], "mouse")
    with pytest.raises(NotAvailable, match="no catalog at"):
        read_catalog(str(tmp_path / "nowhere"), retry=QUICK)
    (place / "catalog.toml").write_text("version = 9")
    with pytest.raises(SourceUnusable, match="is no catalog"):
        read_catalog(str(place), retry=QUICK)


def test_every_store_of_the_catalog_in_this_repository_can_be_pulled(tmp_path):
    listed = read_catalog(str(ROOT / "artifacts"), retry=QUICK)
    assert listed
    for entry in listed:
        pulled = pull_store(address_of(entry), PullConfig(digest=entry.digest, retry=QUICK), home=tmp_path)
        manifest = genekb.open(pulled.path).manifest
        assert (manifest.n_genes, tuple(manifest.encoders)) == (entry.n_genes, entry.encoders)
        assert verify_store(pulled.path).faults == ()


@pytest.fixture
def keys(tmp_path, monkeypatch):
    monkeypatch.setenv("GENEKB_SIGN_PASSWORD", "a long password")
    public = keygen(tmp_path / "key")
    assert b"a long password" not in (tmp_path / "key").read_bytes()
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    return tmp_path / "key", public


def test_a_signature_travels_and_every_change_of_the_manifest_breaks_it(built, keys, tmp_path):
    secret, public = keys
    sign(built.folder, secret)
    push_store(built, parse_address(str(tmp_path / "shared")))
    config = PullConfig(public_key=str(public), retry=QUICK)
    pulled = pull_store(parse_address(str(tmp_path / "shared")), config, home=tmp_path / "other")
    assert built.manifest.digest in pulled.signed
    assert verify_signature(pulled.path, public.read_text().splitlines()[-1]) == pulled.signed
    manifest = pulled.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"created_by": "', '"created_by": "x'))
    with pytest.raises(StoreCorrupt, match="not signed by the owner of this public key"):
        verify_signature(pulled.path, str(public))


def test_what_is_unsigned_or_signed_by_another_is_refused_before_any_file_comes(built, keys, tmp_path):
    secret, public = keys
    push_store(built, parse_address(str(tmp_path / "shared")))
    address = parse_address(str(tmp_path / "shared"))
    config = PullConfig(public_key=str(public), retry=QUICK)
    with pytest.raises(StoreCorrupt, match="is not signed, and a public key was given"):
        pull_store(address, config, home=tmp_path / "other")
    sign(built.folder, secret)
    push_store(built, address)
    other = PullConfig(public_key=str(keygen(tmp_path / "other-key")), retry=QUICK)
    with pytest.raises(StoreCorrupt, match="do not use it"):
        pull_store(address, other, home=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_keys_that_do_not_open_and_keys_that_are_none(built, keys, tmp_path, monkeypatch):
    secret, public = keys
    with pytest.raises(SourceUnusable, match="a key is never replaced"):
        keygen(secret)
    with pytest.raises(SourceUnusable, match="is no key of this kind"):
        sign(built.folder, public)
    with pytest.raises(SourceUnusable, match="neither a public key nor a file"):
        verify_signature(built.folder, "RWQnonsense")
    monkeypatch.setenv("GENEKB_SIGN_PASSWORD", "wrongsecret")
    with pytest.raises(SourceUnusable, match="does not open with the password in GENEKB_SIGN_PASSWORD") as error:
        sign(built.folder, secret)
    assert "wrongsecret" not in str(error.value)
    monkeypatch.delenv("GENEKB_SIGN_PASSWORD")
    with pytest.raises(NotAvailable, match="set GENEKB_SIGN_PASSWORD"):
        sign(built.folder, secret)


@pytest.mark.slow
def test_the_commands_from_build_to_a_second_machine(built, home, tmp_path, monkeypatch):
    place, other, lock = tmp_path / "kb", tmp_path / "other", tmp_path / "genekb.lock"
    plan = call_json("genekb", "push", "human", place / "human", "--home", home, "--dry-run")
    assert plan["digest"] == built.manifest.digest
    assert not place.exists()
    catalog = place / "catalog.toml"
    pushed = call_json("genekb", "push", "human", place / "human", "--home", home, "--catalog", catalog)
    assert pushed["n_bytes"] == plan["n_bytes"]
    listed = call_json("genekb", "info", "--remote", "--catalog", catalog)["stores"]
    assert [row["store"] for row in listed] == ["human@2022-11"]
    pulled = call_json("genekb", "pull", "human", "--catalog", catalog, "--encoder", "wcp-8", "--home", other)
    assert pulled["digest"] == built.manifest.digest
    locked = call_json("genekb", "lock", "human", "--file", lock, "--home", other)["stores"]
    assert locked[0]["encoders"] == [built.encoder_id("wcp-8")]
    assert tomllib.loads(lock.read_text())["store"][0]["digest"] == built.manifest.digest
    code, out, err = call("genekb", "pull", "--check", "--file", lock, "--home", tmp_path / "third")
    assert (code, err.count("\n")) == (5, 1)
    assert "is not here" in out
    assert call_json("genekb", "pull", "--file", lock, "--home", tmp_path / "third")["stores"][0]["n_bytes_now"] > 0
    assert call("genekb", "pull", "--check", "--file", lock, "--home", tmp_path / "third")[0] == 0
    code, _, err = call("genekb", "pull", f"{place / 'human'}@{'1' * 64}", "--home", other)
    assert (code, err.count("\n")) == (4, 1)
    verified = call("genekb", "verify", "human", "--home", other, "--public-key", "RWQx")
    assert verified[0] == 3
