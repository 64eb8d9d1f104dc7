"""`cellmodel attribute`, from file to file: what it tells of real cells, what it writes, and what it refuses."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cellmodel as cm
import genekb
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.explain.evidence import AttributeConfig
from cellmodel.io.cells import ReadConfig
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.io.writers import WriteConfig
from cellmodel.tl._attribute import AttributeJob
from cellmodel.tl._run.task import run_on_file
from tests.support.demo import demo_cells
from tests.support.in_process import call, call_json

GMT = "KILLING\tby hand\tGNLY\tPRF1\tGZMB\tNKG7\nNOTHING\tby hand\tACTB\tTUBB\tGAPDH\n"
GMT += "=RUN()\x1b[2J\tby hand\tGNLY\tPRF1\tNKG7\n"


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Demo cells with their types, and a condition in which one gene of T cells differs."""
    adata = demo_cells()
    adata.obs["stim"] = np.where(np.arange(adata.n_obs) % 2, "stimulated", "control")
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def run(demo_home, cells, tmp_path_factory):
    """What the command told and wrote."""
    folder = tmp_path_factory.mktemp("out")
    (folder / "sets.gmt").write_text(GMT)
    args = ["attribute", cells, "--kb", "demo", "--home", demo_home, "--cluster-key", "bulk_labels"]
    args += ["--gmt", folder / "sets.gmt", "--permutations", 50]
    told = call_json("cellmodel", *args, "-o", folder / "o.h5ad", "--tables", folder / "tables")
    return folder, args, {group["cluster"]: group for group in told["groups"]}


def table_of(folder, name):
    return pd.read_csv(folder / "tables" / f"{name}.tsv", sep="\t", keep_default_na=False)


def test_tables_hold_no_formula_and_no_control_character(run):
    folder, _, told = run
    assert "=RUN()\x1b[2J" in {row["set"] for row in told["CD56+ NK"]["enrichment"]}
    assert r"'=RUN()\x1b[2J" in set(table_of(folder, "enrichment")["set"])
    assert all("\x1b" not in path.read_text() for path in (folder / "tables").iterdir())


def test_known_populations_are_told_by_their_genes_themes_and_sets(run):
    _, _, told = run
    killer = told["CD56+ NK"]
    assert {"NKG7", "GNLY"} <= {gene["name"] for gene in killer["markers"]}
    assert {"GNLY", "PRF1"} <= {gene["name"] for gene in killer["contributions"]}
    assert killer["enrichment"][0]["set"] == "KILLING"
    assert "PRF1" in killer["enrichment"][0]["genes"]
    every = [theme for group in told.values() for theme in group["themes"]]
    assert any(theme["p_adjusted"] <= 0.05 for theme in every)
    for theme in every:
        for gene in theme["genes"]:
            assert any(word[:4] in gene["sentence"].lower() for word in theme["term"].split(" "))


def test_markers_of_a_group_are_named_by_a_phrase_of_their_texts_or_not_at_all(run, demo_kb):
    folder, _, told = run
    texts = dict(zip(*(demo_kb.table("texts")[key].to_pylist() for key in ("gene_id", "text")), strict=True))
    table = table_of(folder, "names")
    assert set(table[["cluster", "name", "reason"]].itertuples(index=False, name=None)) == {
        (cluster, group["name"]["name"], group["name"]["reason"]) for cluster, group in told.items()
    }
    assert told["CD56+ NK"]["name"]["name"]
    for cluster, rows in table[table["name"] != ""].groupby("cluster"):
        named = told[cluster]["name"]
        assert named["p_value"] <= 0.05
        assert rows["gene"].tolist() == [gene["name"] for gene in named["theme"]]
        assert {marker["name"] for marker in told[cluster]["markers"]} & set(rows["gene"])
        assert all(row.sentence in texts[int(row.gene_id)] for row in rows.itertuples())


def test_tables_hold_every_contribution_so_that_they_add_up_to_the_distance(run):
    folder, _, told = run
    of_cluster = dict(list(table_of(folder, "contributions").groupby("cluster")))
    assert of_cluster.keys() == told.keys()
    for cluster, rows in of_cluster.items():
        assert len(rows) == told[cluster]["n_genes"]
        assert rows["contribution"].sum() == pytest.approx(told[cluster]["distance"], rel=1e-6)
        assert rows["share"].sum() == pytest.approx(1.0, rel=1e-6)
        assert (rows["difference"] > 0).is_monotonic_decreasing
        assert rows["p_value"].between(0, 1, inclusive="right").all()


def test_the_slot_holds_the_tables_and_what_made_them(run, demo_kb):
    folder, _, told = run
    slot = read_anndata(folder / "o.h5ad").uns["cellmodel_attribution"]
    assert (slot["store_id"], slot["params"]["cluster_key"]) == (demo_kb.store_id, "bulk_labels")
    assert slot["gene_sets"] == {"sets.gmt": 3}
    assert slot["groups"].set_index("cluster")["distance"].to_dict() == pytest.approx(
        {cluster: group["distance"] for cluster, group in told.items()}
    )
    for name in ("markers", "contributions", "themes", "names", "enrichment"):
        table = table_of(folder, name)
        assert len(slot[name]) == len(table) > 0
        assert list(slot[name].columns) == list(table.columns)


@pytest.mark.slow
def test_the_same_command_twice_gives_the_same_bytes(run):
    folder, args, _ = run
    code, _, err = call("cellmodel", *args, "-o", folder / "again.h5ad", "--tables", folder / "tables2")
    assert code == 0, err
    assert (folder / "again.h5ad").read_bytes() == (folder / "o.h5ad").read_bytes()
    for path in (folder / "tables").iterdir():
        assert path.read_bytes() == (folder / "tables2" / path.name).read_bytes()


def test_markers_do_not_depend_on_the_other_cells_where_two_clusters_are_compared(cells, demo_kb):
    adata = read_anndata(cells)
    options = {"cluster_key": "bulk_labels", "between": ("CD19+ B", "CD14+ Monocyte"), "permutations": 5, "copy": True}
    pair = adata[adata.obs["bulk_labels"].isin(options["between"])].copy()
    among_all, alone = (cm.tl.attribute(one, demo_kb, **options).uns["cellmodel_attribution"] for one in (adata, pair))
    keys = ["cluster", "against", "n_cells", "n_against"]
    pd.testing.assert_frame_equal(among_all["groups"][keys], alone["groups"][keys])
    top, top_alone = (slot["markers"].groupby("cluster").head(10)["gene"].tolist() for slot in (among_all, alone))
    assert top == top_alone
    assert np.ptp(among_all["groups"]["distance"]) < 1e-6  # the same step, both ways
    of_b = among_all["markers"].query("cluster == 'CD19+ B'")["gene"]
    assert {"CD79A", "CD79B"} <= set(of_b[:20])


def test_a_planted_difference_between_conditions_is_found_in_its_cluster(cells, demo_kb):
    adata = read_anndata(cells)
    stimulated = ((adata.obs["stim"] == "stimulated") & (adata.obs["bulk_labels"] == "CD19+ B")).to_numpy()
    values = adata.X.tolil()
    for gene in ("CD3D", "CD3E", "CD3G"):
        values[np.flatnonzero(stimulated), adata.var_names.get_loc(gene)] = 3.0
    adata.X = values.tocsr()
    cm.tl.attribute(adata, demo_kb, cluster_key="bulk_labels", condition_key="stim")
    slot = adata.uns["cellmodel_attribution_conditions"]
    rows = slot["contributions"].query("cluster == 'CD19+ B' and condition == 'stimulated' and against == 'control'")
    assert set(rows["gene"][:3]) == {"CD3D", "CD3E", "CD3G"}
    theme = slot["themes"].query("cluster == 'CD19+ B' and condition == 'stimulated'").iloc[0]
    assert theme["gene"] in {"CD3D", "CD3E", "CD3G"}
    assert theme["p_value"] <= 0.05


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"between": ("CD19+ B", "CD56 NK")}, r"there is no cluster 'CD56 NK' .* did you mean 'CD56\+ NK'"),
        ({"condition_key": "stin"}, "no column 'stin' in obs"),
        ({"gmt": (Path("absent.gmt"),)}, "absent.gmt cannot be read as a GMT file"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_output(cells, demo_kb, tmp_path, change, why):
    choice = AttributeConfig(**{"cluster_key": "bulk_labels"} | change)
    write = WriteConfig(output=tmp_path / "o.h5ad", key_added="attribution")
    with pytest.raises(InputUnusable, match=why):
        run_on_file(cells, AttributeJob(demo_kb, RunConfig(), choice=choice), read=ReadConfig(), write=write)
    assert not (tmp_path / "o.h5ad").exists()


def test_a_cluster_without_the_column_of_conditions_is_wrong_usage_in_one_line(demo_home, cells, tmp_path):
    args = ["attribute", cells, "--kb", "demo", "--home", demo_home, "--cluster-key", "bulk_labels"]
    code, _, err = call("cellmodel", *args, "-o", tmp_path / "o.h5ad", "--cluster", "CD19+ B")
    assert (code, "name their column too" in " ".join(err.replace("│", " ").split())) == (2, True), err
    assert "Traceback" not in err
    assert not (tmp_path / "o.h5ad").exists()


def test_what_exists_is_not_replaced_unasked(run, cells, demo_kb):
    folder, _, _ = run
    choice = AttributeConfig(cluster_key="bulk_labels")
    for output, tables, why in (
        ("o.h5ad", None, "overwrite=True"),
        ("new.h5ad", folder / "tables", "markers.tsv exists; give another name, or overwrite=True"),
        ("new.h5ad", folder / "o.h5ad", "is a file; name a folder"),
        ("new.h5ad", folder / "absent" / "tables", "absent is not a folder"),
    ):
        write = WriteConfig(output=folder / output, key_added="attribution")
        task = AttributeJob(demo_kb, RunConfig(), choice=choice, tables=tables)
        with pytest.raises(InputUnusable, match=why):
            run_on_file(cells, task, read=ReadConfig(), write=write)
    assert not (folder / "new.h5ad").exists()


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="n_permutations must be >= 1, got 0"):
        AttributeConfig(n_permutations=0)


@pytest.mark.slow
def test_interferon_is_the_theme_of_stimulated_cells(real_data, tmp_path):
    source = genekb.read_ncbi_folder(real_data / "ncbi" / "2022-11", taxa=["human"])
    config = genekb.BuildConfig(name="human", models=("wcp-256",), genes="protein-coding")
    genekb.build(source, config, home=tmp_path)
    args = ["attribute", real_data / "scrna" / "kang_ifnb_2800.h5ad", "--kb", "human", "--home", tmp_path]
    args += ["--cluster-key", "cell_type", "--condition-key", "sample", "-o", tmp_path / "o.h5ad"]
    told = call_json("cellmodel", *args)
    for group in told["groups"]:
        if group["condition"] == "STIM" and group["n_cells"] >= 100:
            top = group["themes"][0]
            assert "interferon" in (top["term"], *top["also"])
            assert top["p_adjusted"] <= 0.05
