"""`cellmodel perturb` as their users run them."""

import pytest

from cellmodel.io.formats.anndata import read_anndata
from tests.support import screens
from tests.support.in_process import call, call_json
from tests.support.screens import HELD_OUT, simulate


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    folder = tmp_path_factory.mktemp("screen")
    screens.build_store(folder)
    train, query = screens.pairs()
    screens.write_table(folder / "train.tsv", train)
    screens.write_table(folder / "query.tsv", query)
    return folder


def arguments(where, *more, train="train.tsv"):
    store = ("--kb", "screen", "--home", where / "home")
    return "perturb", "--train", where / train, "--query", where / "query.tsv", *store, *more


def test_predictions_and_a_control_are_written_and_scored_beside_each_other(where, tmp_path):
    scores = {}
    for knowledge in ("real", "shuffled"):
        out = tmp_path / f"{knowledge}.tsv"
        more = ("--knowledge", knowledge, "-o", out, "--truth", where / "query.tsv")
        made = call_json("cellmodel", *arguments(where, *more))
        scores[knowledge] = made["scores"]
        assert (made["n_predicted"], made["n_trained_perturbations"], made["unknown"]) == (1536, 72, [])
        assert made["encoder_id"].startswith("wcp-32")
    real, shuffled = scores.values()
    assert real["auc"] > 0.75
    assert shuffled["auc"] < 0.6
    assert real["low"] < real["auc"] < real["high"]
    assert (real["n_genes"], real["n_missing"]) == (64, 0)


def test_lines_name_what_was_done_and_what_the_store_has_not(where, tmp_path):
    (where / "typo.tsv").write_text("perturbation\tgene\nTYPO1\tNONE2\n")
    done = call("cellmodel", *arguments(where, "--query", where / "typo.tsv", "-o", tmp_path / "o.tsv"))
    assert done[0] == 0, done[2]
    assert "1 pairs predicted from 72 trained perturbations" in done[1]
    assert "NONE2, TYPO1" in done[1]


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--knowledge", "symbols"), 2, "symbol"),
        (("--encoder", "wcp-23"), 4, "did you mean 'wcp-32"),
        (("--train", "absent.tsv"), 3, "absent.tsv"),
        (("--truth", "absent.tsv"), 3, "absent.tsv"),
    ],
)
def test_a_typo_is_one_line_with_what_was_probably_meant(more, code, message, where, tmp_path):
    ended, out, err = call("cellmodel", *arguments(where, *more, "-o", tmp_path / "o.tsv"))
    assert (ended, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "o.tsv").exists()


def test_an_output_that_exists_is_kept(where, tmp_path):
    (tmp_path / "o.tsv").write_text("mine")
    code, _, err = call("cellmodel", *arguments(where, "-o", tmp_path / "o.tsv"))
    assert (code, "exists" in err, (tmp_path / "o.tsv").read_text()) == (3, True, "mine")


@pytest.fixture(scope="module")
def cells(where):
    adata, _ = simulate(n_cells=6)
    adata.write_h5ad(where / "cells.h5ad")
    return where / "cells.h5ad"


def test_effects_from_cells_are_written_with_their_interval(cells, where, tmp_path):
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("\n".join([*HELD_OUT, "TYPO1"]))
    store = ("--kb", "screen", "--home", where / "home", "--replicate-key", "batch")
    made = call_json("cellmodel", "perturb", cells, "--predict", wanted, *store, "-o", tmp_path / "o.h5ad")
    assert (made["unknown"], made["n_trained"], made["replicates"]) == (["TYPO1"], 88, "batch")
    found = read_anndata(tmp_path / "o.h5ad")
    assert found.obs_names.tolist() == [*HELD_OUT, "TYPO1"]
    assert (found.layers["lower"] <= found.layers["mean"]).all()
    assert found.uns["cellmodel_perturb"]["encoder_id"].startswith("wcp-32")
    one = ",".join(HELD_OUT[:2])
    code, out, err = call("cellmodel", "perturb", cells, "--predict", one, *store, "-o", tmp_path / "two.h5ad")
    assert (code, "variance explained out of fold" in out) == (0, True), err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--train", "train.tsv"), "--predict GENES"),
        ((), "--predict GENES"),
        (("--predict", ","), "names no gene"),
        (("--predict", "A", "--control", "non-targetting"), "did you mean 'non-targeting'"),
    ],
)
def test_cells_and_tables_are_not_mixed_and_typos_are_one_line(more, message, cells, where, tmp_path):
    store = ("--kb", "screen", "--home", where / "home")
    code, _, err = call("cellmodel", "perturb", cells, *more, *store, "-o", tmp_path / "o.h5ad")
    assert code in {2, 3}
    assert message in " ".join(err.replace("│", " ").split())
