"""Usage: wrong values are refused before the cells are read, a store has two places, the page on samples runs."""

import re
import shlex
from pathlib import Path

import anndata
import numpy as np
import pytest

from genekb_cellmodel_cli.genekb import app
from tests.support.commands import commands_of
from tests.support.demo import demo_cells
from tests.support.in_process import call, call_json

CLUSTER = "cluster absent.h5ad --knowledge none -o out.h5ad"
TABLE = "give --output FILE for a table (.tsv, .csv) or the annotated cells (.h5ad, .zarr), or --in-place"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        *((f"{CLUSTER} --within {within}", "--within names a column") for within in ("cellmodel=", "=0", "cellmodel")),
        *((f"{CLUSTER} --batch-key b --harmony-theta {theta}", "'--harmony-theta'") for theta in ("inf", "1e308")),
        ("markers absent.h5ad --reference x -o m.tsv", "--reference goes with --condition-key"),
        ("markers absent.h5ad --batch-key b -o m.tsv", "--batch-key goes with --condition-key"),
        ("markers absent.h5ad", TABLE),
        ("composition absent.h5ad", TABLE),
    ],
)  # fmt: skip
def test_usage_is_refused_before_the_cells_are_read(words, message):
    code, out, err = call("cellmodel", *words.split())
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """700 blood cells of four donors, two of them stimulated."""
    path = tmp_path_factory.mktemp("study") / "cells.h5ad"
    adata = demo_cells()
    donor = np.arange(adata.n_obs) % 4
    adata.obs["donor"] = [f"d{number}" for number in donor]
    adata.obs["stim"] = np.where(donor % 2, "stim", "ctrl")
    adata.write_h5ad(path)
    return path


@pytest.mark.slow
def test_the_chain_of_the_page_on_samples_runs_as_it_stands(study, demo_home, monkeypatch):
    page = Path(__file__).parents[2] / "docs" / "guide" / "samples.md"
    block = re.search(r"```\n(cellmodel run cells.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[1]
    monkeypatch.chdir(study.parent)
    for line in block.replace("--kb human", f"--kb demo --home {demo_home}").splitlines():
        quick = "--recipe pca-kmeans --n-clusters 3" if line.startswith("cellmodel run") else ""
        code, _, err = call(*shlex.split(f"{line} {quick}"))
        assert code == 0, (line, err)
    uns = anndata.read_h5ad("attributed.h5ad").uns
    assert set(uns["cellmodel_attribution"]["groups"]["against"].astype(str)) == {"rest"}  # of `run`, still there
    assert set(uns["cellmodel_attribution_conditions"]["groups"]["against"].astype(str)) == {"ctrl", "stim"}
    assert call("cellmodel", "report", "attributed.h5ad", "-o", "report.html")[0] == 0
    again = ("cellmodel", "attribute", "attributed.h5ad", "--kb", "demo", "--home", demo_home)
    assert call(*again, "-o", "again.h5ad")[0] == 0  # into a copy
    code, _, err = call(*again, "--in-place")
    assert code == 3
    assert 'uns["cellmodel_attribution"]; use --overwrite' in err


@pytest.mark.parametrize("command", ["markers", "composition"])
def test_json_alone_needs_no_output(command, study):
    before = set(study.parent.iterdir())
    keys = ("--cluster-key", "bulk_labels", "--sample-key", "donor", "--condition-key", "stim")
    assert call_json("cellmodel", command, study, *keys)["output"] == ""
    assert set(study.parent.iterdir()) == before


def test_every_command_of_genekb_takes_its_store_in_two_places(demo_home, tmp_path):
    home = ("--home", demo_home)
    (tmp_path / "genes.txt").write_text("CD3D\n")
    for words, command in commands_of(app).items():
        names = [param.name for param in command.params]
        assert ("kb" in names) == ("store" in names and words != "lock"), words
    for words in (
        ["info", "--card"],
        ["sql", "select count(*) from genes"],
        ["search", "T cell"],
        ["resolve", tmp_path / "genes.txt"],
    ):
        first, *rest = words
        by_place = call("genekb", first, "demo", *rest, *home)
        assert (
            by_place
            == call("genekb", first, "--kb", "demo", *rest, *home)
            == call("genekb", first, "demo", "--kb", "demo", *rest, *home)
        )
        assert (by_place[0], bool(by_place[1])) == (0, True)
        for given in ((), ("demo", "--kb", "other")):
            code, _, err = call("genekb", first, *given, *rest, *home)
            assert code == 2
            assert "name one store, as STORE in front of all else or as --kb NAME" in " ".join(err.split())
    target = ("genekb", "push", "--kb", "demo", tmp_path / "shared", "--dry-run", *home)
    assert call(*target)[0] == 0


def test_a_command_that_went_names_its_successor():
    code, _, err = call("cellmodel", "graph", "export", "cells.h5ad", "-o", "graph")
    assert (code, "`cellmodel graph` went; use `cellmodel export FILE --to graph`" in err) == (2, True)
