"""The tree in the report: what the page says of it, and how the reader cuts it."""

import dataclasses

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

import cellmodel as cm
from cellmodel.cluster.structure import Split, Tree
from cellmodel.io.cells import cells_from_anndata
from cellmodel.pl.report.collect.data import TreeData
from cellmodel.pl.report.collect.frames import report_data
from cellmodel.pl.report.collect.tables import read_tree
from cellmodel.pl.report.page.render import render_report
from cellmodel.pl.report.page.tree import tree_view
from cellmodel.pl.report.page.view import cluster_views
from tests.cellmodel.pl.test_report import Page
from tests.support.browser import open_report
from tests.support.report_data import HOSTILE, make_data


def with_tree(data, *, text=HOSTILE):
    """The same data, of four clusters, with a tree: 0 and 2, and 1 and 3, are near each other."""
    splits = (
        Split(left=(0, 2), right=(1, 3), height=8.0, support=0.90625),
        Split(left=(1,), right=(3,), height=4.0, support=0.53125),
        Split(left=(0,), right=(2,), height=1.0, support=0.03125),
    )
    rows = [
        {
            "n_cells_left": 100 + at, "n_cells_right": 200 + at, "n_markers_left": 31 + at, "n_markers_right": 41 + at,
            "markers_left": f"{text[0]} L{at}, {text[1]} l{at}", "markers_right": f"{text[2]} R{at}",
        }
        for at in range(3)
    ]  # fmt: skip
    return dataclasses.replace(
        data, tree=TreeData(tree=Tree(n_clusters=4, splits=splits), levels=(2, 4), splits=tuple(rows))
    )


def test_the_page_holds_every_split_and_hostile_text_makes_no_element():
    data = with_tree(make_data(n_clusters=4))
    page, plain = Page(render_report(data)), Page(render_report(make_data(n_clusters=4)))
    text = " ".join("".join(page.text).split())
    for at, split in enumerate(data.tree.splits):
        for name in (f"L{at}", f"l{at}", f"R{at}"):
            assert name in text
        assert f"{split['n_markers_left']}" in text
    new = {tag for tag, _ in page.elements} - {tag for tag, _ in plain.elements}
    assert new <= {"output", "path", "g", "tspan", "line"}
    assert page.payload["tree"]["splits"] == [[[0, 2], [1, 3]], [[1], [3]], [[0], [2]]]
    assert "tree" not in plain.payload
    assert "tree" not in {attributes.get("id") for _, attributes in plain.elements}


def test_branches_do_not_cross_and_height_goes_to_the_left():
    data = with_tree(make_data(n_clusters=4))
    view = tree_view(data, cluster_views(data))
    assert [cluster["index"] for _, cluster in view["leaves"]] == [0, 2, 1, 3]
    assert [y for y, _ in view["leaves"]] == sorted(y for y, _ in view["leaves"])
    xs = [x for x, *_ in view["nodes"]]
    assert xs == sorted(xs)
    assert view["right"] - xs[0] == pytest.approx(2 * (view["right"] - xs[1]))


def counts(n_types=4, n_cells=40, n_genes=200):
    rng = np.random.default_rng(0)
    types = np.repeat(np.arange(n_types), n_cells)
    rates = np.full((n_types, n_genes), 0.4)
    for one in range(n_types):
        rates[one, 20 * one : 20 * one + 20] *= 12
    adata = anndata.AnnData(sp.csr_matrix(rng.poisson(rates[types]).astype(np.float32)))
    adata.var_names = [f"GENE{at}" for at in range(n_genes)]
    return adata


def test_the_tree_of_a_run_is_read_and_one_of_other_clusters_is_not():
    adata = counts()
    cm.tl.cluster(adata, recipe="pca-kmeans", knowledge="none", n_clusters=4)
    found = read_tree(adata.uns, cluster_key="cellmodel", clusters=list("0123"))
    assert found.tree.n_clusters == 4
    assert all(row["n_markers_left"] > 5 for row in found.splits)
    kept = adata.uns["cellmodel"]["tree"]
    for change, value in (
        ("linkage", "no"),
        ("linkage", kept["linkage"][::-1]),
        ("linkage", kept["linkage"] * np.nan),
        ("levels", "no"),
        ("levels", [2, 9]),
        ("splits", "no"),
        ("splits", kept["splits"].assign(support=7.0)),
        ("splits", kept["splits"].iloc[1:]),
    ):
        broken = adata.copy()
        broken.uns["cellmodel"]["tree"][change] = value
        assert read_tree(broken.uns, cluster_key="cellmodel", clusters=list("0123")) is None
    kept["splits"]["n_markers_left"] = np.nan
    render_report(report_data(cells_from_anndata(adata), cluster_key="cellmodel"))
    assert read_tree(adata.uns, cluster_key="cellmodel", clusters=list("012x")) is None


def colors(browser, selector):
    return browser.run(f"[...document.querySelectorAll('{selector}')].map((each) => each.getAttribute('fill'))")


@pytest.mark.slow
def test_a_reader_cuts_the_tree_by_slider_level_and_split(tmp_path):
    plain = ("one", "two", "three", "four", "five", "six")
    data = dataclasses.replace(
        with_tree(make_data(400, n_clusters=4, text=plain), text=plain), cluster_names=tuple("0123")
    )
    with open_report(data, tmp_path) as browser:
        badges = ".overview svg.badge rect"
        before = colors(browser, badges)
        assert len(set(before)) == 4
        browser.click("[data-cut='2']")
        a, b = before[:2]
        assert colors(browser, badges) == [a, b, a, b]
        assert colors(browser, "#tree-plot g[data-cluster] rect") == [a, a, b, b]
        assert browser.run("document.getElementById('tree-status').textContent").startswith("2 groups: 0+2 (")
        assert browser.run("[...document.querySelectorAll('#legend button')].length") == 2
        assert browser.run("document.getElementById('color-by').selectedOptions[0].textContent") == "tree: 2 groups"
        assert browser.run("document.querySelectorAll('.in-group:not([hidden])').length") == 4
        browser.run("document.querySelector('.split[data-split=\"1\"]').focus()")
        browser.press("Enter")
        assert colors(browser, badges) == [a, b, a, before[3]]
        browser.run("document.getElementById('tree-cut').focus()")
        browser.press("ArrowRight")
        browser.wait("document.getElementById('tree-n').textContent === '4'")
        assert colors(browser, badges) == before
        assert browser.run("document.getElementById('color-by').value") == "0"
        browser.click(".split[data-split='0'] .support")
        assert colors(browser, badges) == [a, b, a, b]
        select = "document.getElementById('color-by')"
        browser.run(f"({select}.value = '0', {select}.dispatchEvent(new Event('change')))")
        assert colors(browser, badges) == before
        browser.look(width=390, dark=True)
        assert browser.run("document.documentElement.scrollWidth <= 390")
