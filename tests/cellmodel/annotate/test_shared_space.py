"""Genes and cells meet in the joint space of `fused`."""

import numpy as np
import pytest

import cellmodel as cm
from cellmodel.core.arrays import unit_rows
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.tl._demo import find_demo_cells


@pytest.fixture(scope="module")
def kb(demo_store):
    return demo_store("wcp-128")


def nearest_cells(kb, knowledge, symbols, n_cells=40):
    """Share of the cells nearest to some genes' texts in the joint space that express each of the genes."""
    adata = read_anndata(find_demo_cells())
    cm.tl.embed(adata, kb, knowledge=knowledge)
    joint = adata.uns["cellmodel"]["joint"]
    vectors = kb.vectors(kb.resolve(symbols).gene_ids).vectors
    placed = unit_rows((vectors - joint["whitening_mean"]) @ joint["whitening_components"] @ joint["text_head"])
    near = np.argsort(-(adata.obsm["X_cellmodel_joint"] @ placed.mean(axis=0)))[:n_cells]
    expressed = adata.raw[:, symbols].X
    return (expressed[near] > 0).mean(), (expressed > 0).mean()


@pytest.mark.parametrize("symbols", [["CD79A", "CD79B", "MS4A1"], ["GNLY", "NKG7", "GZMB"], ["CD3D", "CD3E", "CD3G"]])
def test_cells_near_the_text_of_genes_express_them(kb, symbols):
    near, everywhere = nearest_cells(kb, "real", symbols)
    assert near > 1.8 * everywhere


def test_with_shuffled_texts_they_do_not(kb):
    near, everywhere = nearest_cells(kb, "shuffled", ["CD79A", "CD79B", "MS4A1"])
    assert near < 1.8 * everywhere
