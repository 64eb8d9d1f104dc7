import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import genekb
from genekb.builder.diff import lineage_tree, trace_lineage
from genekb.builder.plan import BuildConfig, build
from genekb.builder.update import add_encoders, import_vectors, plan_update, update
from genekb.core.errors import StoreCorrupt
from genekb.encoders import load_encoder
from genekb.encoders.imported.vectors import read_foreign
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.store.manifest import MANIFEST, read_manifest
from genekb.store.verify import verify_store
from genekb_cellmodel_cli.genekb.stores import draw_lineage
from tests.support.in_process import call, call_json


@pytest.fixture(scope="module")
def line(ncbi_folder, old_ncbi_folder, tmp_path_factory):
    """Folders of four stores of one home: built, updated, with another encoder, with vectors made elsewhere."""
    home = tmp_path_factory.mktemp("home")
    built = build(
        read_ncbi_folder(old_ncbi_folder, taxa=["human"]), BuildConfig(name="human", models=("hash-8",)), home=home
    ).folder
    source = read_ncbi_folder(ncbi_folder, taxa=["human"])
    old = genekb.open(built)
    updated = update(old, source, plan_update(old, source), home=home).folder
    encoded = add_encoders(genekb.open(updated), ["random-8"], load=load_encoder, home=home).folder
    foreign = home / "mine.csv"
    foreign.write_text("symbol,a,b\nCD3D,1,2\nINS,3,4\n")
    imported = import_vectors(genekb.open(encoded), read_foreign(foreign), name="mine", home=home).build.folder
    return {"built": built, "updated": updated, "encoded": encoded, "imported": imported}


@pytest.fixture
def copied(line, tmp_path):
    """A copy of the home that a test may damage; the same names of folders."""
    home = Path(shutil.copytree(line["built"].parents[2], tmp_path / "home"))
    return {name: home / "stores" / folder.parent.name / folder.name for name, folder in line.items()}


def home_of(folder):
    return folder.parents[2]


def test_a_lineage_goes_back_to_the_first_store_and_tells_how_each_was_made(line):
    generations = trace_lineage(line["imported"])
    assert [generation.folder for generation in generations] == [*reversed(line.values())]
    assert [generation.digest for generation in generations] == [folder.name for folder in reversed(line.values())]
    assert [step.derivation and step.derivation.how for step in generations] == ["import", "encode", "update", None]
    added = [step.derivation.encoders_added for step in generations[:-1]]
    assert [[encoder_id.rpartition("-")[0] for encoder_id in ids] for ids in added] == [
        ["mine"],
        ["random-8"],
        [],
    ]


def test_texts_and_sources_of_an_update_are_those_that_the_files_show(line, ncbi_folder, old_ncbi_folder):
    step = trace_lineage(line["updated"])[0].derivation
    new, old = (set(genekb.open(line[name]).table("texts")["text_id"].to_pylist()) for name in ("updated", "built"))
    assert (step.n_texts_kept, step.n_texts_new, step.n_texts_gone) == (len(new & old), len(new - old), len(old - new))
    assert step.n_texts_new > 0
    names = {"Homo_sapiens.gene_info.gz", "gene_summary.gz"}
    differ = {name for name in names if (ncbi_folder / name).read_bytes() != (old_ncbi_folder / name).read_bytes()}
    assert "Homo_sapiens.gene_info.gz" in differ
    assert set(step.sources_replaced) == differ
    assert step.sources_added == step.sources_left_out == ()


def test_an_encoder_left_out_of_an_update_is_named(line, ncbi_folder, tmp_path):
    source = read_ncbi_folder(ncbi_folder, taxa=["human"])
    store = genekb.open(line["imported"])
    plan = plan_update(store, source, name="human@later", encoders=["hash-8"])
    folder = update(store, source, plan, home=tmp_path, encoders=["hash-8"]).folder
    first, parent = trace_lineage(folder, home=home_of(line["imported"]))[:2]
    assert parent.folder == line["imported"]
    assert first.derivation.how == "update"
    assert set(first.derivation.encoders_left_out) == set(store.manifest.encoders) - {store.encoder_id("hash-8")}


def test_vectors_made_elsewhere_tell_what_they_were_made_from(line):
    encoders = {entry["kind"]: entry for entry in lineage_tree(trace_lineage(line["imported"]))["encoders"]}
    assert encoders["foreign"]["made_from"].startswith("the file mine.csv (csv, sha256 ")
    assert encoders["hash"]["made_from"] == ""


def test_a_parent_that_is_not_here_is_named_by_its_whole_digest(copied, tmp_path):
    shutil.rmtree(copied["updated"])
    generations = trace_lineage(copied["imported"], home=tmp_path / "nowhere")
    assert [generation.problem for generation in generations] == ["", "", "not on this machine"]
    assert generations[-1].digest == copied["updated"].name
    assert generations[1].derivation is None
    tree = lineage_tree(generations)
    assert tree["parent"]["parent"] == {
        "digest": copied["updated"].name, "here": False, "problem": "not on this machine", "parent": None,
    }  # fmt: skip
    json.dumps(tree)


def test_a_parent_in_the_home_is_found_for_a_store_that_lies_elsewhere(line, tmp_path):
    elsewhere = Path(shutil.copytree(line["updated"], tmp_path / "anywhere"))
    generations = trace_lineage(elsewhere, home=home_of(line["updated"]))
    assert [generation.folder for generation in generations] == [elsewhere, line["built"]]


@pytest.mark.parametrize("harm", ["itself", "its child", "a path", "damaged"])
def test_a_forged_or_damaged_parent_ends_the_lineage_and_is_told(copied, harm):
    path = copied["updated"] / MANIFEST
    content = json.loads(path.read_text())
    forged = {"itself": copied["updated"].name, "its child": copied["imported"].name, "a path": "../../x", "damaged": 3}
    content["parent"] = forged[harm]
    path.write_text(json.dumps(content))
    generations = trace_lineage(copied["imported"])
    assert len(generations) == 3
    assert re.search("it claims|is damaged", generations[-1].problem)
    with pytest.raises(StoreCorrupt, match=r"it claims|is damaged"):
        trace_lineage(copied["updated"])


def test_a_store_that_stands_in_a_folder_of_another_digest_is_no_parent(copied):
    """Where folders are swapped every manifest is right in itself, and following folders would go round."""
    shutil.rmtree(copied["updated"])
    shutil.copytree(copied["imported"], copied["updated"])
    generations = trace_lineage(copied["imported"])
    assert len(generations) == 3
    assert generations[-1].problem == "not on this machine"


@pytest.mark.parametrize("parent", ["../../etc", "*", "a" * 63, "A" * 64])
def test_what_is_no_digest_is_looked_for_nowhere(copied, parent):
    manifest = replace(read_manifest(copied["built"]), parent=parent)
    (copied["built"] / MANIFEST).write_text(manifest.to_json())
    assert trace_lineage(copied["built"])[-1].to_dict() == {
        "digest": parent, "here": False, "problem": "not on this machine",
    }  # fmt: skip


def test_a_store_without_a_parent_is_its_own_lineage_and_nothing_is_written(copied):
    before = sorted(copied["built"].parent.rglob("*"))
    generations = trace_lineage(copied["built"])
    assert [generation.digest for generation in generations] == [copied["built"].name]
    assert lineage_tree(generations)["from_parent"] is None
    assert sorted(copied["built"].parent.rglob("*")) == before
    assert verify_store(copied["built"]).faults == ()


def test_every_store_is_drawn_inside_the_one_made_from_it(line):
    rows = list(draw_lineage(trace_lineage(line["imported"])))
    at = [next(row for row, text in enumerate(rows) if folder.name in text) for folder in reversed(line.values())]
    indents = [rows[row].index("human@") for row in at]
    assert at == sorted(at)
    assert indents == sorted(set(indents))
    assert "   ├─ made from it by: import" in rows
    assert sum("not in the parent" in row for row in rows) == 2


@pytest.mark.slow
def test_the_command_draws_it_or_gives_it_nested(line):
    args = ("genekb", "info", line["imported"].name, "--lineage", "--home", home_of(line["imported"]))
    generations = trace_lineage(line["imported"])
    assert call(*args)[:2] == (0, "".join(f"{row}\n" for row in draw_lineage(generations)))
    assert call_json(*args) == json.loads(json.dumps(lineage_tree(generations)))
    assert call("genekb", "info", line["imported"], "--card")[1].startswith("# human@2022-11\n")
