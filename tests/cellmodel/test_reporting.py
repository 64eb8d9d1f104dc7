"""From the slots of a file to the data of a report: what other commands left there is found, and nothing is guessed."""

import logging

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellmodel.errors import InputUnusable
from cellmodel.io import ReadConfig, cells_from_anndata
from cellmodel.reporting import report_data, report_file

N_CELLS = 240
GENES = ("LYZ", "CST3", "CD3D", "IL7R", "TWICE", "TWICE", "REST")


def marker_rows(cluster, names):
    figures = {"log2_fold_change": 2.0, "p_adjusted": 0.001, "fraction_in": 0.9, "fraction_out": 0.1}
    return [{"cluster": cluster, "name": name, **figures} for name in names]


def make_adata():
    """Cells as `cellmodel cluster` leaves them, with the least that a report needs."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(2.0, size=(N_CELLS, len(GENES))).astype(np.float32)
    obs = pd.DataFrame(index=[f"cell{at}" for at in range(N_CELLS)])
    obs["cellmodel"] = pd.Categorical(np.array(["0", "1"])[np.arange(N_CELLS) % 2])
    obs["cellmodel_confidence"] = rng.random(N_CELLS)
    obs["donor"] = pd.Categorical(np.where(np.arange(N_CELLS) < 3, None, "d1"))
    obs["barcode"] = np.resize([f"b{at}" for at in range(200)], N_CELLS)
    adata = anndata.AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"g{at}" for at in range(7)]))
    adata.var["symbol"] = GENES
    adata.obsm["X_cellmodel_expr"] = rng.normal(size=(N_CELLS, 3))
    adata.obsp["cellmodel_connectivities"] = sp.csr_matrix((N_CELLS, N_CELLS))
    markers = marker_rows("0", ["LYZ", "TWICE", "CST3"]) + marker_rows("1", ["CD3D", "LYZ", "IL7R"])
    adata.uns["cellmodel"] = {
        "input": {"source": "a.h5ad", "n_cells": N_CELLS, "n_genes": 7, "value_kind": "counts", "notes": []},
        "params": {"n_clusters": 2, "graph": {"n_neighbors": 15}},
        "command": "cellmodel cluster a.h5ad -o b.h5ad",
        "seed": 0,
        "recipe": "fused",
        "versions": {"numpy": "2"},
        "n_clusters": {"n_clusters": 2, "method": "given", "curve": pd.DataFrame()},
        "markers": pd.DataFrame(markers),
        "words": pd.DataFrame(),
        "knowledge": pd.DataFrame(),
        "history": pd.DataFrame(),
    }
    return adata


def read(adata):
    return report_data(cells_from_anndata(adata, ReadConfig(gene_key="symbol")), key_added="cellmodel")


def test_expression_is_log_normalised_of_markers_in_turn_without_names_that_occur_twice():
    adata = make_adata()
    data = read(adata)
    assert data.expression.genes == ("LYZ", "CD3D", "CST3", "IL7R")
    counts = adata.X.toarray().astype(float)
    shares = counts / counts.sum(axis=1, keepdims=True)
    for gene, values in zip(data.expression.genes, data.expression.values.toarray().T, strict=True):
        assert np.allclose(np.log1p(1e4 * shares[:, GENES.index(gene)]), values, atol=1e-5)


def test_other_values_than_those_clustered_are_not_shown_and_that_is_said(caplog):
    adata = make_adata()
    adata.uns["cellmodel"]["input"]["n_genes"] = 2_000
    with caplog.at_level(logging.WARNING):
        data = read(adata)
    assert data.expression is None
    assert "counts of 7 genes, those that were clustered counts of 2,000" in data.left_out[-1]
    assert "name the same with --layer" in caplog.text


def test_columns_of_obs_are_offered_with_scores_of_searches_first():
    adata = make_adata()
    adata.obs["found"] = np.arange(N_CELLS, dtype=np.float32)
    adata.uns["found"] = {"params": {"query": "cytotoxic T lymphocytes"}}
    adata.uns["gone"] = {"params": {"query": "a search without a column"}}
    data = read(adata)
    assert list(data.colors) == ["found", "donor", "barcode"]
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
    assert (first.name, first.genes, dict(first.figures)) == ("no name", (), {})
    assert (second.name, second.genes) == ("T cell", ("CD3D", "IL7R"))
    assert dict(second.figures) == {"score": 4.5, "p": 0.01}


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
    assert (found.distance, found.distance_p) == (2.5, 0.005)
    assert [(theme.term, theme.genes) for theme in found.themes] == [
        ("t cell", (("CD3D", 0.5, "s"), ("IL7R", 0.25, "t")))
    ]
    assert [gene.gene for gene in found.contributions] == ["CD3D"]
    assert found.sets == ()


def test_provenance_starts_with_the_command_and_names_the_stores_of_later_jobs():
    adata = make_adata()
    adata.uns["cellmodel_name"] = {"store_id": "human:1", "encoder_id": "lsa", "seed": 3, "n_candidates": 5}
    provenance = read(adata).provenance
    assert provenance["cellmodel_name"] == "store_id human:1, encoder_id lsa, seed 3"
    assert next(iter(provenance.items())) == ("command", "cellmodel cluster a.h5ad -o b.h5ad")
    assert provenance["graph.n_neighbors"] == "15"


def test_the_report_of_a_file_is_the_same_bytes_twice(tmp_path):
    make_adata().write_h5ad(tmp_path / "cells.h5ad")
    for name in ("a.html", "b.html"):
        report_file(tmp_path / "cells.h5ad", tmp_path / name, read=ReadConfig(gene_key="symbol"))
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_cells_without_clusters_are_refused(tmp_path):
    adata = make_adata()
    del adata.uns["cellmodel"]
    with pytest.raises(InputUnusable, match="no clusters under 'cellmodel'"):
        read(adata)
