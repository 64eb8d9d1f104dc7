"""Cells for the UCSC Cell Browser and for CELLxGENE: what is written is what the file holds, in the form they read."""

import ast
import gzip
import io
import re

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

import cellmodel as cm
from cellmodel.annotate.cell_types import read_cell_types
from cellmodel.annotate.levels import read_cell_groups
from cellmodel.core.errors import InputUnusable, SlotTaken
from cellmodel.pl._report.cell_browser import write_cell_browser
from tests.robust.bad_files.cells import cells as make_cells
from tests.support.in_process import call_json

HOSTILE = "a\tb\n'\"\\'\"\"\" + __import__('os').name + '"


@pytest.fixture
def adata():
    """Cells of two groups, with a map, names of the groups, and text that could break a table or a program."""
    adata = make_cells()
    adata.obs["group"] = pd.Categorical([str(number) for number in (adata.obs["label"] == "B cell").astype(int)])
    adata.obs["mine"] = adata.obs["label"].astype(str)
    adata.obs["note"] = HOSTILE
    adata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(adata.n_obs, 2))
    names = pd.DataFrame({"cluster": ["0", "1"], "name": ["T cell", "unassigned"]})
    adata.uns["mine"] = {"cluster_key": "group", "names": names}
    return adata


def read_folder(folder):
    """Settings, tables, and the matrix (cell, gene) of a folder."""
    lines = (folder / "cellbrowser.conf").read_text().splitlines()
    conf = {key: ast.literal_eval(value) for key, _, value in (line.partition(" = ") for line in lines)}
    tables = {path.name: pd.read_csv(path, sep="\t", dtype={"cell": str}) for path in folder.glob("*.tsv")}
    content = gzip.decompress((folder / "matrix.mtx.gz").read_bytes())
    return conf, tables, sp.csr_matrix(scipy.io.mmread(io.BytesIO(content)).T)


def test_the_folder_holds_what_the_file_holds(adata, tmp_path):
    folder = tmp_path / "my cells"
    adata.write_h5ad(tmp_path / "cells.h5ad")
    record = call_json(
        "cellmodel", "export", "cellbrowser", tmp_path / "cells.h5ad", "--cluster-key", "group", "-o", folder
    )
    conf, tables, matrix = read_folder(folder)
    np.testing.assert_array_equal(matrix.toarray(), np.asarray(sp.csr_matrix(adata.X).toarray()))
    features, barcodes = (
        gzip.decompress((folder / f"{kind}.tsv.gz").read_bytes()).decode().splitlines()
        for kind in ("features", "barcodes")
    )
    assert features == adata.var_names.tolist()
    meta, maps, markers = (tables[name] for name in ("meta.tsv", "X_umap.coords.tsv", "markers.tsv"))
    assert barcodes == meta["cell"].tolist() == maps["cell"].tolist() == adata.obs_names.tolist()
    np.testing.assert_allclose(maps[["x", "y"]], adata.obsm["X_umap"], rtol=1e-6)
    labels = {"0": "0 T cell", "1": "1 unassigned"}
    assert meta[conf["labelField"]].tolist() == [labels[group] for group in adata.obs["group"]]
    assert list(dict.fromkeys(markers["cluster"])) == list(labels.values()) == record["clusters"]
    assert set(markers["gene"]) <= set(features)
    assert set(tables["quickGenes.tsv"]["symbol"]) <= set(markers["gene"])
    assert (conf["name"], conf["unit"], conf["matrixType"]) == ("my-cells", "raw counts", "int")
    assert {"group", "label"} <= set(conf["enumFields"])
    assert len(meta) == adata.n_obs
    assert record["n_stored"] == matrix.nnz


def test_blocks_of_a_large_file_give_the_same_bytes(adata, tmp_path, monkeypatch):
    adata.X = sp.csr_matrix(adata.X)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    write_cell_browser(tmp_path / "cells.h5ad", tmp_path / "whole", cluster_key="group")
    monkeypatch.setattr("cellmodel.pp.blocks.BACKED_ABOVE", 0)
    monkeypatch.setattr("cellmodel.io.backed.MOST_ROWS", 5)
    write_cell_browser(tmp_path / "cells.h5ad", tmp_path / "blocks", cluster_key="group")
    for path in sorted((tmp_path / "whole").iterdir()):
        read = gzip.decompress if path.suffix == ".gz" else bytes
        one, other = (read((tmp_path / name / path.name).read_bytes()) for name in ("whole", "blocks"))
        assert one.replace(b"whole", b"blocks") == other, path.name


def test_fractions_are_written_as_such(adata, tmp_path):
    adata.X = np.log1p(np.asarray(sp.csr_matrix(adata.X).toarray()))
    cm.tl.export_cellbrowser(adata, folder=tmp_path / "browser", cluster_key="group")
    conf, _, matrix = read_folder(tmp_path / "browser")
    np.testing.assert_allclose(matrix.toarray(), adata.X, rtol=1e-6)
    assert conf["matrixType"] == "float"


def test_only_a_folder_of_this_kind_is_replaced_and_names_differ(adata, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "work.txt").write_text("mine")
    with pytest.raises(InputUnusable):
        cm.tl.export_cellbrowser(adata, folder=tmp_path / "own", cluster_key="group", overwrite=True)
    adata.obs_names = ["a"] * adata.n_obs
    with pytest.raises(InputUnusable, match="share names"):
        cm.tl.export_cellbrowser(adata, folder=tmp_path / "new", cluster_key="group")
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_terms_are_those_of_the_names_and_unknown_where_unsure(adata, tmp_path):
    adata.obs["names"] = ["T cell", "unassigned", None, "no such cell", "fine B cell", "B cell"] * 4
    terms = ["CL:0000084", *["unknown"] * 4, "CL:0000236"] * 4
    cm.tl.cell_type_terms(adata, name_key="names")
    assert adata.obs["cell_type_ontology_term_id"].tolist() == terms
    with pytest.raises(SlotTaken):
        cm.tl.cell_type_terms(adata, name_key="names")
    with pytest.raises(InputUnusable, match="holds no name of"):
        cm.tl.cell_type_terms(adata, name_key="group", overwrite=True)
    del adata.obs["cell_type_ontology_term_id"]
    path = tmp_path / "cells.h5ad"
    adata.write_h5ad(path)
    found = call_json("cellmodel", "export", "cellxgene", path, "--name-key", "names", "-o", tmp_path / "out.h5ad")
    assert {(row["term"], row["n_cells"]) for row in found["names"]} == {(term, 4) for term in set(terms)}
    assert anndata.read_h5ad(tmp_path / "out.h5ad").obs["cell_type_ontology_term_id"].tolist() == terms


def test_every_term_of_the_tables_is_one():
    terms = [one.ontology_id for one in (*read_cell_groups(), *read_cell_types()) if one.ontology_id]
    assert len(terms) > 200
    assert all(re.fullmatch(r"CL:\d{7}", term) for term in terms)
