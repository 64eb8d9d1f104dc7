"""Markers between samples, in memory and by the command: planted genes are found, donors are not taken for effects."""

import csv

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import cellmodel as cm
from cellmodel.core.errors import InputUnusable, SlotTaken
from tests.support.in_process import call, call_json

N_GENES = 300
UP, DOWN = ([f"G{gene}" for gene in range(start, start + 10)] for start in (0, 10))
CHANGED = {*UP, *DOWN}


def study(*, n_donors=8, n_cells=40, paired=False, effect=3.0, seed=0):
    """Gamma-Poisson counts of two clusters; donors differ in every gene, a condition in the first twenty of cluster B.

    Of these, ten are higher in stim, and ten lower.
    Genes 100 to 119 are markers of cluster B.
    """
    rng = np.random.default_rng(seed)
    rows, obs = [], []
    base = rng.lognormal(0.5, 1.0, N_GENES)
    for donor in range(n_donors):
        of_donor = base * rng.lognormal(0, 0.3, N_GENES)
        for condition in ("ctrl", "stim") if paired else (("ctrl", "stim")[donor % 2],):
            for cluster in "AB":
                mean = of_donor.copy()
                if cluster == "B":
                    mean[100:120] *= 4
                    if condition == "stim":
                        mean[:20] *= np.repeat([effect, 1 / effect], 10)
                size = rng.gamma(5, 0.2, (n_cells, 1))
                rows.append(rng.poisson(size * mean))
                obs += [(f"d{donor}", condition, cluster)] * n_cells
    adata = ad.AnnData(sp.csr_matrix(np.vstack(rows).astype(np.float32)))
    adata.var_names = [f"G{gene}" for gene in range(N_GENES)]
    adata.obs_names = [f"c{cell}" for cell in range(adata.n_obs)]
    adata.obs = pd.DataFrame(obs, columns=["donor", "stim", "cellmodel"], index=adata.obs_names)
    return adata


@pytest.fixture(scope="module")
def adata():
    return study()


def markers(adata, **options):
    return cm.tl.markers(adata, sample_key="donor", copy=True, **{"method": "limma"} | options)


def significant(adata, key="cellmodel_conditions"):
    table = adata.uns[key]["markers"]
    return table[table["p_adjusted"] <= 0.05]


@pytest.mark.parametrize("paired", [False, True])
def test_a_condition_is_found_in_its_cluster_alone(paired):
    found = significant(markers(study(paired=paired), condition_key="stim"))
    of_b = found[found["cluster"] == "B"]
    assert set(found["comparison"]) == {"stim vs ctrl"}
    assert len(set(of_b["gene"]) & CHANGED) >= 16
    assert len(set(of_b["gene"]) - CHANGED) <= 3
    assert (found["cluster"] == "A").sum() <= 2
    up = of_b[of_b["gene"].isin(UP)]
    np.testing.assert_allclose(up["log2_fold_change"].mean(), np.log2(3), atol=0.35)
    assert of_b["gene"].iloc[0] in UP
    assert of_b["gene"].iloc[-1] in DOWN


def test_cells_as_replicates_would_call_what_donors_differ_by(adata):
    """Why samples are the replicates: between donors of one condition, cells call most genes."""
    own = adata[(adata.obs["stim"] == "ctrl") & (adata.obs["cellmodel"] == "A")].copy()
    own.obs["fake"] = np.where(own.obs["donor"].isin(["d0", "d2"]), "x", "y")
    own.obs["cellmodel"] = np.where(np.arange(own.n_obs) % 2, "0", "1")
    assert len(significant(markers(own, condition_key="fake"))) <= 0.02 * N_GENES
    from cellmodel.explain.markers import rank_markers
    from cellmodel.io.cells import cells_from_anndata
    from cellmodel.pp.normalize import log_expression

    sides = (own.obs["fake"] == "x").to_numpy().astype(np.int64)
    expression = log_expression(cells_from_anndata(own))
    (table, _) = rank_markers(expression, sides, gene_names=list(own.var_names), n_top=N_GENES)
    assert sum(marker.p_adjusted <= 0.05 for marker in table.markers) > 0.2 * N_GENES


def test_clusters_are_compared_inside_each_sample(adata):
    found = significant(markers(adata), "cellmodel_markers")
    of_b = found[(found["cluster"] == "B") & (found["log2_fold_change"] > 0)]
    assert {f"G{gene}" for gene in range(100, 120)} <= set(of_b["gene"].head(45))
    assert set(of_b["comparison"]) == {"B vs rest"}
    assert set(of_b["n_samples"]) == {8}


@pytest.mark.slow
def test_pydeseq2_finds_the_same_genes(adata):
    pytest.importorskip("pydeseq2")
    found = markers(adata, condition_key="stim", method="auto")
    assert set(found.uns["cellmodel_conditions"]["comparisons"]["method"]) == {"deseq2"}
    of_b = significant(found)
    of_b = of_b[of_b["cluster"] == "B"]
    assert len(set(of_b["gene"]) & CHANGED) >= 16
    assert len(set(of_b["gene"]) - CHANGED) <= 3


def test_two_samples_a_side_say_what_they_cannot_show():
    found = markers(study(n_donors=4), condition_key="stim", method="auto").uns["cellmodel_conditions"]
    assert set(found["comparisons"]["method"]) == {"limma-trend"}
    assert any(
        "all clusters: 2 and 2 samples: no permutation of them gives p below 0.33" in note for note in found["notes"]
    )


def test_one_sample_a_side_has_fold_changes_and_no_p_values():
    found = markers(study(n_donors=2), condition_key="stim").uns["cellmodel_conditions"]
    assert found["markers"]["p_value"].isna().all()
    assert len(set(UP) & set(found["markers"].query("cluster == 'B'")["gene"].head(30))) >= 5
    assert any("one sample on a side, so no p values" in note for note in found["notes"])


def test_samples_that_are_copies_have_no_p_values(adata):
    parts = []
    for copy in range(3):
        part = adata[adata.obs["donor"].isin(["d0", "d1"])].copy()
        part.obs["donor"] = part.obs["donor"].astype(str) + f" copy {copy}"
        parts.append(part)
    found = markers(ad.concat(parts, index_unique="-"), condition_key="stim").uns["cellmodel_conditions"]
    assert found["comparisons"]["reason"].str.contains("are some of them copies of others").all()
    assert found["markers"]["p_value"].isna().all()


def test_samples_with_few_cells_are_left_out_and_named(adata):
    few = adata[~((adata.obs["donor"] == "d1") & (adata.obs["cellmodel"] == "B")) | (np.arange(adata.n_obs) % 8 == 0)]
    found = markers(few.copy(), condition_key="stim").uns["cellmodel_conditions"]
    assert found["left_out"].to_dict("records") == [{"sample": "d1", "condition": "stim", "cluster": "B", "n_cells": 5}]
    assert found["comparisons"].set_index("cluster")["n_samples"].to_dict() == {"A": 4, "B": 3}


def test_log_normalized_values_are_compared_by_means(adata):
    log = adata.copy()
    log.X = log.X.multiply(1e4 / log.X.sum(axis=1)).tocsr().log1p()
    found = markers(log, condition_key="stim")
    of_b = significant(found)
    assert len(set(of_b[of_b["cluster"] == "B"]["gene"]) & CHANGED) >= 17
    assert any("no counts: means of log expression" in note for note in found.uns["cellmodel_conditions"]["notes"])
    with pytest.raises(InputUnusable, match="no counts, which deseq2 needs"):
        markers(log, condition_key="stim", method="deseq2")


def test_three_conditions_are_each_compared_with_the_reference():
    three = study(n_donors=9)
    of_donor = {f"d{donor}": "abc"[donor % 3] for donor in range(9)}
    three.obs["arm"] = three.obs["donor"].map(of_donor)
    found = markers(three, condition_key="arm", reference="b").uns["cellmodel_conditions"]["comparisons"]
    assert found["comparison"].tolist() == ["a vs b", "c vs b"] * 2


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (None, {"condition_key": "stm"}, "no column 'stm' in obs .*did you mean 'stim'"),
        (("stim", "ctrl"), {"condition_key": "stim"}, "holds the condition 'ctrl' alone"),
        (("donor", None), {}, "640 of 640 cells of AnnData in memory have no sample in 'donor'"),
        (("donor", "names"), {}, "measured values, or names of cells"),
        (None, {"min_cells": 50}, r"no cluster of AnnData in memory has 50 cells of one sample \(at most 40\)"),
        (
            None,
            {"condition_key": "cellmodel"},
            "nothing can be compared .* in every cluster of 'cellmodel', a side has no",
        ),
        (None, {"condition_key": "stim", "batch_key": "stim"}, "is confounded with 'stim'"),
    ],
)
def test_what_cannot_be_compared_is_refused(adata, change, options, message):
    changed = adata.copy()
    if change is not None:
        column, value = change
        changed.obs[column] = changed.obs_names if value == "names" else value
    with pytest.raises(InputUnusable, match=message):
        markers(changed, **options)


def test_a_cluster_of_one_sample_is_named(adata):
    own = adata.copy()
    own.obs["cellmodel"] = np.where(own.obs["donor"] == "d3", "C", own.obs["cellmodel"])
    found = markers(own, condition_key="stim").uns["cellmodel_conditions"]
    assert "cluster 'C' is of one sample: 100% of its cells are of 'd3'" in found["notes"]
    assert any(note.startswith("clusters C: a side has no sample") for note in found["notes"])


def test_a_taken_slot_is_refused(adata):
    with pytest.raises(SlotTaken, match="cellmodel_markers"):
        cm.tl.markers(markers(adata), sample_key="donor")


@pytest.fixture(scope="module")
def file(adata, tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "cells.h5ad"
    adata.write_h5ad(path)
    return path


def test_the_command_writes_a_table_of_all_genes_or_a_slot(file, tmp_path):
    words = ["markers", file, "--sample-key", "donor", "--condition-key", "stim", "--method", "limma", "-o"]
    content = call_json("cellmodel", *words, tmp_path / "m.tsv")
    with (tmp_path / "m.tsv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert len(rows) == sum(one["n_genes"] for one in content["comparisons"])
    assert len(set(content["comparisons"][1]["up"]) & set(UP)) >= 9
    code, out, err = call("cellmodel", *words, tmp_path / "m.h5ad")
    assert (code, err) == (0, "")
    assert "'ctrl' is the reference of 'stim'" in out
    stored = ad.read_h5ad(tmp_path / "m.h5ad").uns["cellmodel_conditions"]
    assert len(stored["markers"]) == len(rows)
    assert call("cellmodel", *words, tmp_path / "m.tsv")[0] == 3


def test_the_command_ends_with_one_line(file, tmp_path):
    code, _, err = call("cellmodel", "markers", file, "--sample-key", "dnor", "-o", tmp_path / "m.tsv")
    assert (code, err.count("\n")) == (3, 1)
    assert "did you mean 'donor'" in err
    words = ["--sample-key", "donor", "--reference", "ctrl", "-o", tmp_path / "m.tsv"]
    code, _, err = call("cellmodel", "markers", file, *words)
    assert code == 2
    assert "--reference goes with --condition-key" in err


def test_the_composition_is_compared_stored_and_drawn(adata, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    fewer = adata[
        ~((adata.obs["stim"] == "stim") & (adata.obs["cellmodel"] == "B") & (np.arange(adata.n_obs) % 2 == 0))
    ]
    fewer = fewer[np.random.default_rng(0).random(fewer.n_obs) < 0.98].copy()  # samples vary
    fewer.X = fewer.X.toarray() - 1.5  # values are not looked at
    found = cm.tl.composition(fewer, sample_key="donor", condition_key="stim", copy=True)
    table = found.uns["cellmodel_composition"]["clusters"].set_index("cluster")
    assert table.loc["B", "ratio"] == pytest.approx(2 / 3, abs=0.02)
    assert (table["p_adjusted"] < 0.01).all()
    shares = found.uns["cellmodel_composition"]["shares"]
    assert len(shares) == 16
    axes = cm.pl.composition(found, save=tmp_path / "c.svg")
    assert len(axes.patches) == 16
    assert "share of cells" in (tmp_path / "c.svg").read_text()
    with pytest.raises(InputUnusable, match=r"run `cellmodel composition` first"):
        cm.pl.composition(adata)


def test_the_command_writes_composition_and_shares(file, tmp_path):
    words = ["composition", file, "--sample-key", "donor", "-o"]
    content = call_json(
        "cellmodel", *words, tmp_path / "c.tsv", "--condition-key", "stim", "--shares", tmp_path / "s.tsv"
    )
    assert {row["cluster"] for row in content["clusters"]} == {"A", "B"}
    assert len((tmp_path / "s.tsv").read_text().splitlines()) == 17
    code, out, _ = call("cellmodel", *words, tmp_path / "c.h5ad")
    assert code == 0
    assert "d7" in out  # shares alone
    assert call("cellmodel", "plot", tmp_path / "c.h5ad", "--kind", "composition", "-o", tmp_path / "c.png")[0] == 0
    assert call("cellmodel", *words, tmp_path / "c2.tsv", "--shares", tmp_path / "s.tsv")[0] == 3


def test_a_table_of_markers_is_one_of_marker_lists(adata, file, tmp_path):
    from cellmodel.explain.marker_tables import read_marker_lists

    call_json("cellmodel", "markers", file, "--sample-key", "donor", "-o", tmp_path / "m.tsv")
    lists = read_marker_lists(tmp_path / "m.tsv")
    found = significant(markers(adata), "cellmodel_markers")
    for cluster in "AB":
        own = found[(found["cluster"] == cluster) & (found["log2_fold_change"] > 0)]
        assert list(lists.genes[cluster]) == own["gene"].tolist()
    assert lists.n_lower > 0


def test_out_of_core_gives_the_same_table(file, tmp_path):
    words = ["--sample-key", "donor", "--condition-key", "stim", "--method", "limma"]
    for mode in ("no", "yes"):
        call_json("cellmodel", "markers", file, *words, "--out-of-core", mode, "-o", tmp_path / f"{mode}.tsv")
    assert (tmp_path / "yes.tsv").read_text() == (tmp_path / "no.tsv").read_text()
    call_json("cellmodel", "markers", file, *words, "--out-of-core", "yes", "-o", tmp_path / "yes.h5ad")
    stored = ad.read_h5ad(tmp_path / "yes.h5ad")
    assert stored.uns["cellmodel_conditions"]["comparisons"]["cluster"].tolist() == ["A", "B"]
    assert stored.shape == (640, N_GENES)
