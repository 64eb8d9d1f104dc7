"""Generations of a store share the files that did not change; none is ever written into through another."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.builder.update import add_encoders, import_vectors, plan_update, update
from genekb.core.errors import StoreCorrupt
from genekb.encoders import load_encoder
from genekb.encoders.imported.vectors import read_foreign
from genekb.files.atomic import share_file
from genekb.share.pull import pull_store
from genekb.share.push import push_store
from genekb.share.remotes import parse_address
from genekb.store.verify import verify_store

OTHER_DISK = Path("/dev/shm")


@pytest.fixture
def first(human, tmp_path):
    config = BuildConfig(name="human", models=("wcp-8",))
    return genekb.open(build(human, config, home=tmp_path / "home").folder)


def home_of(store):
    return store.folder.parents[2]


def longer(store, home=None):
    return genekb.open(add_encoders(store, ["hash-8"], load=load_encoder, home=home or home_of(store)).folder)


def shared(child, parent):
    """Paths of files that are one file under two names."""
    both = {file.path for file in child.manifest.files} & {file.path for file in parent.manifest.files}
    return {path for path in both if (child.folder / path).samefile(parent.folder / path)}


def same(child, parent):
    """Paths of files with equal bytes, by the manifests."""
    return {(file.path, file.sha256) for file in child.manifest.files} & {
        (file.path, file.sha256) for file in parent.manifest.files
    }


def make_imported(store, tmp_path):
    (tmp_path / "mine.csv").write_text("symbol,a,b\nCD3D,1,2\nINS,3,4\n")
    foreign = read_foreign(tmp_path / "mine.csv")
    return genekb.open(import_vectors(store, foreign, name="mine", home=home_of(store)).build.folder)


def make_updated(store, source):
    plan = plan_update(store, source, name="human@again")
    return genekb.open(update(store, source, plan, home=home_of(store)).folder)


def test_an_encoder_that_is_added_or_imported_costs_its_own_bytes_alone(first, tmp_path):
    second = longer(first)
    for child, parent in ((second, first), (make_imported(second, tmp_path), second)):
        assert shared(child, parent) == {path for path, _ in same(child, parent)}
        tables = {f"{name}.parquet" for name in ("genes", "names", "orthologs", "annotations", "texts")}
        assert tables <= shared(child, parent)
        assert child.manifest.content_id(first.encoder_id()) == first.manifest.content_id(first.encoder_id())
        assert verify_store(child.folder).faults == verify_store(parent.folder).faults == ()
    new = {path.relative_to(second.folder).as_posix() for path in second.folder.rglob("*") if path.stat().st_nlink == 1}
    own = {"manifest.json", "README.md", "croissant.json"}
    assert {path for path in new if (second.folder / path).is_file()} == own


def test_an_update_shares_tables_and_shards_that_did_not_change(first, human):
    again = make_updated(first, human)
    assert shared(again, first) >= {"genes.parquet", "names.parquet", "texts.parquet"}
    encoder_id = first.encoder_id()
    assert f"embeddings/{encoder_id}/part-00000.parquet" in shared(again, first)
    changed = replace(human, names=human.names.slice(1))
    assert "names.parquet" not in shared(make_updated(first, changed), first)


def test_a_disk_without_links_gets_copies(first, tmp_path):
    if not OTHER_DISK.is_dir() or OTHER_DISK.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one disk")
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(dir=OTHER_DISK) as elsewhere:
        child = longer(first, home=Path(elsewhere))
        assert shared(child, first) == set()
        assert len(same(child, first)) > 5
        assert verify_store(child.folder).faults == ()


def test_damage_in_a_shared_file_is_found_in_each_store_and_mended_in_one_without_writing_into_the_other(
    first, tmp_path
):
    second = longer(first)
    address = parse_address(str(tmp_path / "shared"))
    push_store(second, address)
    with (second.folder / "texts.parquet").open("r+b") as stream:
        stream.write(b"xxxx")
    assert verify_store(first.folder).faults
    assert verify_store(second.folder).faults
    with pytest.raises(StoreCorrupt):
        longer(first, home=tmp_path / "new")
    pull_store(address, home=home_of(second))
    assert verify_store(second.folder).faults == ()
    assert (first.folder / "texts.parquet").read_bytes()[:4] == b"xxxx"
    assert "texts.parquet" not in shared(second, first)


def test_what_has_a_name_is_replaced_and_never_written_into(tmp_path):
    for name in ("source", "target"):
        (tmp_path / name).write_text(name)
    os.link(tmp_path / "target", tmp_path / "second name")
    os.link(tmp_path / "target", tmp_path / "target.part")  # as a killed process leaves it
    share_file(tmp_path / "source", tmp_path / "target")
    share_file(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").samefile(tmp_path / "source")
    assert (tmp_path / "second name").read_text() == "target"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["second name", "source", "target"]


def test_of_a_file_that_is_a_link_the_file_itself_is_shared(tmp_path):
    """As in the cache of the Hub's client."""
    (tmp_path / "blob").write_text("bytes")
    (tmp_path / "name").symlink_to("blob")
    (tmp_path / "folder").mkdir()
    share_file(tmp_path / "name", tmp_path / "folder" / "name")
    assert not (tmp_path / "folder" / "name").is_symlink()
    assert (tmp_path / "folder" / "name").samefile(tmp_path / "blob")
