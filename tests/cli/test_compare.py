"""`cellmodel compare` and `cellmodel plot` as their users run them, on real cells that ship with a dependency."""

import csv
import shutil
import sys
from dataclasses import replace

import anndata
import numpy as np
import pytest

import genekb
from cellmodel.annotate.match_clusters import compare_clustered
from cellmodel.annotate.shared_genes import bring_together
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import AlignmentTooLow
from cellmodel.explain.groups import clustered
from cellmodel.io.cells import ReadConfig, read_cells
from tests.support.demo import variable_demo_cells
from tests.support.in_process import call, call_here, call_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_store):
    """Two halves of the demo cells, the second with its types under another name; and a store."""
    folder = tmp_path_factory.mktemp("compare")
    shutil.copytree(demo_store("wcp-64").folder.parents[2], folder / "home", symlinks=True)
    every = variable_demo_cells()
    order = np.random.default_rng(0).permutation(every.n_obs)
    for name, rows in (("a", order[::2]), ("b", order[1::2])):
        every[np.sort(rows)].copy().write_h5ad(folder / f"{name}.h5ad")
    other = anndata.read_h5ad(folder / "b.h5ad")
    other.obs["own"] = [f"my {name}" for name in other.obs["bulk_labels"].astype(str)]
    other.write_h5ad(folder / "b.h5ad")
    return folder


def compared(folder, *args):
    return (
        "compare", folder / "a.h5ad", folder / "b.h5ad", "--kb", "demo", "--home", folder / "home",
        "--cluster-key", "bulk_labels", "--cluster-key-b", "own", *args,
    )  # fmt: skip


@pytest.fixture(scope="module")
def content(folder):
    return call_json("cellmodel", *compared(folder, "-o", folder / "compare.tsv", "--plot", folder / "sankey.svg"))


def test_halves_of_one_data_set_find_their_types(content):
    assert content["genes_by"] == "ids"
    assert 740 < content["n_shared_genes"] <= 752  # those of the store that both halves express
    large = [row for row in content["matches"] if row["n_cells"] >= 30]
    right = [row["match"].removeprefix("my ") == row["cluster"].removeprefix("my ") for row in large]
    assert len(large) >= 8
    assert np.mean(right) >= 0.75
    names = [{row[side] for row in content["pairs"]} for side in ("a", "b")]
    assert len(content["pairs"]) == len(names[0]) * len(names[1])


def test_table_and_plot_hold_every_cluster(folder, content):
    table = list(csv.DictReader((folder / "compare.tsv").read_text().splitlines(), delimiter="\t"))
    assert [row["match"] for row in table] == [row["match"] for row in content["matches"]]
    drawn = (folder / "sankey.svg").read_text()
    assert all(f">{row['cluster']}</text>" in drawn for row in content["matches"])


def test_a_second_run_gives_the_same_bytes(folder, content):
    code, out, _ = call("cellmodel", *compared(folder, "-o", folder / "again.tsv", "--plot", folder / "again.svg"))
    assert code == 0
    assert (folder / "again.tsv").read_bytes() == (folder / "compare.tsv").read_bytes()
    assert (folder / "again.svg").read_bytes() == (folder / "sankey.svg").read_bytes()
    assert f"{content['n_shared_genes']} genes of both files are matched by GeneID" in out
    assert "my CD19+ B" in out


def test_a_column_that_is_not_there_is_one_line(folder):
    code, _, err = call("cellmodel", *compared(folder, "--cluster-key-b", "absent"))
    assert (code, err.count("\n")) == (3, 1)
    assert "has no column 'absent' in obs" in err


def test_plot_draws_from_a_file_and_needs_the_other_column(folder):
    code, out, err = call(
        "cellmodel", "plot", folder / "b.h5ad", "--kind", "confusion", "--rows", "own", "--columns", "bulk_labels",
        "-o", folder / "confusion.svg",
    )  # fmt: skip
    assert code == 0, err
    assert out == f"plot: {folder / 'confusion.svg'}\n"
    assert ">my CD19+ B (" in (folder / "confusion.svg").read_text()
    code, _, err = call("cellmodel", "plot", folder / "b.h5ad", "--kind", "sankey", "-o", folder / "sankey.png")
    assert code == 2
    assert "needs --columns" in " ".join(err.split())
    code, _, err = call("cellmodel", "plot", folder / "b.h5ad", "--kind", "dotplot", "-o", folder / "dots.png")
    assert code == 3
    assert "run `cellmodel cluster` first" in err


@pytest.fixture(scope="module")
def halves(folder):
    """Both halves with stores of the same texts and of different encoders."""
    built = genekb.build(
        genekb.read_demo_table(), genekb.BuildConfig(name="other", models=("wcp-32",)), home=folder / "home"
    )
    stores = genekb.open("demo", home=folder / "home"), genekb.open(str(built.folder))
    files = ("a", "bulk_labels"), ("b", "own")
    cells = [
        clustered(read_cells(folder / f"{name}.h5ad", ReadConfig()), kb, RunConfig(), cluster_key=key)
        for (name, key), kb in zip(files, stores, strict=True)
    ]
    return cells, stores


def test_texts_of_the_second_store_are_read_by_the_encoder_of_the_first(halves):
    (a, b), stores = halves
    assert b.alignment.vectors.shape[1] == 32
    left, right = bring_together(a, b, stores=stores, genes_by="ids")
    assert left.gene_ids.tolist() == right.gene_ids.tolist()
    np.testing.assert_allclose(right.vectors, stores[0].vectors(right.gene_ids).vectors, atol=2e-3)


def test_genes_that_meet_by_text_share_no_marker(halves):
    (a, b), stores = halves
    found = compare_clustered(a, b, stores=stores, config=RunConfig(), genes_by="text")
    assert {pair.n_shared for pair in found.pairs} == {0}
    large = [match for match in found.matches if match.n_cells >= 30]
    right = [match.match.removeprefix("my ") == match.cluster.removeprefix("my ") for match in large]
    assert np.mean(right) >= 0.5  # a type in ten by chance


def test_too_few_shared_genes_are_refused_with_a_hint(halves):
    (a, b), stores = halves
    strangers = replace(b, alignment=replace(b.alignment, gene_ids=b.alignment.gene_ids + 10**9))
    with pytest.raises(
        AlignmentTooLow, match=r"0 genes of .* are shared by ids, 50 are needed; .* `kb_b`, or genes_by=.text"
    ):
        bring_together(a, strangers, stores=stores, genes_by="ids")


def test_without_matplotlib_plots_are_refused_before_any_work(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    plot = ("plot", folder / "a.h5ad", "--kind", "dotplot", "--key-added", "bulk_labels", "-o", tmp_path / "p.svg")
    for command in (compared(folder, "-o", tmp_path / "c.tsv", "--plot", tmp_path / "c.svg"), plot):
        outcome = call_here(("cellmodel", *command), capsys, monkeypatch)
        assert outcome.code == 4
        assert outcome.err.strip() == "cellmodel: error: plots need matplotlib; pip install 'genekb-cellmodel[plot]'"
    assert list(tmp_path.iterdir()) == []
