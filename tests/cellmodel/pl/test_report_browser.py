"""The report in a real browser: what is drawn, what pointer and keys do, what is saved, and that nothing is loaded."""

import dataclasses
import re

import numpy as np
import pytest
import scipy.sparse as sp

from cellmodel.pl._report.render import write_report
from cellmodel.pl._report.view import cluster_views, dot_plot
from tests.support.browser import open_page, open_report, wait_for
from tests.support.report_data import make_data

pytestmark = pytest.mark.slow


def corner_data(n_cells=600):
    """Cells in a square; the last one alone in its upper right corner, and alone in expressing SOLO."""
    rng = np.random.default_rng(3)
    data = make_data(n_cells)
    embedding = rng.random((n_cells, 2)) * 0.8
    embedding[0], embedding[-1] = (0.0, 0.0), (1.0, 1.0)
    solo = {"name": "SOLO", "log2_fold_change": 3.0, "p_adjusted": 1e-9, "fraction_in": 0.1, "fraction_out": 0.0}
    alone = sp.csc_matrix(([2.5], ([n_cells - 1], [0])), shape=(n_cells, 1))
    return dataclasses.replace(
        data,
        embedding=embedding,
        markers=((solo, *data.markers[0]), *data.markers[1:]),
        genes=("SOLO", *data.genes),
        expression=sp.hstack([alone, data.expression], format="csc"),
    )


@pytest.fixture
def browser(tmp_path):
    data = corner_data()
    with open_report(data, tmp_path) as opened:
        yield opened


def corner_of_map(browser):
    """Where the cell in the upper right corner lies in the window."""
    browser.run("document.getElementById('map').scrollIntoView({behavior: 'instant'})")
    browser.settle()
    left, top, width = browser.run(
        "(({left, top, width}) => [left, top, width])(document.getElementById('canvas').getBoundingClientRect())"
    )
    return left + width - 25, top + 25


def pixels(browser):
    """Colours on the map, each with its share, the commonest first."""
    browser.settle()
    return browser.run(
        """(() => { const canvas = document.getElementById("canvas");
        const copy = Object.assign(document.createElement("canvas"), {width: canvas.width, height: canvas.height});
        const reader = copy.getContext("2d", {willReadFrequently: true});
        reader.drawImage(canvas, 0, 0);
        const {data} = reader.getImageData(0, 0, copy.width, copy.height);
        const found = {};
        for (let i = 0; i < data.length; i += 4) {
          const c = data.slice(i, i + 3).join();
          found[c] = (found[c] ?? 0) + 1;
        }
        return Object.entries(found).map(([c, n]) => [c, n / (data.length / 4)]).sort((a, b) => b[1] - a[1]); })()"""
    )


def choose(browser, option):
    browser.run(
        f"(() => {{ const select = document.getElementById('color-by'); select.value = '{option}';"
        "select.dispatchEvent(new Event('change')); })()"
    )


def saved_by_buttons(browser):
    """Files that the buttons would save, by name; taken on their way, since a browser saves no more than 10 at once."""
    browser.run(
        """(() => { window.saved = {}; let last = null;
        URL.createObjectURL = (blob) => { last = blob; return "blob:here"; };
        HTMLAnchorElement.prototype.click = function () { window.saved[this.download] = last.text(); }; })()"""
    )
    browser.run("document.querySelectorAll('[data-download]').forEach((button) => button.click())")
    return dict(
        browser.run("Promise.all(Object.entries(window.saved).map(async ([name, text]) => [name, await text]))")
    )


def text_of(browser, element):
    return browser.run(f"document.getElementById('{element}').textContent")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_draws_the_cells_at_every_width_and_theme(browser, width, dark):
    browser.look(width=width, dark=dark)
    (ground, share), *ink = pixels(browser)
    assert ground == ("21,24,28" if dark else "255,255,255")
    assert 0.005 < 1 - share < 0.9
    assert len(ink) > 3
    assert browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


def test_hovering_shows_the_cell_its_cluster_and_its_confidence(browser):
    data = corner_data()
    assert browser.run("document.getElementById('tooltip').hidden")
    browser.point(*corner_of_map(browser))
    browser.wait("!document.getElementById('tooltip').hidden")
    told = browser.run("[...document.querySelectorAll('#tooltip p')].map((line) => line.textContent)")
    cluster = data.clusters[-1]
    assert told[:2] == [data.cell_ids[-1], f"cluster: {data.cluster_names[cluster]}, {data.names[cluster]['title']}"]
    assert float(told[2].removeprefix("confidence: ")) == pytest.approx(data.confidence[-1], abs=6e-4)


def test_cells_without_a_cluster_are_counted_in_the_legend_and_say_so_where_one_points(tmp_path):
    data = corner_data()
    out = np.arange(len(data.clusters)) >= len(data.clusters) - 20
    write_report(
        dataclasses.replace(data, clusters=np.where(out, -1, data.clusters), k_choice=None), tmp_path / "r.html"
    )
    with open_page(tmp_path / "r.html", tmp_path) as browser:
        browser.look(width=1280)
        assert "20 cells without a cluster are grey." in browser.run("document.getElementById('legend').textContent")
        assert browser.run("document.querySelectorAll('#legend button').length") == len(data.cluster_names)
        assert browser.run("document.querySelector('#color-by optgroup').label") == "Clusters"
        browser.point(*corner_of_map(browser))
        browser.wait("!document.getElementById('tooltip').hidden")
        told = browser.run("[...document.querySelectorAll('#tooltip p')].map((line) => line.textContent)")
        assert told[1] == "cluster: no cluster"
        assert browser.log == []


def test_every_column_colours_the_map_and_columns_are_grouped(browser):
    data = corner_data()
    groups = browser.run(
        "[...document.querySelectorAll('#color-by optgroup')]"
        ".map((group) => [group.label, ...[...group.children].map((option) => option.text)])"
    )
    site = next(iter(data.colors))
    assert groups == [
        ["This run", "cluster", "confidence"],
        ["Text queries", f"“{data.queries['asked']}”"],
        ["Groups in obs", site],
        ["Numbers in obs", "umi"],
    ]
    seen = [pixels(browser)]
    for option in range(1, 5):
        choose(browser, option)
        seen.append(pixels(browser))
    assert all(one != other for at, one in enumerate(seen) for other in seen[:at])
    choose(browser, 0)
    assert pixels(browser) == seen[0]


def test_a_gene_that_is_typed_colours_the_map(browser):
    browser.click("#gene")
    browser.type("solo")
    assert text_of(browser, "legend-title") == "SOLO"
    assert "1 of 600 cells express it" in text_of(browser, "legend")
    colors = dict(pixels(browser))
    dark_red = [color for color in colors if color.startswith("9") or color.startswith("10")]  # SOLO's top is 94,11,21
    assert dark_red
    assert sum(colors[color] for color in dark_red) < 0.001
    browser.point(*corner_of_map(browser))
    browser.wait("document.getElementById('tooltip').textContent.includes('SOLO: 2.5')")
    choose(browser, 0)
    assert browser.run("document.getElementById('gene').value") == ""


def test_the_dot_plot_shows_its_figures_to_pointer_and_keys(browser):
    data = corner_data()
    plot = dot_plot(data, cluster_views(data))
    assert browser.run("document.querySelectorAll('#dot-plot .mean').length") == len(plot["dots"])
    browser.run("document.getElementById('dot-plot').focus()")
    assert text_of(browser, "dot-status").startswith(f"SOLO in cluster {data.cluster_names[0]}: ")
    browser.press("ArrowDown")
    assert text_of(browser, "dot-status").startswith(f"SOLO in cluster {data.cluster_names[1]}: 0.0")
    browser.press("Enter", text="\r")
    assert text_of(browser, "legend-title") == "SOLO"
    browser.click("#dot-plot .mean:nth-of-type(2)")
    assert text_of(browser, "legend-title") == plot["dots"][1]["gene"]


def test_the_map_zooms_by_wheel_buttons_and_keys_and_comes_back(browser):
    before = pixels(browser)
    for zoom in (
        lambda: browser.click("#zoom-in"),
        lambda: browser.press("+", text="+"),
        lambda: browser.wheel(*corner_of_map(browser), delta=-300),
    ):
        browser.run("document.getElementById('canvas').focus()")
        zoom()
        browser.wait("document.getElementById('canvas').classList.contains('zoomed')")
        assert pixels(browser) != before
        browser.click("#zoom-reset")
        browser.wait("!document.getElementById('canvas').classList.contains('zoomed')")
        assert pixels(browser) == before


def test_a_group_of_the_legend_is_shown_alone(browser):
    before = pixels(browser)
    browser.click("#legend button")
    assert browser.run("document.querySelector('#legend button').getAttribute('aria-pressed')") == "true"
    assert pixels(browser) != before
    browser.click("#show-all")
    assert pixels(browser) == before


def test_downloads_hold_the_exact_figures(browser, tmp_path):
    data = corner_data()
    browser.click('[data-download="cells"]')
    wait_for(tmp_path / "downloads" / "cells.tsv")
    files = saved_by_buttons(browser)
    assert (tmp_path / "downloads" / "cells.tsv").read_text(encoding="utf-8") == files["cells.tsv"]
    tables = {
        name.removesuffix(".tsv"): [line.split("\t") for line in text.removesuffix("\n").split("\n")]
        for name, text in files.items()
    }
    assert set(tables) == {
        "cells", "clusters", "markers", "words", "themes", "contributions", "sets", "cell-types", "dots", "names",
        "losses", "k", "knowledge", "training", "provenance", "searches", "files",
    }  # fmt: skip
    assert all(len({len(row) for row in rows}) == 1 for rows in tables.values())
    assert tables["markers"][0] == [
        "Cluster",
        "Gene",
        "log2 fold change",
        "Adjusted p",
        "Cells inside",
        "Cells outside",
    ]
    assert tables["markers"][1:] == [
        [data.cluster_names[cluster], *(str(figure) for figure in marker.values())]
        for cluster, markers in enumerate(data.markers)
        for marker in markers
    ]
    assert [row[5:7] for row in tables["words"][1:]] == [
        [gene, repr(weight)] for words in data.words for word in words for gene, weight, _ in word["genes"]
    ]
    assert [[float(row[2]), float(row[3]), float(row[5])] for row in tables["searches"][1:]] == [
        [row["score"], row["p_value"], part]
        for search in data.searches
        for row in search["clusters"]
        for _, part, _ in row["genes"]
    ]
    assert [row[1:] for row in tables["training"][1:]] == [
        [repr(loss) for loss in losses] for losses in data.history.itertuples(index=False)
    ]
    assert [row[0] for row in tables["clusters"][1:]] == list(data.cluster_names)
    cells = np.array([row[1:3] for row in tables["cells"][1:]], dtype=float)
    assert np.array_equal(cells.astype(np.float32), data.embedding.astype(np.float32))
    assert [row[0] for row in tables["cells"][1:]] == [re.sub(r"[\t\r\n]", " ", name) for name in data.cell_ids]
    dots = dot_plot(data, cluster_views(data))["dots"]
    assert tables["dots"][1:] == [
        [dot["cluster"], dot["gene"], repr(dot["fraction"]), repr(dot["mean"])] for dot in dots
    ]
    assert tables["cell-types"][0][-2:] == ["score", "adjusted p"]
    assert [row[-2:] for row in tables["cell-types"][1:]] == [
        ["0.71875", "0.0625"],
        ["1.71875", "0.0625"],
        ["2.71875", "0.0625"],
    ]
    assert [row[-2:] for row in tables["themes"][1:]] == [
        [repr(weight), text] for found in data.evidence[1:] for _, weight, text in found["themes"][0]["genes"]
    ]
    assert [row[2] for row in tables["contributions"][1:]] == ["1.15625"] * 2
