"""Every kind of wrong cell file in tests/data/bad/cells.toml: one line says what to do, and nothing else happens."""

import hashlib
import json
import os
import re
import tomllib
from pathlib import Path

import anndata
import numpy as np
import pytest

import tests.robust.bad_files.cell_files
import tests.robust.bad_files.ten_x  # noqa: F401 - each registers its makers
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import ReadConfig, cells_from_anndata, read_cells
from tests.robust.bad_files.cells import MAKERS, cells, counts, save
from tests.support.in_process import call_here
from tests.support.processes import call

CATALOG = tomllib.loads((Path(__file__).parents[1] / "data" / "bad" / "cells.toml").read_text())
KINDS = CATALOG["kind"]
QUICK_OUT_OF_CORE = 4  # of the kinds that are tried out of core too, the first ones are tried in the quick tests
NEED_A_USER = {"unreadable", "output-into-a-locked-folder"}


def listed():
    """Every kind as it stands, and those that are marked so out of core too."""
    for kind in KINDS:
        marks = [pytest.mark.slow] if kind.get("slow") else []
        yield pytest.param(kind, [], kind["message"], id=kind["id"], marks=marks)
    streamed = [kind for kind in KINDS if kind.get("out_of_core")]
    for number, kind in enumerate(streamed):
        message = kind["message"] if kind["out_of_core"] is True else kind["out_of_core"]
        marks = [pytest.mark.slow] if number >= QUICK_OUT_OF_CORE else []
        yield pytest.param(kind, ["--out-of-core", "yes"], message, id=f"{kind['id']}-out-of-core", marks=marks)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """What stands for {store}, {model} and {reference} in the catalog."""
    import cellmodel as cm
    from genekb import BuildConfig, build, read_demo_table

    folder = tmp_path_factory.mktemp("bad-cells")
    store = build(read_demo_table(), BuildConfig(name="demo", models=("hash-16",)), home=folder).folder
    path = save(cells(), folder)
    files = cm.tl.CellFiles([path], output=folder / "out.h5ad")
    cm.tl.cluster(files, recipe="pca-kmeans", knowledge="none", n_clusters=2, save_model=folder / "model")
    return {"store": str(store), "model": str(folder / "model"), "reference": str(path)}


def prepare(kind, folder):
    """Make the input and a folder for the output, and give what stands for them in the catalog."""
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    path = MAKERS[kind.get("input", kind["id"].replace("-", "_"))](folder / "in")
    suffix = ".zarr" if path.suffix == ".zarr" else ".h5ad"
    return {
        "cells": str(path),
        "input": str(folder / "in"),
        "out": str(folder / "out" / f"out{suffix}"),
        "folder": str(folder / "out"),
    }


def words(kind, places):
    line = f"{kind.get('run', CATALOG['run'])} {kind.get('add', '')}".split()
    return [word.format(**places) for word in line]


def snapshot(folder):
    """Every file below a folder with the digest of its bytes, links and pipes by what they are."""
    found = {}
    for path in sorted(folder.rglob("*")):
        is_plain = path.is_file() and not path.is_symlink()
        found[os.fsencode(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if is_plain else path.lstat().st_mode
    return found


@pytest.mark.parametrize(("kind", "more", "message"), list(listed()))
def test_a_wrong_input_gives_one_line_and_stays_as_it_is(kind, more, message, places, tmp_path, capsys, monkeypatch):
    if os.geteuid() == 0 and kind["id"] in NEED_A_USER:
        pytest.skip("root may read and write everything")
    own = prepare(kind, tmp_path)
    before = snapshot(tmp_path)
    found = call_here([*words(kind, places | own), *more], capsys, monkeypatch)
    assert found.code == kind["exit"], found.err
    assert found.warnings == ()
    told = found.err + found.out if kind["exit"] == 0 else found.err
    assert re.search(message, told), told
    after = snapshot(tmp_path)
    if kind["exit"] == 0:
        assert {place: after[place] for place in before} == before
        assert {Path(os.fsdecode(place)).name.split(".")[0] for place in after.keys() - before.keys()} <= {"out"}
        return
    assert after == before
    lines = [line for line in found.err.splitlines() if line.startswith(("cellmodel: error: ", "genekb: error: "))]
    assert len(lines) == (kind["exit"] != 2)
    assert found.err.splitlines()[-1:] == lines or kind["exit"] == 2
    assert "Traceback" not in found.err
    assert found.out == "" or words(kind, places | own)[1] == "resolve"  # which shows the table of the losses first


def test_the_catalog_is_complete_and_each_maker_is_used():
    used = {kind.get("input", kind["id"].replace("-", "_")) for kind in KINDS}
    assert used == set(MAKERS)
    assert len({kind["id"] for kind in KINDS}) == len(KINDS) >= 100
    assert sum(bool(kind.get("out_of_core")) for kind in KINDS) >= 10
    assert all(kind["exit"] in {0, 2, 3, 4, 5} and kind["wrong"] and kind["message"] for kind in KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nan", "cut-off-h5ad", "mtx-huge", "csv-with-semicolons"])
def test_in_a_process_of_its_own_the_line_is_the_same(name, places, tmp_path):
    kind = next(kind for kind in KINDS if kind["id"] == name)
    own = prepare(kind, tmp_path)
    command, *arguments = words(kind, places | own)
    code, out, err = call(command, *arguments)
    assert (code, out) == (kind["exit"], "")
    assert re.search(kind["message"], err.splitlines()[-1])


@pytest.mark.slow
def test_the_order_of_the_entries_of_a_row_changes_no_result(places, tmp_path, capsys, monkeypatch):
    embedded = []
    for name in ("good", "unsorted"):
        (tmp_path / name).mkdir()
        own = prepare({"id": name}, tmp_path / name)
        assert call_here(words({"id": name}, places | own), capsys, monkeypatch).code == 0
        embedded.append(anndata.read_h5ad(own["out"]).obsm["X_cellmodel"])
    np.testing.assert_array_equal(*embedded)


def test_what_declares_more_than_the_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("cellmodel.io.guard.available_memory", lambda: 4096)
    with pytest.raises(InputUnusable, match=r"holds [0-9.]+ kB; 4\.1 kB of memory may be used: give out_of_core=.yes"):
        read_cells(MAKERS["good"](tmp_path))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ma.masked_equal(counts(), 3), "masked values; fill them"),
        (counts().astype(complex), "complex numbers"),
        (counts().astype(str).astype(object), "objects, not real numbers"),
    ],
)
def test_what_only_python_can_hold_is_refused_by_name(values, message):
    adata = cells()
    adata.layers["odd"] = values
    with pytest.raises(InputUnusable, match=message):
        cells_from_anndata(adata, ReadConfig(layer="odd"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("duplicate_var_names", 0, "gene names occur more than once; each column is kept"),
        ("no_gene_names", 3, "are no gene symbols or identifiers"),
        ("not_counts_rpkm", 3, "looks like RPKM.*--values linear"),
    ],
)
def test_real_bad_files_are_used_or_refused_in_one_line(real_data, places, tmp_path, name, code, message):
    path = real_data / "bad" / f"{name}.h5ad"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    found = call(
        "cellmodel",
        "cluster",
        "--no-clusters",
        path,
        "--kb",
        places["store"],
        "--min-coverage",
        "0.001",
        "-o",
        tmp_path / "o.h5ad",
        "--json",
    )
    assert found[0] == code, found[2]
    assert re.search(message, found[2])
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert json.loads(found[1])["n_cells"] > 0 if code == 0 else found[1] == ""
