"""Cells for CELLxGENE: what is written is what the file holds, in the form that it reads."""

import re

import anndata
import numpy as np
import pandas as pd
import pytest

import cellmodel as cm
from cellmodel.annotate.cell_types import read_cell_types
from cellmodel.annotate.levels import read_cell_groups
from cellmodel.core.errors import InputUnusable, SlotTaken
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
    line = ["export", path, "--to", "cellxgene", "--name-key", "names", "-o", tmp_path / "out.h5ad"]
    found = call_json("cellmodel", *line)
    assert {(row["term"], row["n_cells"]) for row in found["names"]} == {(term, 4) for term in set(terms)}
    assert anndata.read_h5ad(tmp_path / "out.h5ad").obs["cell_type_ontology_term_id"].tolist() == terms


def test_every_term_of_the_tables_is_one():
    terms = [one.ontology_id for one in (*read_cell_groups(), *read_cell_types()) if one.ontology_id]
    assert len(terms) > 200
    assert all(re.fullmatch(r"CL:\d{7}", term) for term in terms)
