"""Small maps of `split_by`: whose cells are drawn where, in which colors, and what is not drawn."""

import logging

import anndata
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

import cellmodel as cm
from cellmodel.core.colors import cluster_color
from cellmodel.core.errors import InputUnusable
from cellmodel.pl._file import plot_file

GRAY = "#e6e6e6"


@pytest.fixture(autouse=True)
def _figures_are_closed():
    yield
    plt.close("all")


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    adata = anndata.AnnData(rng.poisson(3.0, (60, 4)).astype(np.float32))
    adata.var_names, adata.obs_names = [f"G{gene}" for gene in range(4)], [f"c{cell}" for cell in range(60)]
    adata.obs["cellmodel"] = pd.Categorical((np.arange(60) % 3).astype(str))
    adata.obs["sample"] = pd.Categorical(np.repeat(["late", "early"], (40, 20)), categories=["late", "early", "never"])
    adata.obs["depth"] = np.arange(60) * 1.5
    adata.obsm["X_umap"] = rng.standard_normal((60, 2))
    return adata


def drawn_cells(axes):
    """Place and color of the cells that are drawn, gray ones apart."""
    others, own = axes.collections[:2]
    assert {to_hex(color) for color in others.get_facecolors()} == {GRAY}
    return np.asarray(others.get_offsets()), np.asarray(own.get_offsets()), [to_hex(c) for c in own.get_facecolors()]


def test_each_category_has_a_map_of_its_cells_over_all_others_in_gray(cells):
    maps = cm.pl.umap(cells, split_by="sample")
    assert [axes.get_title() for axes in maps] == ["late (40)", "early (20)"]  # as the column orders them
    for axes, name in zip(maps, ("late", "early"), strict=True):
        others, own, colors = drawn_cells(axes)
        is_own = (cells.obs["sample"] == name).to_numpy()
        np.testing.assert_allclose(own, cells.obsm["X_umap"][is_own])
        np.testing.assert_allclose(others, cells.obsm["X_umap"][~is_own])
        assert colors == [cluster_color(code) for code in cells.obs["cellmodel"].cat.codes[is_own]]
    assert maps[0].get_xlim() == maps[1].get_xlim()
    assert maps[0].get_ylim() == maps[1].get_ylim()
    (legend,) = maps[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["0 (20)", "1 (20)", "2 (20)"]  # of all cells


def test_numbers_have_one_scale_in_all_maps_and_the_highest_on_top(cells):
    maps = cm.pl.embedding(cells, "X_umap", color="depth", split_by="sample")
    for axes, name in zip(maps, ("late", "early"), strict=True):
        own = axes.collections[-1]
        np.testing.assert_allclose(own.get_array(), np.sort(cells.obs["depth"][cells.obs["sample"] == name]))
        assert own.get_clim() == (0.0, 59 * 1.5)
    gene = cm.pl.umap(cells, color="G2", split_by="sample")
    assert gene[0].collections[-1].get_clim() == gene[1].collections[-1].get_clim()


def test_cells_without_a_value_are_gray_in_every_map_and_counted(cells, caplog):
    cells.obs.loc[["c0", "c1"], "sample"] = np.nan
    with caplog.at_level(logging.WARNING):
        maps = cm.pl.umap(cells, split_by="sample")
    assert [axes.get_title() for axes in maps] == ["late (38)", "early (20)"]
    assert [len(drawn_cells(axes)[0]) for axes in maps] == [22, 40]
    assert caplog.messages == ["2 cells without a value in 'sample': gray in every map"]


def test_of_five_hundred_samples_the_largest_twelve_are_drawn_and_the_rest_is_said(caplog):
    rng = np.random.default_rng(1)
    sizes = np.r_[np.full(12, 4), np.full(488, 2)]
    adata = anndata.AnnData(np.ones((sizes.sum(), 2), np.float32))
    adata.obs["donor"] = rng.permutation(np.repeat([f"d{number:03}" for number in range(500)], sizes))
    adata.obs["cellmodel"] = "0"
    adata.obsm["X_umap"] = rng.standard_normal((len(adata), 2))
    with caplog.at_level(logging.WARNING):
        maps = cm.pl.umap(adata, split_by="donor")
    assert [axes.get_title() for axes in maps] == [f"d{number:03} (4)" for number in range(12)]
    assert "500 values; the 12 with most cells are drawn, not d012 (2)" in caplog.text
    assert "and 476 more" in caplog.text


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda a: cm.pl.umap(a, split_by="sampel"), InputUnusable, "no column 'sampel' .*did you mean 'sample'"),
        (lambda a: cm.pl.umap(a, split_by="sample", color="deepth"), InputUnusable, "did you mean 'depth'"),
        (lambda a: cm.pl.umap(a, split_by="empty"), InputUnusable, "no cell has a value in 'empty'"),
        (lambda a: cm.pl.umap(a, split_by="sample", ax=plt.gca()), ValueError, "a figure of their own; leave ax out"),
    ],
)
def test_what_cannot_be_split_is_refused(cells, draw, error, message):
    cells.obs["empty"] = pd.Categorical([None] * 60, categories=["a"])
    with pytest.raises(error, match=message):
        draw(cells)


def test_small_maps_of_a_file_are_those_of_its_cells_byte_for_byte(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    plot_file(tmp_path / "cells.h5ad", tmp_path / "one.svg", kind="embedding", basis="X_umap", split_by="sample")
    cm.pl.embedding(cells, "X_umap", split_by="sample", save=tmp_path / "own.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "own.svg").read_bytes()
    assert ">late (40)</text>" in (tmp_path / "one.svg").read_text()
