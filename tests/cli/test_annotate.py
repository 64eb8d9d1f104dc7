"""`cellmodel annotate --kb`, `map-labels` and `search` as their users run them."""

import re

import pytest

from cellmodel.io.formats.anndata import read_anndata
from tests.support.demo import demo_cells
from tests.support.in_process import call, call_here, call_json

KEY = ("--cluster-key", "bulk_labels")


@pytest.fixture(scope="module")
def store(demo_store):
    return ("--kb", demo_store("wcp-64").folder)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    where = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    demo_cells().write_h5ad(where)
    return where


def test_clusters_and_cells_get_names_from_the_table_of_types(path, store, tmp_path):
    told = call_json("cellmodel", "annotate", path, *store, *KEY, "--tissue", "blood", "-o", tmp_path / "o.h5ad")
    named = {row["cluster"]: row for row in told["clusters"]}
    b_cell = named["CD19+ B"]
    assert (b_cell["name"], b_cell["is_mixed"]) == ("B cell", True)
    assert {one["name"] for one in b_cell["mix"]} > {"memory B cell", "plasma cell"}
    assert (named["CD56+ NK"]["name"], named["CD56+ NK"]["ontology_id"]) == ("natural killer cell", "CL:0000623")
    assert named["Dendritic"]["name"].startswith("conventional dendritic")
    assert all((row["name"] == "unassigned") == bool(row["reason"]) for row in named.values())
    assert {gene["name"] for gene in named["CD19+ B"]["genes"]} & {"CD79A", "MS4A1"}
    obs = read_anndata(tmp_path / "o.h5ad").obs
    assert (obs["cellmodel_name"].astype(str) == obs["bulk_labels"].astype(str).map(lambda c: named[c]["name"])).all()
    of_nk = obs["cellmodel_name_cell"][obs["bulk_labels"] == "CD56+ NK"]
    assert (of_nk == "natural killer cell").mean() > 0.5
    assert obs["cellmodel_name_cell_score"].notna().all()


def test_the_same_command_writes_the_same_bytes(path, store, tmp_path):
    for name in ("a.h5ad", "b.h5ad"):
        call_json("cellmodel", "annotate", path, *store, *KEY, "--permutations", 20, "-o", tmp_path / name)
    assert (tmp_path / "a.h5ad").read_bytes() == (tmp_path / "b.h5ad").read_bytes()


def test_a_tissue_keeps_immune_cells_and_unassigned_clusters_say_what_was_rejected_and_why(path, store, tmp_path):
    def run(*tissue):
        args = (path, *store, *KEY, *tissue, "--permutations", 20, "--overwrite", "-o", tmp_path / "o.h5ad")
        code, shown, err = call("cellmodel", "annotate", *args)
        assert code == 0, err
        return shown

    with_immune, alone = run("--tissue", "gut"), run("--only-tissue", "gut")
    assert ("candidates: 110 types" in with_immune, "candidates: 27 types" in alone) == (True, True)
    assert "natural killer cell" in with_immune
    assert re.search(r"unassigned \(best: [\w -]+, adjusted p \d[\d.]*\)", alone)


@pytest.mark.slow
def test_a_users_own_types_are_the_only_ones(path, store, tmp_path):
    (tmp_path / "mine.csv").write_text(
        "cell_type,definition,genes\nmine,antibodies and the B cell receptor,CD79A CD79B MS4A1\nother,,CD3D CD3E\n"
    )
    args = (path, *store, *KEY, "--candidates", tmp_path / "mine.csv", "-o", tmp_path / "o.h5ad")
    told = call_json("cellmodel", "annotate", *args)
    assert told["n_candidates"] == 2
    named = {row["cluster"]: row["best"] for row in told["clusters"]}
    assert (named["CD19+ B"], named["CD4+/CD45RO+ Memory"]) == ("mine", "other")
    (tmp_path / "panel.json").write_text('{"mine": ["CD79A", "CD79B", "MS4A1"], "other": ["CD3D", "CD3E"]}')
    args = (path, *store, *KEY, "--markers", tmp_path / "panel.json", "-o", tmp_path / "p.h5ad")
    code, shown, err = call("cellmodel", "annotate", *args)
    assert (code, "mine" in shown) == (0, True), err


def test_wrong_usage_ends_in_one_line_before_anything_is_written(path, store, tmp_path, capsys, monkeypatch):
    def ended(*words):
        outcome = call_here(["cellmodel", *words], capsys, monkeypatch)
        return outcome.code, " ".join(outcome.err.split())

    out = ("-o", tmp_path / "o.h5ad")
    code, err = ended("annotate", path, *KEY, *out)
    assert (code, "names come from a store" in err) == (2, True)
    code, err = ended("annotate", path, *store, "--tissue", "gut", "--only-tissue", "gut", *out)
    assert (code, "name the types to choose from; give one" in err) == (2, True)
    for words in (("cellmodel", "search", path), ("genekb", "search")):
        code, _, err = call(*words, "x" * 2_001, *store)
        assert (code, "the query has 2,001 characters, at most 2,000 are searched" in err) == (2, True)
    assert not (tmp_path / "o.h5ad").exists()


def test_search_ranks_clusters_tells_why_and_writes_scores(path, store, tmp_path):
    out = tmp_path / "found.h5ad"
    told = call_json("cellmodel", "search", path, "natural killer cell", *store, *KEY, "-o", out)
    assert told["clusters"][0]["cluster"] == "CD56+ NK"
    assert told["types"][0]["name"] == "natural killer cell"
    obs = read_anndata(out).obs
    means = obs.groupby("bulk_labels", observed=True)["cellmodel_search"].mean()
    assert means.idxmax() == "CD56+ NK"
    code, shown, err = call("cellmodel", "search", path, "B cell receptor", *store)
    assert (code, "the 5 % of cells" in shown, "CD79" in shown) == (0, True, True), err


def test_labels_of_files_are_mapped_to_terms_printed_or_written(path, tmp_path, capsys, monkeypatch):
    (tmp_path / "labels.txt").write_text("Tregs\ndoublet\n\nTregs\n")
    out = tmp_path / "mapped.tsv"
    rows = call_json("cellmodel", "map-labels", tmp_path / "labels.txt")["labels"]
    assert [(row["label"], row["id"], row["confidence"]) for row in rows] == [
        ("Tregs", "CL:0000815", "high"), ("doublet", "", "none"),
    ]  # fmt: skip
    assert call("cellmodel", "map-labels", path, "--key", "bulk_labels", "-o", out)[0] == 0
    written = {line.split("\t")[0]: line.split("\t")[1] for line in out.read_text().splitlines()}
    assert written["CD56+ NK"] == "CL:0000623"
    assert written["CD14+ Monocyte"] == "CL:0001054"
    odd = tmp_path / "mapped.json"
    for words, code, said in (
        ((out, "--column", "label", "-o", odd), 2, "write a table as .tsv or .csv"),
        ((out, "--column", "label", "-o", out), 3, "input"),
        ((out,), 3, "has columns; name that of the labels"),
        ((path, "--column", "nothing"), 3, "no column 'nothing' in obs"),
    ):
        ended = call_here(["cellmodel", "map-labels", *words], capsys, monkeypatch)
        assert (ended.code, said in ended.err) == (code, True), ended.err
