"""The report holds every figure that was put in, trusts no text, loads nothing, and is the same on every run."""

import base64
import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellmodel.report import (
    CoverageSummary,
    InputSummary,
    KChoice,
    KnowledgeEffect,
    ReportData,
    ReportMarker,
    ReportWord,
    render_report,
    write_report,
)
from cellmodel.report.charts import line_chart
from cellmodel.report.formats import number, p_value, percent
from cellmodel.report.palette import CLUSTER_COLORS, badges, relative_luminance, text_color
from cellmodel.report.payload import MAX_DRAWN, drawn_cells
from cellmodel.report.view import split_at_term

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}",
    "<!--<script>",
    "\u2028]]>&lt;b&amp;",
)
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(HTMLParser):
    """What a browser would see: elements with attributes, text outside script and style, and the two apart."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.inline, self.open = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.inline.append((self.open[-1], data))
        else:
            self.text.append(data)

    @property
    def words(self):
        """All text, with runs of white space as one blank."""
        return re.sub(r"\s+", " ", "".join(self.text))

    @property
    def figures(self):
        return {float(attributes["value"]) for tag, attributes in self.elements if tag == "data"}

    @property
    def payload(self):
        return json.loads(next(text for tag, text in self.inline if tag == "script"))


def make_data(n_cells=60, *, text=HOSTILE, n_clusters=3, seed=0):
    """Every part filled; the untrusted strings come from ``text``, the figures differ from each other."""
    rng = np.random.default_rng(seed)
    names = [f"{text[at % len(text)]} {at}" for at in range(12)]
    clusters = np.arange(n_cells) % n_clusters
    return ReportData(
        title=f"Report {names[0]}",
        input=InputSummary(
            source=names[1], n_cells=n_cells + 7, n_genes=31_337, values="raw counts", notes=(names[2],)
        ),
        coverage=CoverageSummary(
            n_names=20_011,
            n_resolved=18_777,
            share_genes=0.9321,
            share_hvgs=0.9432,
            share_counts=0.9876,
            by_status=(("symbol", 17_654, 0.9123), ("alias", 1_123, 0.0321)),
            losses=((names[3], "unknown to the store", 0.01234), (names[4], f"ambiguous: {names[5]}", 0.000123)),
        ),
        embedding=rng.normal(size=(n_cells, 2)),
        embedding_name="UMAP",
        cell_ids=[f"{text[at % len(text)]}-{at}" for at in range(n_cells)],
        clusters=clusters,
        cluster_names=tuple(names[:n_clusters]),
        confidence=rng.random(n_cells),
        k_choice=KChoice(
            chosen=n_clusters,
            how="estimated by stability",
            score_name="stability",
            curve=((2, 0.21), (3, 0.71), (4, 0.41)),
        ),
        colors={
            names[6]: np.array([names[at % 4] for at in range(n_cells)]),
            "umi": np.where(rng.random(n_cells) < 0.2, np.nan, rng.gamma(2.0, 500.0, n_cells)),
        },
        markers=tuple(
            tuple(
                ReportMarker(
                    name=f"{names[at]} m{cluster}",
                    log2_fold_change=float(rng.normal()),
                    p_adjusted=float(10.0 ** -rng.integers(1, 40)),
                    fraction_in=float(rng.random()),
                    fraction_out=float(rng.random()),
                )
                for at in range(5)
            )
            for cluster in range(n_clusters)
        ),
        words=tuple(
            (
                ReportWord(
                    term="t cell",
                    score=4.56 + cluster,
                    p_value=0.005,
                    p_adjusted=0.015,
                    genes=((names[7], 1.875 + cluster, f"Found on T-cells {names[8]}."),),
                ),
                ReportWord(term=names[9], score=1.03, p_value=0.2, p_adjusted=0.801, genes=()),
            )
            for cluster in range(n_clusters)
        ),
        history={"align": (3.25, 2.125, 1.0625), names[10]: (0.5, 0.375, 0.28125)},
        knowledge=KnowledgeEffect(
            caption=f"Agreement {names[11]}",
            rows=(("real", {"ARI": 0.812, "words": 6.125}), ("shuffled", {"ARI": 0.803}), ("none", {"ARI": 0.799})),
        ),
        provenance={"command": f"cellmodel cluster {names[0]}", "settings": f"a = 1\nb = {names[1]}", "seed": "17"},
        limits=(f"Clusters are not cell types. {names[2]}",),
    )


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def page(data):
    return Page(render_report(data))


def figures_put_in(data):
    """Every number of the data that is not per cell, and the figures that follow from the cells."""
    coverage = data.coverage
    sizes = np.bincount(data.clusters)
    yield from (data.input.n_cells, data.input.n_genes, coverage.n_names, coverage.n_resolved, data.k_choice.chosen)
    yield from (coverage.share_genes, coverage.share_hvgs, coverage.share_counts)
    yield from (figure for row in coverage.by_status for figure in row[1:])
    yield from (share for _, _, share in coverage.losses)
    yield from sizes
    yield from sizes / len(data.clusters)
    for cluster in range(len(sizes)):
        yield data.confidence[data.clusters == cluster].sum() / sizes[cluster]
    for marker in (marker for markers in data.markers for marker in markers):
        yield from (marker.log2_fold_change, marker.p_adjusted, marker.fraction_in, marker.fraction_out)
    for word in (word for words in data.words for word in words):
        yield from (word.score, word.p_value, word.p_adjusted, *(weight for _, weight, _ in word.genes))
    yield from (figure for point in data.k_choice.curve for figure in point)
    yield from (loss for losses in data.history.values() for loss in losses)
    yield from (figure for _, figures in data.knowledge.rows for figure in figures.values())


def test_every_figure_is_on_the_page_at_full_precision(data, page):
    shown = np.array(sorted(page.figures))
    missing = [
        figure for figure in figures_put_in(data) if not np.isclose(shown, float(figure), rtol=1e-12, atol=0).any()
    ]
    assert missing == []


def test_every_text_is_on_the_page_as_text(data, page):
    texts = [
        data.title,
        data.input.source,
        *data.input.notes,
        data.knowledge.caption,
        *data.limits,
        *data.cluster_names,
    ]
    texts += [part for name, reason, _ in data.coverage.losses for part in (name, reason)]
    texts += [marker.name for markers in data.markers for marker in markers]
    texts += [word.term for words in data.words for word in words]
    texts += [part for words in data.words for word in words for gene, _, text in word.genes for part in (gene, text)]
    texts += [*data.history, *data.provenance, *data.provenance.values()]
    assert [text for text in texts if re.sub(r"\s+", " ", text) not in page.words] == []


def test_hostile_text_makes_no_element_and_no_attribute(page):
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 2
    assert not {"img", "iframe", "object", "embed", "base", "form", "b"} & set(tags)
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.open == []
    clean = Page(render_report(make_data(text=("plain",))))
    assert tags == [tag for tag, _ in clean.elements]


def test_only_our_style_and_script_may_take_effect_by_their_hashes(page):
    policy = next(attributes["content"] for tag, attributes in page.elements if attributes.get("http-equiv"))
    style, _, script = (text for _, text in page.inline)
    for source, text in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{source} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_nothing_is_loaded_from_anywhere(page):
    references = {
        attributes[name]
        for _, attributes in page.elements
        for name in ("src", "href", "srcset", "data", "poster", "action", "xlink:href")
        if name in attributes
    }
    assert {reference for reference in references if not reference.startswith("#")} == {"data:,"}
    style, _, script = (text for _, text in page.inline)
    assert not re.search(r"url\(|@import|@font-face", style)
    assert not re.search(r"https?://|\bfetch\(|XMLHttpRequest|WebSocket|import\(|sendBeacon", script)


def test_links_inside_the_page_have_a_target(page):
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    links = {attributes["href"][1:] for tag, attributes in page.elements if tag == "a"}
    labels = {attributes["for"] for tag, attributes in page.elements if tag == "label"}
    named = {attributes[name] for _, attributes in page.elements for name in ("aria-labelledby",) if name in attributes}
    assert links | labels | named <= targets


def test_payload_holds_the_cells_and_no_markup(data):
    text = render_report(data)
    payload = Page(text).payload
    raw = text[text.index('id="plot-data">') + 15 : text.index("</script>", text.index('id="plot-data">'))]
    assert not set("<>&") & set(raw)
    places = np.frombuffer(base64.b64decode(payload["embedding"]), "<f4").reshape(-1, 2)
    assert np.array_equal(places, data.embedding.astype(np.float32))
    assert payload["cell_ids"] == list(data.cell_ids)
    columns = {column["name"]: column for column in payload["columns"]}
    assert list(columns) == ["cluster", "confidence", *data.colors]
    codes = np.frombuffer(base64.b64decode(columns["cluster"]["values"]), "<u4")
    assert np.array_equal(codes, data.clusters)
    site = next(iter(data.colors))
    codes = np.frombuffer(base64.b64decode(columns[site]["values"]), "<u4")
    assert [columns[site]["names"][code] for code in codes] == data.colors[site].tolist()
    umi = np.frombuffer(base64.b64decode(columns["umi"]["values"]), "<f4")
    assert np.array_equal(umi, data.colors["umi"].astype(np.float32), equal_nan=True)


def test_the_same_data_give_the_same_bytes(tmp_path):
    write_report(make_data(), tmp_path / "a.html")
    write_report(make_data(), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.html").read_bytes() == render_report(make_data()).encode()


def test_ten_thousand_cells_in_thirty_clusters_stay_under_5_mb():
    data = make_data(10_000, text=("AAACATACAACCAC-1-donor",), n_clusters=12)
    data = dataclasses.replace(
        data,
        clusters=np.arange(10_000) % 30,
        cluster_names=tuple(map(str, range(30))),
        markers=tuple(data.markers[0] * 10 for _ in range(30)),
        words=tuple(data.words[0] * 10 for _ in range(30)),
    )
    assert len(render_report(data).encode()) < 5e6


def test_parts_that_were_not_made_are_left_out_or_said_to_be_missing():
    data = dataclasses.replace(
        make_data(),
        coverage=None,
        confidence=None,
        markers=(),
        words=(),
        history={},
        colors={},
        knowledge=KnowledgeEffect(caption=""),
        k_choice=KChoice(chosen=3, how="given"),
        limits=(),
        provenance={},
    )
    page = Page(render_report(data))
    assert [column["name"] for column in page.payload["columns"]] == ["cluster"]
    assert "Not measured in this run" in page.words
    assert "No store was used" in page.words
    assert "Training" not in page.words
    assert "Mean confidence of" not in page.words
    assert "No gene stands out" not in page.words


def test_what_does_not_stand_out_from_chance_is_not_a_finding():
    marker = ReportMarker(name="WEAK", log2_fold_change=2.0, p_adjusted=0.3, fraction_in=0.5, fraction_out=0.1)
    absent = dataclasses.replace(marker, name="ABSENT", log2_fold_change=-2.0, p_adjusted=1e-9)
    word = ReportWord(term="luck", score=1.0, p_value=0.01, p_adjusted=0.4, genes=(("WEAK", 1.0, "By luck."),))
    data = dataclasses.replace(make_data(n_clusters=2), markers=((marker,), (absent,)), words=((word,), ()))
    words = Page(render_report(data)).words
    assert words.count("No gene stands out.") == 2
    assert words.count("No word stands out from chance.") == 2
    assert "could be chance" in words


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell_ids": []}, "at least 1 cell, got 0"),
        ({"embedding": np.zeros((5, 2))}, r"embedding of shape \(5, 2\) for 60 cells"),
        ({"embedding": np.full((60, 2), np.nan)}, "NaN or infinity"),
        ({"clusters": np.zeros(59, dtype=int)}, r"'clusters' of shape \(59,\) for 60 cells"),
        ({"clusters": np.full(60, 3)}, "from 3 to 3, but 3 names"),
        ({"clusters": np.full(60, -1)}, "from -1 to -1, but 3 names"),
        ({"confidence": np.full(60, 1.5)}, r"confidence must lie in \[0, 1\], got 1.5"),
        ({"confidence": np.full(60, np.nan)}, r"confidence must lie in \[0, 1\]"),
        ({"colors": {"umi": np.zeros(3)}}, r"'umi' of shape \(3,\)"),
        ({"markers": ((),)}, "markers of 1 clusters for 3 cluster names"),
        ({"words": ((),)}, "words of 1 clusters for 3 cluster names"),
        ({"history": {"a": (1.0,), "b": (1.0, 2.0)}}, "terms a, b of the history differ"),
    ],
)
def test_data_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(make_data(), **change)


def test_a_share_above_one_is_refused():
    with pytest.raises(ValueError, match=r"share_hvgs must lie in \[0, 1\], got 93"):
        CoverageSummary(n_names=1, n_resolved=1, share_genes=1.0, share_hvgs=93.0, share_counts=1.0)


def test_a_file_is_replaced_only_if_allowed_and_never_left_in_part(tmp_path, data):
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"report\.html exists"):
        write_report(data, path)
    assert path.read_text() == "mine"
    write_report(data, path, overwrite=True)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(FileNotFoundError, match=r"folder .* does not exist"):
        write_report(data, tmp_path / "absent" / "report.html")


def test_a_file_name_that_is_not_utf8_can_be_written(tmp_path):
    data = make_data()
    source = os.fsdecode(b"cells-\xff.h5ad")
    write_report(dataclasses.replace(data, input=dataclasses.replace(data.input, source=source)), tmp_path / "r.html")
    assert "cells-\\udcff.h5ad" in (tmp_path / "r.html").read_text(encoding="utf-8")


@given(
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=8),
    limit=st.integers(1, 300),
    seed=st.integers(0, 2**32 - 1),
)
def test_drawn_cells_are_even_and_miss_no_cluster(sizes, limit, seed):
    clusters = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = drawn_cells(clusters, limit=limit)
    drawn = np.bincount(clusters[rows], minlength=len(sizes))
    assert np.all(np.diff(rows) > 0)
    assert np.all(drawn >= np.minimum(sizes, 50))
    if len(clusters) <= limit:
        assert len(rows) == len(clusters)
    else:
        expected = np.array(sizes) * limit / len(clusters)
        assert np.all(drawn >= np.floor(expected) - 1)
        assert np.all(drawn <= np.ceil(expected) + 1 + np.minimum(sizes, 50))


def test_a_page_that_draws_a_part_of_the_cells_says_so():
    n_cells = MAX_DRAWN + 10_000
    page = Page(render_report(make_data(n_cells, text=("c",))))
    n_drawn = len(page.payload["cell_ids"])
    assert MAX_DRAWN <= n_drawn <= MAX_DRAWN + 150
    assert f"{n_drawn:,} of {n_cells:,} cells are drawn" in page.words
    assert page.payload["columns"][0]["sizes"] == [n_cells // 3] * 3


MACHADO = {  # severity 1, linear RGB: Machado, Oliveira and Fernandes (2009)
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def oklab(colors, vision):
    """OKLab (Ottosson 2020) of #rrggbb colours as an eye with this vision sees them."""
    rgb = np.array([[int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)] for color in colors])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(MACHADO[vision]).T, 0, 1)
    cones = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
             [0.0883024619, 0.2817188376, 0.6299787005]]  # fmt: skip
    opponents = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
                 [0.0259040371, 0.7827717662, -0.8086757660]]  # fmt: skip
    return np.cbrt(seen @ np.array(cones).T) @ np.array(opponents).T


@pytest.mark.parametrize("vision", MACHADO)
@pytest.mark.parametrize(("n_colors", "distance"), [(8, 0.10), (15, 0.05), (30, 0.035)])
def test_cluster_colors_stay_apart_for_every_eye(vision, n_colors, distance):
    lab = oklab(CLUSTER_COLORS[:n_colors], vision)
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(n_colors, 1)]
    assert apart.min() >= distance  # about 0.02 is just noticeable


def test_cluster_colors_and_their_text_stand_out():
    def contrast(one, other):
        low, high = sorted((relative_luminance(one), relative_luminance(other)))
        return (high + 0.05) / (low + 0.05)

    for color in CLUSTER_COLORS:
        assert contrast(color, "#ffffff") > 1.7
        assert contrast(color, "#15181c") > 2
        assert contrast(color, text_color(color)) >= 4.5


def test_badges_are_short_names_or_numbers():
    assert badges(("0", "1", "12")) == ("0", "1", "12")
    assert badges(("B", "NK", "B")) == ("1", "2", "3")
    assert badges(("B", "Platelet")) == ("1", "2")


@pytest.mark.parametrize(
    ("written", "text", "exact"),
    [
        (percent(0.93214), "93.2\u202f%", "0.93214"),
        (percent(0.000123), "0.012\u202f%", "0.000123"),
        (percent(0.0), "0.0\u202f%", "0.0"),
        (number(6.125), "6.12", "6.125"),
        (number(-1234.5), "-1234", "-1234.5"),
        (number(1.5e-7), "1.50e-07", "1.5e-07"),
        (p_value(0.0312), "0.031", "0.0312"),
        (p_value(1.26e-30), "1.3e-30", "1.26e-30"),
        (p_value(0.0), "&lt; 1e-300", "0.0"),
    ],
)
def test_figures_are_short_to_read_and_exact_to_take_away(written, text, exact):
    assert str(written) == f'<data value="{exact}">{text}</data>'


@pytest.mark.parametrize("figure", [percent(math.nan), number(math.inf), p_value(math.nan)])
def test_what_is_no_number_is_a_dash(figure):
    assert "<data" not in figure


@given(
    values=st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=60).filter(
        lambda values: any(map(math.isfinite, values))
    )
)
def test_a_curve_stays_in_its_frame_in_order_and_to_scale(values):
    chart = line_chart([(float(at), value) for at, value in enumerate(values)], title="t", x_label="x", y_label="y")
    left, top, right, bottom = chart.frame
    points = np.array([[float(at) for at in pair.split(" ")] for pair in chart.path[1:].split("L")])
    finite = np.array([value for value in values if math.isfinite(value)])
    assert len(points) == len(finite)
    assert np.all((points[:, 0] >= left) & (points[:, 0] <= right) & (points[:, 1] >= top) & (points[:, 1] <= bottom))
    assert np.all(np.diff(points[:, 0]) > 0)
    if len(chart.y_ticks) > 1 and np.ptp(finite) > 1e-3:  # the labels hold 4 digits
        (low_y, low), (high_y, high) = [(y, float(text)) for y, text in (chart.y_ticks[0], chart.y_ticks[-1])]
        read_off = low + (points[:, 1] - low_y) / (high_y - low_y) * (high - low)
        assert np.allclose(read_off, finite, atol=2e-3 * max(abs(low), abs(high), high - low))


def test_the_chosen_k_is_marked_where_it_lies():
    chart = line_chart([(2.0, 1.0), (5.0, 4.0), (8.0, 2.0)], title="t", x_label="k", y_label="score", marked_x=5.0)
    assert chart.marked == chart.dots[1]
    assert "highest 4 at 5" in chart.summary
    with pytest.raises(ValueError, match="no finite point"):
        line_chart([(1.0, math.nan)], title="t", x_label="x", y_label="y")


@settings(max_examples=50)
@given(sentence=st.text(max_size=60), term=st.text(max_size=8))
def test_cutting_at_a_term_loses_nothing(sentence, term):
    assert "".join(piece for piece, _ in split_at_term(sentence, term)) == sentence


def test_a_term_is_found_across_case_plural_and_hyphen_but_not_inside_words():
    pieces = split_at_term("T-cells and t cell lines, not platelet cells", "t cell")
    assert [piece for piece, is_term in pieces if is_term] == ["T-cells", "t cell"]
    assert split_at_term("a (b", "(b") == [("a ", False), ("(b", True)]


def browse(path, tmp_path, *, width=1280):
    """Open a page in headless Chromium with its self-check; give the root element's attributes and the log."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium on PATH")
    switches = (
        "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-sync "
        "disable-component-update dump-dom enable-logging=stderr"
    )
    done = subprocess.run(
        [
            browser,
            *(f"--{switch}" for switch in switches.split()),
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},1200",
            f"{path.as_uri()}#self-check",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    attributes = next(attributes for tag, attributes in Page(done.stdout).elements if tag == "html")
    return attributes, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_draws_the_cells_and_asks_for_nothing(tmp_path, width):
    data = make_data(600)
    write_report(data, tmp_path / "report.html")
    attributes, log = browse(tmp_path / "report.html", tmp_path, width=width)
    assert "CONSOLE" not in log
    assert attributes["data-ready"] == "true"
    seen = json.loads(attributes["data-self-check"])
    assert seen["drawn"] == 600
    assert list(seen["inked"]) == ["cluster", "confidence", *data.colors]
    assert all(0.005 < share < 0.9 for share in seen["inked"].values())
    assert seen["colors"]["cluster"] == 3
    assert seen["colors"]["umi"] > 20
    assert seen["hiddenShare"] == pytest.approx(2 / 3)
    assert seen["picked"][0] == data.cell_ids[0]
    assert seen["picked"][1] == f"cluster: {data.cluster_names[0]}"
    assert seen["requests"] == []
    assert seen["overflow"] == 0


@pytest.mark.slow
def test_downloads_of_a_browser_hold_the_exact_figures(tmp_path):
    data = make_data()
    write_report(data, tmp_path / "report.html")
    attributes, _ = browse(tmp_path / "report.html", tmp_path)
    tables = {
        name: [line.split("\t") for line in text.removesuffix("\n").split("\n")]
        for name, text in json.loads(attributes["data-self-check"])["tsv"].items()
    }
    assert set(tables) == {
        "cells", "clusters", "markers", "words", "names", "losses", "k", "knowledge", "training", "provenance"
    }  # fmt: skip
    assert all(len({len(row) for row in rows}) == 1 for rows in tables.values())
    markers = [
        [data.cluster_names[cluster], *(str(figure) for figure in dataclasses.astuple(marker))]
        for cluster, markers in enumerate(data.markers)
        for marker in markers
    ]
    assert tables["markers"][0] == [
        "Cluster",
        "Gene",
        "log2 fold change",
        "Adjusted p",
        "Cells inside",
        "Cells outside",
    ]
    assert tables["markers"][1:] == markers
    assert [row[5:7] for row in tables["words"][1:]] == [
        [gene, repr(weight)] for words in data.words for word in words for gene, weight, _ in word.genes
    ]
    assert [row[1:] for row in tables["training"][1:]] == [
        [repr(loss) for loss in losses] for losses in zip(*data.history.values(), strict=True)
    ]
    assert [row[0] for row in tables["cells"][1:]] == [re.sub(r"[\t\r\n]", " ", name) for name in data.cell_ids]
    assert [row[0] for row in tables["clusters"][1:]] == list(data.cluster_names)
