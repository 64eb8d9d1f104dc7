import os
import subprocess
import sys

import anndata
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

import cellmodel as cm
from cellmodel.core.colors import cluster_color
from cellmodel.core.errors import InputUnusable, NotAvailable
from cellmodel.pl._file import plot_file
from cellmodel.pl._sankey import draw_flows

CLUSTERS, GENES = ("0", "1", "2"), tuple(f"G{gene}" for gene in range(9))


@pytest.fixture(autouse=True)
def _figures_are_closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), (30, 20, 10))
    rates = np.full((3, 9), 0.4)
    for row in range(3):
        rates[row, 3 * row : 3 * row + 3] = 5.0
    adata = anndata.AnnData(sp.csr_matrix(rng.poisson(rates[labels]).astype(np.float32)))
    adata.var_names, adata.obs_names = GENES, [f"c{cell}" for cell in range(60)]
    adata.obs["cellmodel"] = pd.Categorical(labels.astype(str), categories=CLUSTERS)
    adata.obs["kind"] = np.where(labels == 0, "left", np.where(np.arange(60) % 3, "right", "far right"))
    adata.obs["depth"] = np.asarray(adata.X.sum(axis=1)).ravel()
    adata.obsm["X_umap"] = rng.standard_normal((60, 2)) + 5 * labels[:, None]
    curve = {"n_clusters": [2, 3, 4], "stability": [0.7, 0.9, 0.6], "null_mean": [0.5, 0.4, 0.3], "null_sd": [0.1] * 3}
    adata.uns["cellmodel"] = {
        "n_clusters": {"n_clusters": 3, "method": "stability", "curve": pd.DataFrame(curve)},
        "markers": pd.DataFrame(
            [
                {"cluster": name, "name": f"G{3 * row + rank}", "t": 9.0 - rank}
                for row, name in enumerate(CLUSTERS)
                for rank in range(3)
            ]
        ),
    }
    return adata


def dense(adata):
    counts = adata.X.toarray().astype(float)
    return np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)


def test_umap_draws_each_cell_in_the_color_of_its_cluster(cells):
    axes = cm.pl.umap(cells)
    dots = axes.collections[0]
    np.testing.assert_allclose(dots.get_offsets(), cells.obsm["X_umap"])
    shown = [to_hex(color) for color in dots.get_facecolors()]
    assert shown == [cluster_color(code) for code in cells.obs["cellmodel"].cat.codes]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["0 (30)", "1 (20)", "2 (10)"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("UMAP 1", "UMAP 2")


def test_embedding_by_a_number_and_by_a_gene_draws_the_highest_on_top(cells):
    depth = cm.pl.embedding(cells, "X_umap", color="depth").collections
    values = np.concatenate([np.asarray(each.get_array()) for each in depth if each.get_array() is not None])
    np.testing.assert_allclose(values, np.sort(cells.obs["depth"]))
    gene = cm.pl.embedding(cells, "X_umap", color="G4").collections[-1].get_array()
    np.testing.assert_allclose(gene, np.sort(dense(cells)[:, 4]), rtol=1e-3)


def test_a_cell_without_a_category_is_gray_and_in_no_legend(cells):
    copy = cells.copy()
    copy.obs.loc["c0", "cellmodel"] = np.nan
    axes = cm.pl.umap(copy)
    assert to_hex(axes.collections[0].get_facecolors()[0]) == "#c8c8c8"
    assert axes.get_legend().get_texts()[0].get_text() == "0 (29)"


def test_dotplot_shows_shares_as_sizes_and_scaled_means_as_colors(cells):
    axes = cm.pl.dotplot(cells, n_genes=2)
    genes = [text.get_text() for text in axes.get_xticklabels()]
    assert genes == ["G0", "G1", "G3", "G4", "G6", "G7"]
    values = dense(cells)[:, [GENES.index(gene) for gene in genes]]
    groups = [values[cells.obs["cellmodel"] == name] for name in CLUSTERS]
    shares, means = (np.array([f(group) for group in groups]) for f in (lambda g: (g > 0).mean(0), lambda g: g.mean(0)))
    dots = axes.collections[0]
    np.testing.assert_allclose(dots.get_sizes() / 60, shares.ravel())
    scaled = (means - means.min(axis=0)) / (means.max(axis=0) - means.min(axis=0))
    np.testing.assert_allclose(dots.get_array(), scaled.ravel(), atol=1e-3)


def test_a_dotplot_takes_what_scanpys_takes(cells):
    axes = cm.pl.dotplot(cells, {"first": ["G0", "G1"], "second": ["G2"]}, "cellmodel")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["G0", "G1", "G2"]
    assert [text.get_text() for text in axes.texts] == ["first", "second"]
    alone = cm.pl.dotplot(cells, "G0")
    assert [label.get_text() for label in alone.get_xticklabels()] == ["G0"]


@pytest.mark.parametrize("record", [None, 5, {}, {"markers": 5}])
def test_a_dotplot_of_clusters_without_a_record_computes_the_markers(cells, record):
    copy = cells.copy()
    copy.obs["leiden"] = np.append(copy.obs["cellmodel"].astype(int).to_numpy(dtype=float)[:-1], np.nan)
    if record is not None:
        copy.uns["leiden"] = record
    axes = cm.pl.dotplot(copy, key="leiden", n_genes=3)
    assert [text.get_text() for text in axes.get_yticklabels()] == list(CLUSTERS)
    genes = [text.get_text() for text in axes.get_xticklabels()]
    assert [set(genes[at : at + 3]) for at in (0, 3, 6)] == [set(GENES[at : at + 3]) for at in (0, 3, 6)]


def test_confusion_writes_the_numbers_of_cells(cells):
    axes = cm.pl.confusion(cells, "cellmodel", "kind")
    expected = pd.crosstab(cells.obs["cellmodel"], cells.obs["kind"])
    columns = [text.get_text() for text in axes.get_xticklabels()]
    written = {tuple(map(round, text.get_position())): int(text.get_text()) for text in axes.texts}
    for (column, row), number in written.items():
        assert expected.loc[CLUSTERS[row], columns[column]] == number
    assert sum(written.values()) == 60
    assert columns[0] == "left"  # beside the cluster that it shares most with


def test_heatmap_keeps_the_largest_contributions_of_each_cluster(cells):
    table = pd.DataFrame(
        [("b", "G1", 0.5), ("b", "G2", -0.9), ("b", "G3", 0.1), ("a", "G3", 0.7), ("a", "G1", -0.2)],
        columns=["cluster", "gene", "contribution"],
    )
    axes = cm.pl.heatmap(table, n_genes=1)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["b", "a"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["G1", "G3"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[1, 0.2], [-0.2 / 0.7, 1]])
    assert axes.images[0].get_clim() == (-1, 1)


def test_heights_of_a_sankey_are_in_proportion_to_the_cells(cells):
    axes = cm.pl.sankey(cells, "cellmodel", "kind")
    heights = {round(bar.get_height(), 6) for bar in axes.patches[:3]}
    counts = cells.obs["cellmodel"].value_counts().to_numpy()
    per_cell = sorted(heights)[-1] / counts.max()
    np.testing.assert_allclose(sorted(heights), np.maximum(np.sort(counts), 0.4 * 20) * per_cell, rtol=1e-4)


def test_flows_are_ordered_so_that_they_do_not_cross():
    weights = pd.DataFrame(0.0, index=["x", "y", "z"], columns=["A", "B", "C", "none"])
    for left, right in zip("xyz", "CAB", strict=True):
        weights.loc[left, right] = 1.0
    axes = draw_flows(weights)
    places = {text.get_text(): text.xy[1] for text in axes.texts}
    assert sorted("ABC", key=lambda name: -places[name]) == ["C", "A", "B"]
    assert places["none"] < min(places[name] for name in "ABC")


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_same_plot_gives_the_same_bytes(cells, tmp_path, ending):
    for name in ("one", "two"):
        cm.pl.umap(cells, save=tmp_path / f"{name}.{ending}")
    assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"two.{ending}").read_bytes()


def test_text_of_an_svg_stays_text_without_a_date(cells, tmp_path):
    cm.pl.dotplot(cells, save=tmp_path / "dots.svg")
    content = (tmp_path / "dots.svg").read_text()
    assert ">G0</text>" in content
    assert "<dc:date>" not in content


def test_settings_that_a_notebooks_backend_makes_outlive_the_first_figure(tmp_path):
    # As the inline backend does: loaded with the first figure, it turns the interactive mode on.
    backend = "from matplotlib.backends.backend_agg import *\nimport matplotlib\nmatplotlib.interactive(True)\n"
    (tmp_path / "notebook_backend.py").write_text(backend)
    script = """
import cellmodel as cm, matplotlib, pandas as pd
cm.pl.heatmap(pd.DataFrame({"cluster": ["0"], "gene": ["CD3D"], "contribution": [1.0]}))
assert matplotlib.is_interactive()
"""
    environment = os.environ | {
        "MPLBACKEND": "module://notebook_backend",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
    }
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=120)


def test_plots_leave_the_users_settings_and_axes_alone(cells):
    before = dict(mpl.rcParams)
    _, axes = plt.subplots()
    assert cm.pl.confusion(cells, "cellmodel", "kind", ax=axes) is axes
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda a: cm.pl.embedding(a, "X_pca"), r"no obsm\['X_pca'\] \(they hold: X_umap\)"),
        (lambda a: cm.pl.umap(a, color="nothing"), "'nothing' is neither a column of obs"),
        (lambda a: cm.pl.umap(a, save="plot.gif"), "'.gif'; write a plot as .svg or .png or .pdf"),
        (lambda a: cm.pl.dotplot(a, genes=["G0", "absent"]), "absent: no gene of these cells"),
        (lambda a: cm.pl.dotplot(a, key="other"), "no column 'other' in obs"),
        (lambda a: cm.pl.heatmap(pd.DataFrame({"gene": []})), "has no cluster, contribution"),
        (lambda a: cm.pl.confusion(a, "cellmodel", "absent"), "no column 'absent' in obs"),
        (lambda a: cm.pl.umap(anndata.AnnData(np.ones((2, 2)))), 'no obsm\\["X_umap"\\] and no uns'),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_way_out(cells, draw, message):
    with pytest.raises(InputUnusable, match=message):
        draw(cells)


def test_without_matplotlib_the_extra_is_named(cells, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NotAvailable, match=r"pip install 'genekb-cellmodel\[plot\]'"):
        cm.pl.confusion(cells, "cellmodel", "kind")


def test_a_umap_that_has_to_be_made_without_scanpy_names_the_extra(cells, monkeypatch):
    monkeypatch.setitem(sys.modules, "scanpy", None)
    copy = cells.copy()
    del copy.obsm["X_umap"]
    copy.uns["cellmodel_neighbors"] = {}
    with pytest.raises(NotAvailable, match=r"needs scanpy; pip install 'genekb-cellmodel\[scanpy\]'"):
        cm.pl.umap(copy)


def test_letters_that_the_font_lacks_and_cells_without_a_category_give_no_warning(cells, tmp_path):
    copy = cells.copy()
    copy.obs["odd"] = np.where(np.arange(60) % 2, "\u65e5\u672c", "plain")
    copy.obs["none"] = pd.Categorical([None] * 60, categories=["a"])
    for ending in ("svg", "png"):
        cm.pl.sankey(copy, "cellmodel", "odd", save=tmp_path / f"odd.{ending}")
    assert "\u65e5\u672c" in (tmp_path / "odd.svg").read_text()
    assert cm.pl.umap(copy, color="none", save=tmp_path / "none.png").get_legend() is None


def test_a_figure_of_a_file_is_that_of_its_cells_and_is_not_overwritten(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    output = tmp_path / "plot.svg"
    plot_file(tmp_path / "cells.h5ad", output, kind="sankey", columns="kind")
    cm.pl.sankey(cells, "cellmodel", "kind", save=tmp_path / "own.svg")
    assert output.read_bytes() == (tmp_path / "own.svg").read_bytes()
    with pytest.raises(InputUnusable, match="exists; give another name, or overwrite=True"):
        plot_file(tmp_path / "cells.h5ad", output, kind="dotplot")
    with pytest.raises(InputUnusable, match="run `cellmodel attribute` first"):
        plot_file(tmp_path / "cells.h5ad", tmp_path / "heat.svg", kind="heatmap")


def test_heatmap_of_a_file_names_the_conditions_of_a_cluster(cells, tmp_path):
    copy = cells.copy()
    rows = [("0", condition, "G1", value) for condition, value in (("before", 0.5), ("after", -0.5))]
    table = pd.DataFrame(rows, columns=["cluster", "condition", "gene", "contribution"])
    copy.uns["cellmodel_attribution"] = {"contributions": table}
    copy.write_h5ad(tmp_path / "cells.h5ad")
    plot_file(tmp_path / "cells.h5ad", tmp_path / "heat.svg", kind="heatmap")
    content = (tmp_path / "heat.svg").read_text()
    assert ">0, before</text>" in content
    assert ">0, after</text>" in content


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # numba and umap warn of their own affairs
def test_a_umap_is_made_from_the_neighbors_of_a_run(cells):
    copy = cells.copy()
    del copy.obsm["X_umap"]
    cm.tl.cluster(copy, knowledge="none", n_clusters=3, key_added="run")
    axes = cm.pl.umap(copy, key="run")
    np.testing.assert_allclose(axes.collections[0].get_offsets(), copy.obsm["X_umap"])
