"""`cellmodel run` gives what its steps give as commands of their own, reads once and writes once."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest

import cellmodel as cm
import genekb
from cellmodel.annotate.candidates import of_tissues
from cellmodel.annotate.cell_types import read_cell_types
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable, SlotTaken, UnknownName
from cellmodel.io.cells import read_cells
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.io.records import stored_graph
from cellmodel.pp.features import make_features
from cellmodel.tl._demo import demo_outputs, find_demo_cells, run_demo
from tests.support.in_process import call, call_here, call_json

BLOOD = ("--only-tissue", "blood")
QUICK = ("--recipe", "pca-kmeans", "--n-clusters", "6")


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    adata = read_anndata(find_demo_cells()).raw.to_adata()
    adata.write_h5ad(path, compression="gzip")
    return path


@pytest.fixture(scope="module")
def store(demo_home):
    return ("--kb", "demo", "--home", demo_home)


@pytest.fixture(scope="module")
def steps(cells, store, tmp_path_factory):
    """The commands one after the other, each reading what the one before it wrote."""
    folder = tmp_path_factory.mktemp("steps")
    found = {
        "cluster": call_json("cellmodel", "cluster", cells, *store, *QUICK, "-o", folder / "1.h5ad"),
        "annotate": call_json("cellmodel", "annotate", folder / "1.h5ad", *store, *BLOOD, "-o", folder / "2.h5ad"),
        "attribute": call_json("cellmodel", "attribute", folder / "2.h5ad", *store, "-o", folder / "3.h5ad"),
    }
    call("cellmodel", "report", folder / "3.h5ad", "-o", folder / "report.html")
    return folder, found


@pytest.fixture(scope="module")
def chain(cells, store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain")
    report = ("--report", folder / "report.html", "--tables", folder / "tables")
    return folder, call_json("cellmodel", "run", cells, *store, *QUICK, *BLOOD, "-o", folder / "out.h5ad", *report)


def elements(path):
    """Every array and attribute of a file by its place; the command that wrote it apart."""
    found = {}

    def note(name, item):
        attributes = {key: np.asarray(value).tolist() for key, value in item.attrs.items()}
        found[name] = (attributes, np.asarray(item).tolist() if getattr(item, "shape", None) is not None else None)

    with h5py.File(path) as file:
        file.visititems(note)
    return {name: value for name, value in found.items() if name != "uns/cellmodel/command"}


def test_slots_are_those_of_the_commands_one_after_the_other(chain, steps):
    one, many = elements(chain[0] / "out.h5ad"), elements(steps[0] / "3.h5ad")
    assert one.keys() == many.keys()
    assert {name for name in one if repr(one[name]) != repr(many[name])} == set()
    assert anndata.read_h5ad(chain[0] / "out.h5ad").uns["cellmodel"]["command"].startswith("cellmodel run ")


def test_json_has_the_record_of_each_command(chain, steps):
    apart = {"input", "output", "report", "tables", "seconds"}

    def plain(record):
        return {key: value for key, value in record.items() if key not in apart}

    assert list(chain[1]) == ["cluster", "annotate", "attribute"]
    assert {name: plain(record) for name, record in chain[1].items()} == {
        name: plain(record) for name, record in steps[1].items()
    }


def test_the_report_has_names_and_evidence_as_that_of_the_file_has(chain, steps):
    one, many = ((folder / "report.html").read_text() for folder in (chain[0], steps[0]))
    for word in ("natural killer cell", "themes", "T cell"):
        assert one.count(word) == many.count(word) > 0
    assert sorted(path.name for path in (chain[0] / "tables").iterdir()) == [
        "cells.tsv", "contributions.tsv", "enrichment.tsv", "markers.tsv", "names.tsv", "themes.tsv",
    ]  # fmt: skip


def test_the_table_of_cells_is_their_obs(chain, cells):
    obs, own = anndata.read_h5ad(chain[0] / "out.h5ad").obs, set(read_anndata(cells).obs)
    with (chain[0] / "tables" / "cells.tsv").open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["cell"] for row in rows] == list(obs.index)
    assert rows[0].keys() == {"cell", *obs} - own
    for column in ("cellmodel", "cellmodel_name", "cellmodel_name_cell"):
        assert [row[column] for row in rows] == obs[column].astype(str).tolist()
    np.testing.assert_allclose([float(row["cellmodel_confidence"]) for row in rows], obs["cellmodel_confidence"])


def test_the_columns_that_the_page_for_r_names_are_in_the_tables(chain):
    page = (Path(__file__).parents[2] / "docs" / "guide" / "r.md").read_text()
    heads = {path.stem: path.read_text().split("\n")[0].split("\t") for path in (chain[0] / "tables").iterdir()}
    named = set(re.findall(r"(?<![.\w])cellmodel(?:_\w+)?(?=[\"`),])", page))
    assert {"cellmodel_name", "cellmodel_level_1"} < named <= set(heads["cells"])
    read = dict(re.findall(r'(\w+) <- read\.delim\("tables/(\w+)\.tsv"', page))
    assert read == {"cells": "cells", "markers": "markers", "themes": "themes"}
    for variable, table in read.items():
        chosen = re.findall(rf"{variable}\$(\w+)|{variable}\[[^\n]*c\(([^)]*)\)", page)
        columns = {one for one, many in chosen for one in [one, *re.findall(r'"(\w+)"', many)] if one}
        assert columns <= set(heads[table]), table
        assert columns or table == "cells"


def test_people_get_one_table_with_names_and_one_with_themes(cells, store, tmp_path):
    code, shown, err = call("cellmodel", "run", cells, *store, *BLOOD, *QUICK, "-o", tmp_path / "out.h5ad")
    assert code == 0, err
    assert "cluster  name" in shown
    assert "cluster  themes" in shown
    assert shown.endswith(f"output: {tmp_path / 'out.h5ad'}\n")


def test_out_of_core_names_and_explains_too(cells, store, tmp_path):
    told = [
        call_json(
            "cellmodel", "run", cells, *store, *BLOOD, "--n-clusters", "4", "--recipe", "pca-kmeans", "-o",
            tmp_path / f"{mode}.h5ad", "--out-of-core", mode,
        )
        for mode in ("yes", "no")
    ]  # fmt: skip
    names = [[row["name"] for row in content["annotate"]["clusters"]] for content in told]
    assert names[0] == names[1]
    uns = anndata.read_h5ad(tmp_path / "yes.h5ad").uns
    assert {"cellmodel", "cellmodel_name", "cellmodel_attribution"} <= set(uns)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["no.h5ad", "yes.h5ad"]


def test_python_writes_the_same_slots(cells, chain, demo_kb, tmp_path):
    adata = read_anndata(cells)
    blood = of_tissues(read_cell_types(), ["blood"], in_every=())
    cm.tl.run(adata, demo_kb, recipe="pca-kmeans", n_clusters=6, candidates=blood, report=tmp_path / "report.html")
    there = anndata.read_h5ad(chain[0] / "out.h5ad")
    for name in ("cellmodel", "cellmodel_name", "cellmodel_name_cell"):
        assert (adata.obs[name].astype(str) == there.obs[name].astype(str)).all()
    themes = [each.uns["cellmodel_attribution"]["themes"]["theme"].tolist() for each in (adata, there)]
    assert themes[0] == themes[1]
    assert "natural killer cell" in (tmp_path / "report.html").read_text()
    with pytest.raises(SlotTaken):
        cm.tl.run(adata, demo_kb)
    with pytest.raises(UnknownName, match="did you mean 'annotate'"):
        cm.tl.run(adata, demo_kb, skip=["anotate"])
    with pytest.raises(InputUnusable, match="annotate and attribute need a store"):
        cm.tl.run(adata, knowledge="none")


@pytest.mark.slow
def test_the_demo_names_cells_as_a_run_does(demo_kb, tmp_path):
    found = run_demo(demo_kb, demo_outputs(tmp_path / "demo"))
    names = [row["name"] for row in found["annotate"].rows()]
    assert {"plasma cell", "multipotent progenitor cell", "naive B cell"} <= set(names)
    cm.tl.run(adata := read_anndata(find_demo_cells()), demo_kb)
    assert adata.uns["cellmodel_name"]["names"]["name"].tolist() == names


def test_steps_can_be_left_out(cells, store, tmp_path):
    plain = ("--recipe", "pca-kmeans", "--n-clusters", "3")
    told = call_json("cellmodel", "run", cells, *store, *plain, "--skip", "attribute", "-o", tmp_path / "a.h5ad")
    assert list(told) == ["cluster", "annotate"]
    told = call_json(
        "cellmodel", "run", cells, *plain, "--knowledge", "none", "--skip", "annotate,attribute", "-o",
        tmp_path / "b.h5ad",
    )  # fmt: skip
    assert list(told) == ["cluster"]
    (tmp_path / "markers.tsv").write_text("cell_type\tgene\nT\tCD3D\nT\tCD3E\nB\tCD79A\nB\tMS4A1\n")
    told = call_json(
        "cellmodel", "run", cells, *plain, "--knowledge", "none", "--skip", "attribute", "--markers",
        tmp_path / "markers.tsv", "-o", tmp_path / "c.h5ad",
    )  # fmt: skip
    assert "n_candidates" not in told["annotate"]
    assert anndata.read_h5ad(tmp_path / "c.h5ad").uns["cellmodel_name"]["cluster_key"] == "cellmodel"


def test_one_cluster_is_neither_named_nor_explained(cells, store, tmp_path):
    words = [
        "cellmodel",
        "run",
        cells,
        *store,
        "--n-clusters",
        "1",
        "--recipe",
        "pca-kmeans",
        "-o",
        tmp_path / "o.h5ad",
    ]
    code, out, err = call(*words, "--json")
    assert (code, list(json.loads(out))) == (0, ["cluster"])
    assert "neither named nor explained" in err


@pytest.mark.parametrize(
    ("more", "code", "why"),
    [
        (["--n-cluster", "3"], 2, "--n-clusters"),
        (["--skip", "anotate"], 2, "step 'anotate' is not one of annotate, attribute; did you mean 'annotate'?"),
        (["--skip", "annotate", "--tissue", "blood"], 2, "--skip annotate gives no names"),
        (["--n-clusters", "3", "--resolution", "1"], 2, "--n-clusters and --resolution each say"),
        (["--tissue", "blod"], 3, "no cell type of tissue 'blod'"),
        (["-o", "{cells}"], 3, "is an input"),
        (["-o", "{cells}", "--overwrite"], 3, "is an input"),
        (["-o", "{there}"], 3, "--overwrite"),
    ],
)
def test_a_wrong_call_is_one_line_before_any_work(more, code, why, cells, store, tmp_path, capsys, monkeypatch):
    there = tmp_path / "there.h5ad"
    there.write_bytes(b"mine")
    given = ["-o", tmp_path / "out.h5ad", *(word.format(cells=cells, there=there) for word in more)]
    found = call_here(["cellmodel", "run", cells, *store, *given], capsys, monkeypatch)
    assert found.code == code, found.err
    assert why in found.err
    assert there.read_bytes() == b"mine"
    assert [path.name for path in Path(tmp_path).iterdir()] == ["there.h5ad"]


def test_a_store_is_needed_unless_steps_are_left_out(cells, tmp_path, capsys, monkeypatch):
    words = ["cellmodel", "run", cells, "-o", tmp_path / "out.h5ad"]
    found = call_here(words, capsys, monkeypatch)
    assert (found.code, "needs a store: --kb NAME" in found.err) == (2, True)
    found = call_here([*words, "--knowledge", "none"], capsys, monkeypatch)
    assert found.code == 3
    assert "annotate and attribute need a store; give --kb, or leave them out: --skip annotate,attribute" in found.err


def test_cells_of_another_species_and_taken_slots_are_refused(cells, chain, demo_home, tmp_path, capsys, monkeypatch):
    adata = read_anndata(cells)
    adata.var_names = [f"zz{number}" for number in range(adata.n_vars)]
    adata.write_h5ad(tmp_path / "other.h5ad")
    words = ["--kb", "demo", "--home", demo_home, "-o", tmp_path / "out.h5ad"]
    found = call_here(["cellmodel", "run", tmp_path / "other.h5ad", *words], capsys, monkeypatch)
    assert found.code == 3, found.err
    again = call_here(["cellmodel", "run", chain[0] / "out.h5ad", *words], capsys, monkeypatch)
    assert again.code == 3
    assert 'already hold obs["cellmodel"]' in again.err.replace('obsm["X_cellmodel"]', 'obs["cellmodel"]')
    assert [path.name for path in tmp_path.iterdir()] == ["other.h5ad"]
    assert genekb.open("demo", home=demo_home)


def test_the_graph_of_the_run_is_used_and_is_what_would_be_made_again(steps, store, tmp_path):
    """Names of cells, and scores of a search, with the graph that the file holds and without it."""
    path = steps[0] / "1.h5ad"
    other = anndata.read_h5ad(path)
    del other.obsp["cellmodel_connectivities"]
    other.write_h5ad(tmp_path / "other.h5ad", compression="gzip")
    kept, made = read_cells(path), read_cells(tmp_path / "other.h5ad")
    found = stored_graph(kept, "cellmodel", RunConfig())
    again = make_features(made, RunConfig()).graph
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(found, part), getattr(again, part))
    assert stored_graph(made, "cellmodel", RunConfig()) is None
    assert stored_graph(kept, "none", RunConfig()) is None
    assert stored_graph(kept, "cellmodel", RunConfig(seed=1)) is None
    assert stored_graph(kept, "cellmodel", RunConfig(use_rep="X_mine")) is None
    assert stored_graph(replace(kept, notes=()), "cellmodel", RunConfig()) is None
    kept.adata.uns["cellmodel"]["versions"]["numpy"] = "1.0"
    assert stored_graph(kept, "cellmodel", RunConfig()) is None
