"""The report in a real browser: what is drawn, what pointer and keys do, what is saved, and that nothing is loaded."""

import dataclasses
import json
import re

import numpy as np
import pytest
import scipy.sparse as sp

from cellmodel.pl.report.collect.data import Layout, TissueImage
from cellmodel.pl.report.collect.layouts import png_uri
from cellmodel.pl.report.page.render import write_report
from cellmodel.pl.report.page.view import cluster_views, dot_plot
from tests.support.browser import open_page, open_report, wait_for
from tests.support.report_data import make_data, make_values

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
        layouts=(Layout(name="square", coordinates=embedding), Layout(name="mirrored", coordinates=-embedding)),
        markers=((solo, *data.markers[0]), *data.markers[1:]),
        values=make_values(("SOLO", *data.values.genes), sp.hstack([alone, data.values.expression]), data.clusters),
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
    """Colors on the map, each with its share, the commonest first."""
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
    for now_dark in (dark, not dark):  # the button says what it does
        assert text_of(browser, "theme") == ("Light" if now_dark else "Dark")
        browser.run("document.getElementById('theme').click()")


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
        assert "20 cells without a cluster are gray." in browser.run("document.getElementById('legend').textContent")
        assert browser.run("document.querySelectorAll('#legend button').length") == len(data.cluster_names)
        assert browser.run("document.querySelector('#color-by optgroup').label") == "Clusters"
        browser.point(*corner_of_map(browser))
        browser.wait("!document.getElementById('tooltip').hidden")
        told = browser.run("[...document.querySelectorAll('#tooltip p')].map((line) => line.textContent)")
        assert told[1] == "cluster: no cluster"
        assert browser.log == []


def test_every_column_colors_the_map_and_columns_are_grouped(browser):
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


def test_a_gene_that_is_typed_colors_the_map(browser):
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


def test_a_gene_has_a_violin_in_each_group_and_in_each_pair_of_groups(browser):
    data = corner_data()
    assert browser.run("document.getElementById('spread').hidden")
    browser.run(f"document.getElementById('gene').value = {json.dumps(data.values.genes[0])}")
    browser.run("document.getElementById('gene').dispatchEvent(new Event('input'))")
    table = (
        "[...document.querySelectorAll('#spread-rows tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    rows = browser.run(table)
    means = data.values.means[:, 0]
    assert [float(row[3]) for row in rows] == pytest.approx(means[means >= 0].tolist()[: len(rows)], rel=0.01, abs=0.01)
    assert sum(int(row[5]) for row in rows) == len(data.cell_ids)
    assert browser.run("document.querySelectorAll('#spread-rows path.violin').length") == np.count_nonzero(means)
    browser.run("(({ options }) => { options[2].selected = true; })(document.getElementById('spread-and'))")
    browser.run("document.getElementById('spread-and').dispatchEvent(new Event('change'))")
    crossed = browser.run(table)
    assert len(crossed) > len(rows)
    assert sum(int(row[5]) for row in crossed) == len(data.cell_ids)


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
        "losses", "knowledge", "training", "provenance", "searches", "files", "quality-cluster", "spread",
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
    assert np.array_equal(cells.astype(np.float32), data.layouts[0].coordinates.astype(np.float32))
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


def drag(browser, path):
    """Press the mouse at the first point of a path, move along it, and release it at the last."""
    for at, (x, y) in enumerate(path):
        kind = "mousePressed" if at == 0 else "mouseMoved"
        browser.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
    browser.send("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1)


def test_cells_in_a_lasso_are_selected_with_their_quick_markers_and_saved(browser, tmp_path):
    x, y = corner_of_map(browser)
    browser.run("document.getElementById('lasso').click()")
    drag(browser, [(x - 12, y - 12), (x + 12, y - 12), (x + 12, y + 12), (x - 12, y + 12)])
    assert browser.run("document.getElementById('selection-title').textContent") == "1 cell selected"
    browser.run("document.getElementById('lasso').click()")
    box = browser.run("(({left, top, right, bottom}) => [left, top, right, bottom])(canvas.getBoundingClientRect())")
    middle = box[0] + 0.5 * (box[2] - box[0])
    drag(browser, [(middle, box[1] + 2), (box[2] - 2, box[1] + 2), (box[2] - 2, box[3] - 2), (middle, box[3] - 2)])
    data = corner_data()
    inside = data.layouts[0].coordinates[:, 0] > 0.5
    title = browser.run("document.getElementById('selection-title').textContent")
    assert abs(int(title.split()[0]) - inside.sum()) <= 6
    shown = browser.run("[...document.querySelectorAll('#selection-markers button')].map((one) => one.textContent)")
    dense = data.values.expression.toarray()
    own, rest = dense[inside], dense[~inside]
    t = (own.mean(axis=0) - rest.mean(axis=0)) / np.sqrt(own.var(axis=0) / len(own) + rest.var(axis=0) / len(rest))
    assert data.values.genes[int(t.argmax())] in shown[:2]
    assert set(shown) <= {gene for gene, score in zip(data.values.genes, t, strict=True) if score > -0.5}
    browser.click("#selection-save")
    saved = tmp_path / "downloads" / "selected.tsv"
    wait_for(saved)
    assert saved.read_text().count("\n") == 1 + int(title.split()[0])


def test_another_map_moves_the_cells_and_a_click_on_a_label_leads_to_its_card(browser):
    before = pixels(browser)
    browser.run("(() => { const map = document.getElementById('layout'); map.value = '1';"
                "map.dispatchEvent(new Event('change')); })()")  # fmt: skip
    assert browser.run("document.getElementById('layout-name').textContent") == "mirrored"
    assert pixels(browser) != before
    corner_of_map(browser)  # the map comes into the window
    box = browser.run("(({left, top, width}) => [left, top, width])(canvas.getBoundingClientRect())")
    browser.run("document.documentElement.style.scrollBehavior = 'auto'")
    labels = set()
    for x in np.arange(box[0] + 10, box[0] + box[2], 40):
        for y in np.arange(box[1] + 10, box[1] + 500, 9):
            if labels:
                break
            for kind in ("mousePressed", "mouseReleased"):
                browser.send("Input.dispatchMouseEvent", type=kind, x=float(x), y=float(y), button="left", clickCount=1)
            top = browser.run("document.querySelector('.card').getBoundingClientRect().top")
            labels |= {top} if 0 <= top < 900 else set()
    assert labels


def test_figures_for_experts_are_folded_until_a_link_leads_there(browser):
    assert browser.run("document.querySelectorAll('details.expert[open]').length") == 0
    browser.click("nav a[href='#number']")
    browser.wait("document.querySelector('#number > details.expert').open")


def test_a_gene_that_few_cells_express_is_read_from_its_distances(tmp_path):
    data = make_data(2_000)
    rare = sp.csc_matrix((np.array([1.0, 2.0, 4.0]), (np.array([7, 700, 1_999]), np.zeros(3, int))), shape=(2_000, 1))
    data = dataclasses.replace(data, values=make_values(("RARE",), rare, data.clusters))
    with open_report(data, tmp_path) as browser:
        browser.run("document.getElementById('gene').focus()")
        browser.type("RARE")
        browser.wait("document.getElementById('plot-status').textContent.includes('RARE')")
        assert "3 of 2,000 cells express it" in browser.run("document.getElementById('legend').textContent")
        browser.run("document.querySelector(\"[data-download='cells']\").scrollIntoView()")


def test_a_tissue_is_drawn_to_scale_on_its_picture(tmp_path):
    data = make_data()
    image = TissueImage(uri=png_uri(np.full((10, 20, 3), (255, 0, 0), dtype=np.uint8)), width=20.0, height=10.0)
    spots = np.column_stack([np.linspace(1, 19, 60), np.linspace(1, 9, 60)])
    layout = Layout(name="the tissue", coordinates=spots, is_tissue=True, image=image)
    with open_report(dataclasses.replace(data, layouts=(layout,)), tmp_path) as browser:
        browser.wait("document.readyState === 'complete'")
        shares = dict(pixels(browser))
        width, height = browser.run("(() => [canvas.clientWidth, canvas.clientHeight])()")
        shown = shares["255,102,102"]  # the picture at .6 on white
        expected = (width - 48) * (width - 48) / 2 / (width * height)
        assert 0.75 * expected < shown <= 1.05 * expected
