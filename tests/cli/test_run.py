"""`cellmodel run` gives what its steps give as commands of their own, reads once and writes once."""

import csv
import itertools
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
from tests.support.demo import demo_cells, variable_demo_cells
from tests.support.in_process import call, call_here, call_json

BLOOD = ("--only-tissue", "blood")
QUICK = ("--recipe", "pca-kmeans", "--n-clusters", "6")


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    adata = demo_cells()
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


def test_json_is_a_summary_of_what_the_commands_find(chain, steps):
    found, (cluster, annotate, attribute) = chain[1], steps[1].values()
    assert len(json.dumps(found, indent=1).encode()) <= 20_000
    assert found["neighbor_agreement"] == cluster["neighbor_agreement"]
    rows = [row | {"markers": row["markers"][:3]} for row in found["clusters"]]
    for row, one, named, group in zip(
        rows, cluster["clusters"], annotate["clusters"], attribute["groups"], strict=True
    ):
        assert row["n_cells"] == one["n_cells"]
        assert row["markers"] == one["markers"][:3]
        assert row["name"] == named["name"]
        assert row["themes"] == [theme["term"] for theme in group["themes"][: len(row["themes"])]]


def test_the_report_has_names_and_evidence_as_that_of_the_file_has(chain, steps):
    one, many = ((folder / "report.html").read_text() for folder in (chain[0], steps[0]))
    for word in ("natural killer cell", "themes", "T cell"):
        assert one.count(word) == many.count(word) > 0
    assert sorted(path.name for path in (chain[0] / "tables").iterdir()) == [
        "cells.tsv", "contributions.tsv", "enrichment.tsv", "markers.tsv", "names.tsv", "themes.tsv", "words.tsv",
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


@pytest.mark.slow
def test_out_of_core_names_and_explains_too(cells, store, tmp_path):
    told = [
        call_json(
            "cellmodel", "run", cells, *store, *BLOOD, "--n-clusters", "4", "--recipe", "pca-kmeans", "-o",
            tmp_path / f"{mode}.h5ad", "--out-of-core", mode,
        )
        for mode in ("yes", "no")
    ]  # fmt: skip
    names = [[row["name"] for row in content["clusters"]] for content in told]
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
def test_the_demo_names_cells_as_a_run_does(tmp_path):
    found = cm.demo(tmp_path / "demo", home=tmp_path / "home")
    names = found.uns["cellmodel_name"]["names"]["name"].tolist()
    assert {"plasma cell", "multipotent progenitor cell", "B cell"} <= set(names)
    cm.tl.run(adata := variable_demo_cells(), genekb.open("demo", home=tmp_path / "home"))
    assert adata.uns["cellmodel_name"]["names"]["name"].tolist() == names


@pytest.mark.slow
def test_steps_can_be_left_out(cells, store, tmp_path):
    plain = ("--recipe", "pca-kmeans", "--n-clusters", "3")
    told = call_json("cellmodel", "run", cells, *store, *plain, "--skip", "attribute", "-o", tmp_path / "a.h5ad")
    assert ["name" in row and "themes" not in row for row in told["clusters"]] == [True] * 3
    told = call_json(
        "cellmodel", "run", cells, *plain, "--knowledge", "none", "--skip", "annotate,attribute", "-o",
        tmp_path / "b.h5ad",
    )  # fmt: skip
    assert not any({"name", "themes"} & set(row) for row in told["clusters"])
    (tmp_path / "markers.tsv").write_text("cell_type\tgene\nT\tCD3D\nT\tCD3E\nB\tCD79A\nB\tMS4A1\n")
    told = call_json(
        "cellmodel", "run", cells, *plain, "--knowledge", "none", "--skip", "attribute", "--markers",
        tmp_path / "markers.tsv", "-o", tmp_path / "c.h5ad",
    )  # fmt: skip
    assert {row["name"] for row in told["clusters"]} <= {"T", "B", "unassigned"}
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
    assert (code, json.loads(out)["n_clusters"], "name" in json.loads(out)["clusters"][0]) == (0, 1, False)
    assert "neither named nor explained" in err


@pytest.mark.parametrize(
    ("more", "code", "why"),
    [
        (["--n-cluster", "3"], 2, "--n-clusters"),
        (
            ["--skip", "anotate"],
            2,
            "step 'anotate' is not one of annotate, attribute, conditions, composition; did you mean 'annotate'?",
        ),
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
    assert (found.code, "needs a store; give --kb" in found.err) == (2, True)
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


@pytest.fixture(scope="module")
def sheet(tmp_path_factory):
    """Blood cells of two donors and two conditions, in files of one name, and the sheet that names them."""
    folder = tmp_path_factory.mktemp("samples")
    blood = demo_cells()
    order = np.random.default_rng(0).permutation(blood.n_obs)
    lines = ["file,sample,donor,stim"]
    for number, (donor, stim) in enumerate(itertools.product("ab", ("ctrl", "stim"))):
        path = folder / f"{donor}_{stim}" / "filtered_feature_bc_matrix.h5ad"
        path.parent.mkdir()
        part = blood[np.sort(order[number::4])].copy()
        part.obs = part.obs[[]]
        part.write_h5ad(path)
        lines.append(f"{path.relative_to(folder)},{donor}-{stim},{donor},{stim}")
    (folder / "sheet.csv").write_text("\n".join(lines) + "\n")
    return folder / "sheet.csv"


def test_a_sheet_of_samples_is_run_and_every_command_goes_on_from_there(sheet, store, tmp_path):
    paths = {name: tmp_path / f"{name}.h5ad" for name in ("out", "next")}
    report, tables = tmp_path / "report.html", tmp_path / "tables"
    line = ["run", "--samples", sheet, "--condition-key", "stim", *store, "--recipe", "pca-kmeans", "--n-clusters", "4"]
    found = call_json("cellmodel", *line, "-o", paths["out"], "--report", report, "--tables", tables)
    cells = anndata.read_h5ad(paths["out"])
    assert cells.obs["sample"].cat.categories.tolist() == ["a-ctrl", "a-stim", "b-ctrl", "b-stim"]
    assert cells.obs[["donor", "stim"]].drop_duplicates().shape == (4, 2)
    assert cells.uns["cellmodel"]["input"]["files"]["file"].tolist() == ["a-ctrl", "a-stim", "b-ctrl", "b-stim"]
    assert [row["comparison"] for row in found["composition"]] == ["stim vs ctrl"] * 4
    assert {"conditions.tsv", "composition.tsv", "shares.tsv", "cells.tsv"} <= {path.name for path in tables.iterdir()}
    assert "stim vs ctrl" in report.read_text()
    samples = ["--sample-key", "sample", "--condition-key", "stim"]
    for words in (["annotate", *store], ["attribute", *store], ["markers", *samples], ["composition", *samples]):
        call_json("cellmodel", words[0], paths["out"], *words[1:], "-o", paths["next"], "--json")
        paths["next"].unlink()
    code, _, err = call("cellmodel", "annotate", paths["out"], *store, "--in-place")
    assert (code, "already hold" in err) == (3, True)


def test_a_sheet_is_checked_whole_before_any_work(sheet, store, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text(f"file,sample\n{sheet},x\nabsent.h5ad,x\n{sheet},\n")
    code, _, err = call("cellmodel", "run", "--samples", bad, *store, "-o", tmp_path / "out.h5ad")
    assert code == 3
    for fault in ("line 4: no sample", "no file", "absent.h5ad", "sample 'x' is there 2 times", "is there 2 times"):
        assert fault in err
    bad.write_text("path,sample\nx,y\n")
    code, _, err = call("cellmodel", "run", "--samples", bad, *store, "-o", tmp_path / "out.h5ad")
    assert (code, "has the columns path, sample, and no file" in err) == (3, True)
    line = ["run", "--samples", sheet, *store, "--condition-key", "stin", "-o", tmp_path / "out.h5ad"]
    code, _, err = call("cellmodel", *line)
    assert (code, "'stin'" in err, "stim" in err) == (3, True, True)
    code, _, err = call("cellmodel", "run", *store, "-o", tmp_path / "out.h5ad")
    assert (code, "--samples" in err) == (2, True)
