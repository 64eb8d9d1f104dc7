"""From the slots of a file to the data of a report: what other commands left there is found, and nothing is guessed."""

import base64
import io
import logging

import anndata
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import ReadConfig, cells_from_anndata
from cellmodel.io.records import h5ad_safe
from cellmodel.pl.report.collect.frames import report_data
from cellmodel.pl.report.collect.tables import read_searches
from cellmodel.pl.report.page.render import render_report
from cellmodel.pl.report.write import report_file
from cellmodel.pp import blocks
from tests.support.in_process import call_here

N_CELLS = 240
GENES = ("LYZ", "CST3", "CD3D", "IL7R", "TWICE", "TWICE", "REST")


def marker_rows(adata, cluster, names):
    expressing = (adata[adata.obs["cellmodel"] == cluster].X > 0).toarray().mean(axis=0)
    figures = {"log2_fold_change": 2.0, "p_adjusted": 0.001, "fraction_out": 0.1}
    return [
        {"cluster": cluster, "name": name, "fraction_in": expressing[GENES.index(name)], **figures} for name in names
    ]


def make_adata():
    """Cells as `cellmodel cluster` leaves them, with the least that a report needs."""
    rng = np.random.default_rng(0)
    rates = np.where(np.arange(N_CELLS)[:, None] % 2 == [0, 0, 1, 1, 2, 2, 2], 4.0, 1.0)
    counts = rng.poisson(rates).astype(np.float32)
    obs = pd.DataFrame(index=[f"cell{at}" for at in range(N_CELLS)])
    obs["cellmodel"] = pd.Categorical(np.array(["0", "1"])[np.arange(N_CELLS) % 2])
    obs["cellmodel_confidence"] = rng.random(N_CELLS)
    obs["donor"] = pd.Categorical(np.where(np.arange(N_CELLS) < 3, None, "d1"))
    obs["barcode"] = np.resize([f"b{at}" for at in range(200)], N_CELLS)
    adata = anndata.AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"g{at}" for at in range(7)]))
    adata.var["symbol"] = GENES
    adata.obsm["X_cellmodel_expr"] = rng.normal(size=(N_CELLS, 3))
    adata.obsm["X_umap"] = rng.normal(size=(N_CELLS, 2))
    adata.obsp["cellmodel_connectivities"] = sp.csr_matrix((N_CELLS, N_CELLS))
    markers = marker_rows(adata, "0", ["LYZ", "TWICE", "CST3"]) + marker_rows(adata, "1", ["CD3D", "LYZ", "IL7R"])
    adata.uns["cellmodel"] = {
        "input": {"source": "a.h5ad", "n_cells": N_CELLS, "n_genes": 7, "value_kind": "counts", "notes": []},
        "params": {"n_clusters": 2, "graph": {"n_neighbors": 15}},
        "command": "cellmodel cluster a.h5ad -o b.h5ad",
        "seed": 0,
        "recipe": "fused",
        "versions": {"numpy": "2"},
        "n_clusters": {"n_clusters": 2, "method": "given"},
        "markers": pd.DataFrame(markers),
        "words": pd.DataFrame(),
        "knowledge": pd.DataFrame(),
        "history": pd.DataFrame(),
    }
    return adata


def make_foreign(column=None):
    """The same cells as another program leaves them: a column of clusters, and its own record under that name."""
    adata = make_adata()
    del adata.uns["cellmodel"], adata.obsm["X_cellmodel_expr"], adata.obsp["cellmodel_connectivities"]
    adata.obs = adata.obs[["donor"]].assign(leiden=adata.obs["cellmodel"] if column is None else column)
    adata.uns["leiden"] = {"params": {"resolution": 0.5, "random_state": 0}}
    return adata


def read(adata, cluster_key="cellmodel"):
    return report_data(cells_from_anndata(adata, ReadConfig(gene_key="symbol")), cluster_key=cluster_key)


def test_expression_is_log_normalized_of_markers_in_turn_without_names_that_occur_twice():
    adata = make_adata()
    data = read(adata)
    assert data.values.genes[:4] == ("LYZ", "CD3D", "CST3", "IL7R")
    counts = adata.X.toarray().astype(float)
    shares = counts / counts.sum(axis=1, keepdims=True)
    for gene, values in zip(data.values.genes, data.values.expression.toarray().T, strict=True):
        assert np.allclose(np.log1p(1e4 * shares[:, GENES.index(gene)]), values, atol=1e-5)


def test_other_values_than_those_clustered_are_not_shown_and_that_is_said(caplog):
    adata = make_adata()
    adata.uns["cellmodel"]["input"]["n_genes"] = 2_000
    with caplog.at_level(logging.WARNING):
        data = read(adata)
    assert data.values is None
    assert "counts of 7 genes, those that were clustered counts of 2,000" in data.left_out[-1]
    assert "name the same with `layer`" in caplog.text


def test_columns_of_obs_are_offered_with_scores_of_searches_first():
    adata = make_adata()
    adata.obs["found"] = np.arange(N_CELLS, dtype=np.float32)
    adata.uns["found"] = {"params": {"query": "cytotoxic T lymphocytes"}}
    adata.uns["gone"] = {"params": {"query": "a search without a column"}}
    data = read(adata)
    assert list(data.colors)[:3] == ["found", "donor", "barcode"]
    assert data.queries == {"found": "cytotoxic T lymphocytes"}
    assert data.colors["donor"].tolist() == ["missing"] * 3 + ["d1"] * (N_CELLS - 3)


def test_columns_with_too_many_values_are_left_out_by_name():
    adata = make_adata()
    adata.obs["barcode"] = adata.obs_names.to_numpy()
    data = read(adata)
    assert "barcode" not in data.colors
    assert data.left_out == ("barcode (240 different values, 200 are the most)",)


def test_names_are_those_of_the_same_clusters():
    adata = make_adata()
    named = pd.DataFrame({"cluster": ["1"], "name": ["T cell"], "best": ["T cell"], "genes": ["CD3D, IL7R"]})
    adata.uns["a_name"] = {"cluster_key": "leiden", "names": named.assign(name="wrong")}
    adata.uns["b_name"] = {"cluster_key": "cellmodel", "names": named.assign(score=4.5, p_value=0.01)}
    first, second = read(adata).names
    assert (first["name"], first["genes"], first["figures"]) == ("no name", (), {})
    assert (second["name"], second["genes"]) == ("T cell", ("CD3D", "IL7R"))
    assert second["figures"] == {"score": 4.5, "p": 0.01}


def of_rest(**columns):
    """A table of evidence: rows of cluster 1 against the rest, and one of a condition, which is not shown."""
    rows = pd.DataFrame({"cluster": "1", "condition": "", "against": "rest", **columns})
    return pd.concat([rows.assign(condition="treated", against="control"), rows], ignore_index=True)


def test_evidence_is_that_of_whole_clusters_against_their_rest():
    adata = make_adata()
    themes = {"theme": ["t cell"] * 2, "source": "text", "share": 0.4, "score": 3.0, "p_adjusted": 0.01}
    adata.uns["why"] = {
        "params": {"cluster_key": "cellmodel"},
        "groups": of_rest(distance=[2.5], distance_p=0.005),
        "themes": of_rest(**themes, gene=["CD3D", "IL7R"], contribution=[0.5, 0.25], sentence=["s", "t"]),
        "contributions": of_rest(
            gene=["CD3D", "LYZ"], contribution=[0.5, -0.1], share=[0.2, -0.04], p_value=0.01, term="", sentence=""
        ),
        "enrichment": pd.DataFrame(),
    }
    nothing, found = read(adata).evidence
    assert nothing is None
    assert (found["distance"], found["distance_p"]) == (2.5, 0.005)
    assert [(theme["theme"], theme["genes"]) for theme in found["themes"]] == [
        ("t cell", (("CD3D", 0.5, "s"), ("IL7R", 0.25, "t")))
    ]
    assert [gene["gene"] for gene in found["contributions"]] == ["CD3D"]
    assert found["sets"] == ()


def test_provenance_starts_with_the_command_and_names_the_stores_of_later_jobs():
    adata = make_adata()
    adata.uns["cellmodel_name"] = {"store_id": "human:1", "encoder_id": "wcp", "seed": 3, "n_candidates": 5}
    provenance = read(adata).provenance
    assert provenance["cellmodel_name"] == "store_id human:1, encoder_id wcp, seed 3"
    assert next(iter(provenance.items())) == ("command", "cellmodel cluster a.h5ad -o b.h5ad")
    assert provenance["graph.n_neighbors"] == "15"


def test_the_report_of_a_file_is_the_same_bytes_twice(tmp_path):
    make_adata().write_h5ad(tmp_path / "cells.h5ad")
    for name in ("a.html", "b.html"):
        report_file(tmp_path / "cells.h5ad", tmp_path / name, read=ReadConfig(gene_key="symbol"))
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_clusters_of_other_programs_get_markers_sizes_and_no_figure_of_a_run():
    data = read(make_foreign(), "leiden")
    assert data.title == "Clusters of AnnData in memory by leiden"
    assert (data.cluster_names, np.bincount(data.clusters).tolist()) == (("0", "1"), [120, 120])
    assert [{marker["name"] for marker in markers[:2]} for markers in data.markers] == [
        {"LYZ", "CST3"},
        {"CD3D", "IL7R"},
    ]
    assert data.markers[0][0]["fraction_in"] > data.markers[0][0]["fraction_out"]
    assert list(data.colors) == ["donor", "total_counts", "n_genes_by_counts"]
    assert (data.k_choice, data.coverage, data.confidence, data.words) == (None, None, None, ())
    assert (len(data.history), len(data.knowledge)) == (0, 0)
    assert "how the clusters were found is not known" in data.input["notes"][0]
    assert data.provenance["leiden.resolution"] == "0.5"


def test_the_users_own_picture_comes_first_then_components():
    adata = make_foreign()
    picture, adata.obsm["X_draw"] = adata.obsm["X_umap"], np.arange(2.0 * N_CELLS).reshape(-1, 2)
    assert [layout.coordinates.tolist() for layout in read(adata, "leiden").layouts] == [
        picture.tolist(),
        adata.obsm["X_draw"].tolist(),
    ]
    adata.obsm["X_umap"] = np.where(np.arange(N_CELLS)[:, None] == 3, np.nan, picture)
    (layout,) = read(adata, "leiden").layouts
    assert layout.coordinates.tolist() == adata.obsm["X_draw"].tolist()


def test_a_run_offers_its_own_map_after_the_users_and_a_tissue_is_drawn_to_scale():
    adata = make_adata()
    adata.obsm["spatial"] = np.arange(2.0 * N_CELLS).reshape(-1, 2)
    pixels = np.zeros((30, 40, 3))
    pixels[0, 0] = 1.0
    adata.uns["spatial"] = {"section": {"images": {"lowres": pixels}, "scalefactors": {"tissue_lowres_scalef": 0.1}}}
    names = ('obsm["X_umap"] of the file', "a neighbor embedding of the expression view")
    *others, tissue = read(adata).layouts
    assert tuple(layout.name for layout in others) == names
    assert (tissue.is_tissue, tissue.image.width, tissue.image.height) == (True, pytest.approx(400), pytest.approx(300))
    picture = base64.b64decode(tissue.image.uri.removeprefix("data:image/png;base64,"))
    found = np.round(255 * matplotlib.image.imread(io.BytesIO(picture), format="png"))
    assert np.array_equal(found, 255 * pixels)
    adata.uns["cellmodel"]["params"]["spatial"] = "x"
    assert read(adata).layouts[0].is_tissue


def test_genes_that_are_asked_for_come_first_and_others_named_or_variable_are_there():
    adata = make_adata()
    cells = cells_from_anndata(adata, ReadConfig(gene_key="symbol"))
    data = report_data(cells, cluster_key="cellmodel", genes=("REST",))
    assert data.values.genes == ("REST", "LYZ", "CD3D", "CST3", "IL7R")
    with pytest.raises(InputUnusable, match=r"`genes`: LYZZ not among the gene names .*; near it: LYZ"):
        report_data(cells, cluster_key="cellmodel", genes=("LYZZ",))


@pytest.mark.parametrize("how", ["all", "file"])
def test_all_genes_or_those_of_a_file_are_kept_whatever_room_they_take(how, tmp_path):
    cells = cells_from_anndata(make_adata(), ReadConfig(gene_key="symbol"))
    path = tmp_path / "genes.txt"
    path.write_text("REST\nCD3D\n")
    values = report_data(cells, cluster_key="cellmodel", genes="all" if how == "all" else path, most_genes=1).values
    assert values.genes == (("LYZ", "CST3", "CD3D", "IL7R", "REST") if how == "all" else ("REST", "CD3D"))
    assert values.n_asked == len(values.genes)


def test_quality_is_that_of_the_cells_or_of_obs_and_colors_the_map():
    adata = make_adata()
    adata.var["symbol"] = ["MT-CO1", *GENES[1:]]
    data = read(adata)
    counts = adata.X.toarray()
    expected = {
        "total_counts": counts.sum(axis=1),
        "n_genes_by_counts": (counts > 0).sum(axis=1),
        "pct_counts_mt": 100 * counts[:, 0] / counts.sum(axis=1),
    }
    assert data.values.quality.keys() == expected.keys()
    for name, values in expected.items():
        assert np.allclose(data.values.quality[name], values)
        assert data.colors[name] is data.values.quality[name]
    adata.obs["pct_counts_mt"] = 7.0
    assert set(read(adata).values.quality["pct_counts_mt"]) == {7.0}


def test_without_a_picture_components_are_laid_out():
    adata = make_foreign()[:30].copy()
    adata.obsm = {"X_pca": np.random.default_rng(1).normal(size=(30, 5))}
    assert read(adata, "leiden").layouts[0].name == 'a neighbor embedding of obsm["X_pca"] of the file'
    del adata.obsm["X_pca"]
    assert read(adata, "leiden").layouts[0].name == "a neighbor embedding of principal components"


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([3, 1, 10], ("1", "3", "10")),
        ([0.0, 2.0, np.nan], ("0", "2")),
        ([True, False, True], ("False", "True")),
        (["b", None, "a"], ("a", "b")),
        (pd.Categorical(["b", None, "a"], categories=["b", "unused", "a"]), ("b", "a")),
        ([0.5, 1.5, 0.5], ("0.5", "1.5")),
    ],
)
def test_any_column_of_groups_is_taken_and_cells_without_a_value_are_in_no_cluster(values, names):
    column = pd.Series(values).iloc[np.resize(np.arange(3), N_CELLS)].to_numpy()
    if isinstance(values, pd.Categorical):
        column = pd.Categorical(column, categories=values.categories)
    data = read(make_foreign(column), "leiden")
    assert data.cluster_names == names
    assert ((data.clusters < 0) == pd.isna(column)).all()
    assert ("Cells without a cluster" in render_report(data)) == pd.isna(column).any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([None] * N_CELLS, "holds no cluster: all of its 240 values are missing"),
        (np.random.default_rng(0).random(N_CELLS), r"240 different values in 240 cells.*look like clusters: donor2\)"),
        ([f"AAAC{at}" for at in range(N_CELLS)], "240 different values in 240 cells, and clusters are at most 200"),
    ],
)
def test_a_column_without_groups_is_refused(values, message):
    adata = make_foreign(values)
    adata.obs["donor2"] = np.where(np.arange(N_CELLS) < 9, "d1", "d2")
    with pytest.raises(InputUnusable, match=message):
        read(adata, "leiden")


def test_a_column_that_is_not_there_names_those_that_look_like_clusters():
    adata = make_foreign()
    adata.obs["n_counts"], adata.obs["barcode"] = np.linspace(0, 1, N_CELLS), adata.obs_names.to_numpy()
    with pytest.raises(InputUnusable, match=r"did you mean 'leiden'\?.*those that look like clusters: leiden\)"):
        read(adata, "leidn")


def test_the_record_of_a_run_is_used_where_numbers_were_only_given_another_type():
    adata = make_adata()
    adata.obs["cellmodel"] = adata.obs["cellmodel"].astype(int)
    assert read(adata).k_choice["n_clusters"] == 2


@pytest.mark.parametrize("change", [lambda n: 1 - n, lambda n: n + 1, lambda n: n == 1, lambda n: n * np.nan])
def test_the_record_of_a_run_is_not_shown_beside_clusters_that_were_changed_since(change):
    adata = make_adata()
    adata.obs["cellmodel"] = change(adata.obs["cellmodel"].astype(int))
    if adata.obs["cellmodel"].isna().all():
        with pytest.raises(InputUnusable, match="all of its 240 values are missing"):
            read(adata)
        return
    data = read(adata)
    assert data.k_choice is None
    assert "was changed since its run" in data.input["notes"][0]
    assert {marker["name"] for marker in data.markers[data.clusters[0]][:2]} == {"LYZ", "CST3"}


@pytest.mark.parametrize(
    "record",
    [None, {}, 5, "x", {"markers": 5}, {"words": "x"}, {"n_clusters": 2}, {"markers": pd.DataFrame({"a": [1]})}],
)
def test_a_record_that_is_not_whole_is_no_record(record):
    adata = make_adata()
    own = adata.uns.pop("cellmodel")
    if record is not None:
        adata.uns["cellmodel"] = {**own, **record} if record and isinstance(record, dict) else record
    data = read(adata)
    assert data.k_choice is None
    assert len(data.markers[0]) == len(data.markers[1]) == len(GENES)


def test_names_of_clusters_that_had_other_sizes_are_said_to_be_old():
    adata = make_foreign()
    named = pd.DataFrame({"cluster": ["0", "1"], "n_cells": [120, 120], "name": ["T cell", "B cell"]})
    adata.uns["leiden_name"] = {"cluster_key": "leiden", "names": named}
    assert [name["name"] for name in read(adata, "leiden").names] == ["T cell", "B cell"]
    assert not any("other sizes" in note for note in read(adata, "leiden").input["notes"])
    adata.uns["leiden_name"]["names"] = named.assign(n_cells=[100, 140])
    assert (
        'uns["leiden_name"] was made when clusters of obs["leiden"] had other'
        in read(adata, "leiden").input["notes"][0]
    )


def test_a_single_cluster_has_a_report_without_markers():
    assert read(make_foreign(["only"] * N_CELLS), "leiden").markers == ((),)


def test_the_command_reports_clusters_of_other_programs(tmp_path, capsys, monkeypatch):
    adata = make_foreign()
    adata.obs.loc[adata.obs_names[:7], "leiden"] = np.nan
    adata.write_h5ad(tmp_path / "cells.h5ad")
    command = ("cellmodel", "report", tmp_path / "cells.h5ad", "--gene-key", "symbol", "--overwrite", "-o")
    pages = []
    for option in ("--cluster-key", "--key-added"):
        outcome = call_here((*command, tmp_path / "r.html", option, "leiden"), capsys, monkeypatch)
        assert (outcome.code, outcome.warnings) == (0, ())
        assert 'uns["leiden"] holds no record of a cellmodel run' in outcome.err
        pages.append((tmp_path / "r.html").read_bytes())
    assert pages[0] == pages[1]
    outcome = call_here((*command, tmp_path / "none.html"), capsys, monkeypatch)
    assert outcome.code == 3
    assert "no column 'cellmodel' in obs" in outcome.err
    assert "look like clusters: leiden" in outcome.err
    assert not (tmp_path / "none.html").exists()


def test_searches_are_those_of_the_same_clusters_also_as_a_file_holds_them():
    gene = {"name": "CD79A", "contribution": 1.5, "sentence": "A part of the receptor."}
    row = {"cluster": "b", "n_cells": 7, "score": 3.5, "p_value": 0.25, "genes": [gene]}
    record = {"params": {"query": "B cells", "cluster_key": "mine"}, "stands_out": True, "p_value": 0.005}
    record |= {"unknown_words": ["zyx"], "types": [{"name": "naive B cell", "nearness": 1.0}]}
    record |= {"clusters": [row], "genes": [gene]}
    for stored in (record, h5ad_safe(record)):
        (found,) = read_searches({"asked": stored, "other": {"params": {}}}, cluster_key="mine")
        assert (found["query"], found["stands_out"], found["unknown"]) == ("B cells", True, ("zyx",))
        assert found["clusters"][0]["genes"] == found["genes"] == (("CD79A", 1.5, "A part of the receptor."),)
        (elsewhere,) = read_searches({"asked": stored}, cluster_key="others")
        assert (elsewhere["clusters"], len(elsewhere["genes"])) == ((), 1)


def test_a_large_file_is_read_in_blocks_and_gives_the_same_report(tmp_path, monkeypatch):
    adata = make_adata()
    adata.var_names, adata.obsm["X_cellmodel"] = [*GENES[:4], "A", "B", "REST"], np.ones((N_CELLS, 9))
    adata.uns["cellmodel"] = h5ad_safe(adata.uns["cellmodel"])
    adata.write_h5ad(tmp_path / "a.h5ad")
    report_file(tmp_path / "a.h5ad", tmp_path / "whole.html")
    monkeypatch.setattr(blocks, "BACKED_ABOVE", 10)
    report_file(tmp_path / "a.h5ad", tmp_path / "blocks.html")
    whole, in_blocks = (
        (tmp_path / name).read_text(encoding="utf-8").replace(str(tmp_path), "")
        for name in ("whole.html", "blocks.html")
    )
    assert in_blocks == whole
