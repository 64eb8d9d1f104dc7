"""Habits of the shell: results into the input, quiet after the command, what the machine has."""

import json

import anndata
import pytest

from tests.robust.bad_files.cells import cells as make_cells
from tests.support.in_process import call_here

PLAIN = ["--knowledge", "none", "--recipe", "pca-kmeans", "--n-clusters", "2"]


@pytest.fixture
def path(tmp_path):
    make_cells().write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def test_results_are_written_into_the_input_and_slots_are_not_replaced_unasked(path, capsys, monkeypatch):
    before = anndata.read_h5ad(path)
    found = call_here(["cellmodel", "cluster", path, *PLAIN, "-i", "--json"], capsys, monkeypatch)
    assert (found.code, json.loads(found.out)["output"]) == (0, str(path))
    written = anndata.read_h5ad(path)
    assert "cellmodel" in written.obs
    assert (written.X != before.X).nnz == 0
    again = call_here(["cellmodel", "cluster", path, *PLAIN, "-i"], capsys, monkeypatch)
    assert (again.code, again.out) == (3, "")
    assert "use --overwrite" in again.err
    assert call_here(["cellmodel", "cluster", path, *PLAIN, "-i", "--overwrite"], capsys, monkeypatch).code == 0
    assert [each.name for each in path.parent.iterdir()] == ["cells.h5ad"]


def test_tests_of_samples_are_written_into_the_input(path, capsys, monkeypatch):
    adata = make_cells()
    adata.obs["group"] = ["a", "b"] * (adata.n_obs // 2)
    adata.obs["donor"] = ["x", "x", "y", "y"] * (adata.n_obs // 4)
    adata.write_h5ad(path)
    of_shares = ["--sample-key", "donor", "--cluster-key", "group", "--min-cells", "3", "-i"]
    for command in ("composition", "markers"):
        found = call_here(["cellmodel", command, path, *of_shares], capsys, monkeypatch)
        assert found.code == 0, found.err
        assert found.out.splitlines()[-1] == f"output: {path}"
    assert {"cellmodel_composition", "cellmodel_markers"} <= set(anndata.read_h5ad(path).uns)


@pytest.mark.parametrize(
    "command", ["cluster", "cluster --no-clusters", "run", "classify --label-key a --reference cells.h5ad"]
)
def test_a_place_for_the_cells_is_needed_and_one_is_enough(path, command, capsys, monkeypatch):
    words = ["cellmodel", *command.split(), path, *PLAIN[:2]]
    none = call_here(words, capsys, monkeypatch)
    both = call_here([*words, "-i", "-o", "x.h5ad"], capsys, monkeypatch)
    assert (none.code, both.code) == (2, 2)
    assert "give --output FILE for the annotated cells, or --in-place" in " ".join(none.err.split())
    assert "--output and --in-place each say where" in " ".join(both.err.split())


def test_a_text_table_is_not_written_into(path, capsys, monkeypatch):
    found = call_here(
        ["cellmodel", "cluster", "--no-clusters", path.with_suffix(".csv"), *PLAIN[:4], "-i"], capsys, monkeypatch
    )
    assert found.code == 2
    assert "cells.csv, which is no .h5ad or .zarr" in " ".join(found.err.split())


def test_quiet_may_stand_after_the_command(path, tmp_path, capsys, monkeypatch):
    adata = make_cells()
    adata.layers["counts"] = adata.X
    adata.write_h5ad(path)
    loud, quiet = (
        call_here(["cellmodel", "cluster", path, *PLAIN, "-o", tmp_path / f"{name}.h5ad", *flag], capsys, monkeypatch)
        for name, flag in (("a", []), ("b", ["--quiet"]))
    )
    assert "layer 'counts' is used" in loud.err
    assert (quiet.code, quiet.err) == (0, "")


def test_doctor_says_what_there_is(tmp_path, capsys, monkeypatch):
    found = json.loads(call_here(["cellmodel", "doctor", "--json", "--home", tmp_path], capsys, monkeypatch).out)
    assert found["stores"] == []
    assert found["threads"] >= 1
    assert found["memory"] > 1 << 28
    assert found["extras"]["cells"]["is_here"]
    assert "numpy" in found["versions"]
    (tmp_path / "stores/broken@1/0123456789abcdef").mkdir(parents=True)
    (tmp_path / "stores/broken@1/current").write_text("0123456789abcdef\n")
    (tmp_path / "stores/broken@1/0123456789abcdef/manifest.json").write_text("{}")
    shown = call_here(["cellmodel", "doctor", "--home", tmp_path], capsys, monkeypatch).out
    assert "broken@1: " in shown
