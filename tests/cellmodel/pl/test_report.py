"""The report holds every figure that was put in, trusts no text, loads nothing, and is the same on every run."""

import base64
import dataclasses
import hashlib
import json
import math
import os
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from cellmodel.core.colors import CLUSTER_COLORS, relative_luminance, text_color
from cellmodel.core.errors import InputUnusable
from cellmodel.pl.report.collect.data import MAX_DRAWN, Layout, drawn_cells
from cellmodel.pl.report.collect.genes import by_cluster
from cellmodel.pl.report.page.formats import badges, number, p_value, percent
from cellmodel.pl.report.page.payload import MAX_GENE_BYTES, pack_steps
from cellmodel.pl.report.page.render import render_report, write_report
from cellmodel.pl.report.page.view import (
    cluster_views,
    dot_plot,
    found_sentence,
    line_chart,
    quality_view,
    split_at_term,
)
from tests.support.report_data import make_data, make_values, with_samples

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


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def page(data):
    return Page(render_report(data))


def figures_put_in(data):
    """Every number of the data that is not per cell, and the figures that follow from the cells."""
    coverage, sizes = data.coverage, np.bincount(data.clusters)
    yield from (data.input["n_cells"], data.input["n_genes"], coverage["n_names"], coverage["n_resolved"])
    for file in data.input["files"]:
        yield from (file.n_cells, file.n_genes, file.n_resolved, file.n_lost, file.share_lost)
    yield from (data.k_choice["n_clusters"], coverage["share_genes"], coverage["share_hvgs"], coverage["share_counts"])
    yield from (figure for row in coverage["by_status"].to_numpy() for figure in row[1:])
    yield from coverage["losses"]["share_counts"]
    yield from sizes
    yield from sizes / len(data.clusters)
    for cluster in range(len(sizes)):
        yield data.confidence[data.clusters == cluster].sum() / sizes[cluster]
    rows = [row for rows in (*data.markers, *data.words) for row in rows]
    for found in filter(None, data.evidence):
        rows += [found, *found["themes"], *found["contributions"], *found["sets"]]
    for row in rows:
        yield from (figure for figure in row.values() if isinstance(figure, float))
        yield from (weight for _, weight, _ in (() if "set" in row else row.get("genes", ())))
    yield from (figure for name in data.names for figure in name["figures"].values())
    for found in data.searches:
        yield found["p_value"]
        for row in found["clusters"]:
            yield from (row["score"], row["p_value"], *(part for _, part, _ in row["genes"]))
    yield from data.history.to_numpy().ravel()
    yield from data.knowledge["neighbor_agreement"]


def test_every_figure_is_on_the_page_at_full_precision(data, page):
    shown = np.array(sorted(page.figures))
    missing = [
        figure for figure in figures_put_in(data) if not np.isclose(shown, float(figure), rtol=1e-12, atol=0).any()
    ]
    assert missing == []


def test_every_text_is_on_the_page_as_text(data, page):
    texts = [
        data.title,
        data.input["source"],
        *data.input["notes"],
        *(text for file in data.input["files"] for text in (file.file, file.sample, file.species)),
        *data.knowledge["knowledge"],
        *data.limits,
        *data.cluster_names,
    ]
    texts += data.coverage["losses"][["name", "reason"]].to_numpy().ravel().tolist()
    texts += [marker["name"] for markers in data.markers for marker in markers]
    parts = ("title", "best", "runner_up", "parent")
    texts += [text for name in data.names for text in (*(name[part] for part in parts), *name["genes"])]
    for found in data.searches:
        texts += [found["query"], *found["unknown"], *(name for name, _ in found["types"])]
        texts += [text for row in found["clusters"] for gene, _, text_of in row["genes"] for text in (gene, text_of)]
    terms = [word for words in data.words for word in words]
    for found in filter(None, data.evidence):
        terms += found["themes"]
        texts += [row[part] for row in found["contributions"] for part in ("gene", "term", "sentence")]
        texts += [row[part] for row in found["sets"] for part in ("set", "source", "genes")]
    texts += [term.get("theme") or term["term"] for term in terms]
    texts += [part for term in terms for gene, _, text in term["genes"] for part in (gene, text)]
    texts += [*data.left_out, *data.history, *data.provenance, *data.provenance.values()]
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
    (layout,), (given,) = payload["layouts"], data.layouts
    assert (layout["name"], layout["is_tissue"], layout["image"]) == (given.name, False, None)
    places = np.frombuffer(base64.b64decode(layout["coordinates"]), "<f4").reshape(-1, 2)
    assert np.array_equal(places, given.coordinates.astype(np.float32))
    assert payload["cell_ids"] == list(data.cell_ids)
    columns = {column["name"]: column for column in payload["columns"]}
    assert list(columns) == ["cluster", "confidence", *data.colors]
    codes = np.frombuffer(base64.b64decode(columns["cluster"]["values"]), "<u4")
    assert np.array_equal(codes, data.clusters)
    site = next(iter(data.colors))
    codes = np.frombuffer(base64.b64decode(columns[site]["values"]), "<u4")
    assert [columns[site]["names"][code] for code in codes] == data.colors[site].tolist()
    assert {name: column["query"] for name, column in columns.items() if "query" in column} == data.queries
    assert columns["cluster"]["titles"] == [name["title"] for name in data.names]
    umi = np.frombuffer(base64.b64decode(columns["umi"]["values"]), "<f4")
    assert np.array_equal(umi, data.colors["umi"].astype(np.float32), equal_nan=True)


def unpacked(packed, *, n_cells):
    """Steps of all cells, read as the page reads them."""
    if len(packed) == n_cells:
        return np.frombuffer(packed, np.uint8)
    steps, cell, at = np.zeros(n_cells, np.uint8), -1, 0
    while at < len(packed):
        cell += 1
        while packed[at] == 255:
            cell, at = cell + 255, at + 1
        cell += packed[at]
        steps[cell] = packed[at + 1]
        at += 2
    return steps


@given(st.lists(st.integers(0, 1_200), unique=True, max_size=400), st.integers(1_201, 1_400), st.randoms())
def test_packed_steps_come_back_and_are_never_longer_than_a_byte_a_cell(cells, n_cells, random):
    cells = np.array(sorted(cells), dtype=np.int32)
    steps = np.array([random.randint(1, 255) for _ in cells], dtype=np.uint8)
    packed, whole = pack_steps(cells, steps, n_cells=n_cells), np.zeros(n_cells, np.uint8)
    whole[cells] = steps
    assert len(packed) <= n_cells
    assert np.array_equal(unpacked(packed, n_cells=n_cells), whole)


def test_expression_in_the_payload_is_exact_to_a_255th_and_zero_stays_zero(data, page):
    genes = page.payload["genes"]
    assert [gene["name"] for gene in genes] == list(data.values.genes)
    for gene, true in zip(genes, data.values.expression.toarray().T, strict=True):
        steps = unpacked(base64.b64decode(gene["values"]), n_cells=60)
        assert gene["highest"] == true.max()
        assert np.array_equal(steps == 0, true == 0)
        assert np.allclose(steps / 255 * gene["highest"], true, rtol=0, atol=gene["highest"] / 255)


def test_the_dot_plot_shows_share_and_mean_of_each_gene_in_each_cluster():
    data = make_data(90, text=("gene",))
    plot = dot_plot(data, cluster_views(data))
    dense = data.values.expression.toarray()
    marks = {
        m["name"] for found in data.markers for m in found if m["log2_fold_change"] > 0 and m["p_adjusted"] <= 0.05
    }
    assert {dot["gene"] for dot in plot["dots"]} == marks
    assert len(plot["dots"]) == 3 * len(marks)
    for dot in plot["dots"]:
        cells = dense[data.clusters == data.cluster_names.index(dot["cluster"]), data.values.genes.index(dot["gene"])]
        assert dot["fraction"] == pytest.approx(sum(value > 0 for value in cells) / len(cells))
        assert dot["mean"] == pytest.approx(sum(cells) / len(cells))
        assert dot["radius"] ** 2 == pytest.approx(9.0**2 * dot["fraction"], rel=0.02)
    for _, gene in plot["columns"]:
        of_gene = [dot for dot in plot["dots"] if dot["gene"] == gene]
        assert max(dot["opacity"] for dot in of_gene) == 1.0
        shades = [(dot["opacity"] - 0.12) / 0.88 for dot in of_gene]
        assert shades == pytest.approx([dot["mean"] / max(one["mean"] for one in of_gene) for dot in of_gene], abs=1e-3)


def test_brackets_hold_the_columns_of_the_genes_that_a_cluster_marks():
    data = make_data(90, text=("gene",))
    views = cluster_views(data)
    plot = dot_plot(data, views)
    of_cluster = {view["name"]: {marker["name"] for marker in view["top_markers"]} for view in views}
    inside = {
        cluster["name"]: {gene for x, gene in plot["columns"] if left < x < right}
        for left, right, cluster in plot["brackets"]
    }
    assert all(genes and genes <= of_cluster[name] for name, genes in inside.items())
    assert sorted(gene for genes in inside.values() for gene in genes) == sorted(gene for _, gene in plot["columns"])


def test_the_first_sentence_names_the_types_by_size_and_counts_clusters_without_a_name(data):
    assert found_sentence(cluster_views(data)) == {"types": [], "n_unnamed": 3}
    words = Page(render_report(data)).words
    assert " 3 clusters without a name. Cells clustered" in words
    assert data.names[0]["best"] in words  # in the cards alone
    sure = {**data.names[0], "name": "T cell", "reason": ""}
    views = cluster_views(dataclasses.replace(data, names=(sure, data.names[1], sure)))
    assert found_sentence(views)["types"] == [("T cell", pytest.approx(2 / 3))]
    assert found_sentence(cluster_views(dataclasses.replace(data, names=()))) is None


def test_quality_has_histograms_of_all_cells_and_quartiles_by_cluster_and_sample(data):
    samples = with_samples(data)
    found = quality_view(samples)
    assert list(found["labels"].values()) == ["Total counts", "Mitochondrial, % of counts"]
    assert [chart["is_area"] for chart in found["charts"]] == [True, True]
    codes = {"Cluster": data.clusters, "Sample": samples.samples.codes}
    assert [title for title, _ in found["groups"]] == list(codes)
    for title, rows in found["groups"]:
        for at, row in enumerate(rows):
            values = data.values.quality["total_counts"][codes[title] == at]
            assert row["n_cells"] == len(values)
            assert row["quartiles"][0] == pytest.approx(np.quantile(values, (0.25, 0.5, 0.75)).tolist())
    assert quality_view(dataclasses.replace(data, values=None)) is None


def test_genes_and_types_link_to_their_entries():
    name = make_data().names[0] | {"ontology_id": "CL:0000084"}
    gene = make_data().markers[0][0]["name"]
    data = dataclasses.replace(make_data(), names=(name, *make_data().names[1:]), gene_ids={gene: 915})
    links = {attributes.get("href"): attributes for tag, attributes in Page(render_report(data)).elements if tag == "a"}
    assert links["https://www.ncbi.nlm.nih.gov/gene/915"]["rel"] == "noreferrer"
    assert "https://www.ebi.ac.uk/ols4/search?q=CL%3A0000084&exactMatch=true" in links


def test_a_cluster_without_cells_has_empty_dots():
    data = make_data(n_clusters=3)
    clusters = np.arange(60) % 2
    fractions, means = by_cluster(data.values.expression.tocsr(), clusters, n_clusters=3)
    values = dataclasses.replace(data.values, fractions=fractions, means=means)
    data = dataclasses.replace(data, clusters=clusters, values=values)
    plot = dot_plot(data, cluster_views(data))
    assert {
        (dot["fraction"], dot["mean"], dot["radius"]) for dot in plot["dots"] if dot["cluster"] == data.cluster_names[2]
    } == {(0.0, 0.0, 0.0)}


def test_genes_are_fewer_where_cells_are_many():
    data = make_data(5_000)
    many = MAX_GENE_BYTES // len(base64.b64encode(bytes(5_000))) + 50
    values = make_values(tuple(map(str, range(many))), sp.csc_matrix(np.ones((5_000, many))), data.clusters)
    data = dataclasses.replace(data, values=values)
    assert [gene["name"] for gene in Page(render_report(data)).payload["genes"]] == list(map(str, range(many - 50)))


def test_the_same_data_give_the_same_bytes(tmp_path):
    write_report(make_data(), tmp_path / "a.html")
    write_report(make_data(), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.html").read_bytes() == render_report(make_data()).encode()


def test_ten_thousand_cells_in_thirty_clusters_and_two_thousand_genes_stay_under_8_mb():
    data = make_data(10_000, text=("AAACATACAACCAC-1-donor",), n_clusters=12)
    data = dataclasses.replace(
        data,
        clusters=np.arange(10_000) % 30,
        names=data.names[:1] * 30,
        evidence=tuple(data.evidence[1] | {"contributions": data.evidence[1]["contributions"] * 15} for _ in range(30)),
        values=make_values(
            tuple(f"GENE{at}" for at in range(2_000)),
            sp.random(10_000, 2_000, 0.08, format="csr", random_state=0),
            np.arange(10_000) % 30,
        ),
        cluster_names=tuple(map(str, range(30))),
        markers=tuple(
            tuple(data.markers[0][0] | {"name": f"GENE{at}", "log2_fold_change": 1.0} for at in range(c, c + 15))
            for c in range(30)
        ),
        words=tuple(data.words[0] * 10 for _ in range(30)),
    )
    page = render_report(data)
    assert len(page.encode()) < 8e6
    assert len(Page(page).payload["genes"]) == 2_000


def test_parts_that_were_not_made_are_left_out_or_said_to_be_missing():
    data = dataclasses.replace(
        make_data(),
        coverage=None,
        confidence=None,
        markers=(),
        words=(),
        names=(),
        evidence=(),
        values=None,
        history=pd.DataFrame(),
        colors={},
        queries={},
        searches=(),
        knowledge=pd.DataFrame(),
        k_choice={"n_clusters": 3, "method": "given"},
        limits=(),
        provenance={},
    )
    page = Page(render_report(data))
    assert [column["name"] for column in page.payload["columns"]] == ["cluster"]
    assert "Not measured in this run" in page.words
    assert "No store was used" in page.words
    assert "Training" not in page.words
    assert "Mean confidence of" not in page.words
    assert "No significant marker gene" not in page.words
    assert "Gene list" not in page.words
    assert "Markers in all clusters" not in page.words
    assert "Searches" not in page.words


def test_a_search_for_which_no_cells_stand_out_says_so_and_shows_the_genes_of_the_best_cells():
    data = make_data()
    found = dataclasses.replace(data, searches=({**data.searches[0], "stands_out": False, "clusters": ()},))
    words = Page(render_report(found)).words
    assert "No cells stand out for this query" in words
    assert "The 5 % of cells with the highest scores" in words
    assert "No cells stand out" not in Page(render_report(data)).words


def test_clusters_of_no_run_have_no_section_about_a_run():
    data = dataclasses.replace(
        make_data(), k_choice=None, coverage=None, confidence=None, words=(), history=pd.DataFrame(),
        knowledge=pd.DataFrame(),
    )  # fmt: skip
    page = Page(render_report(data))
    absent = ("Number of clusters", "What the text did", "Training", "No store was used")
    for words in (*absent, "Mean confidence", "confidence", "gene coverage", "in this run"):
        assert words not in page.words
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    links = {attributes["href"] for tag, attributes in page.elements if tag == "a" and attributes["href"][0] == "#"}
    assert links <= {f"#{one}" for one in ids}
    assert "Themes" in page.words
    assert page.payload["is_run"] is False


def test_cells_without_a_cluster_are_counted_and_are_in_no_figure_of_a_cluster(data):
    out = np.arange(60) < 6
    page = Page(render_report(dataclasses.replace(
        data, clusters=np.where(out, -1, data.clusters), confidence=np.where(out, np.nan, data.confidence)
    )))  # fmt: skip
    assert "6 of 60 cells have no cluster (10.0 %)" in page.words
    assert "in 54 of the 67 cells" in page.words
    column = page.payload["columns"][0]
    assert (column["names"][-1], column["sizes"], column["n_none"]) == ("no cluster", [18, 18, 18, 6], 6)
    assert len(column["colors"]) == 3
    codes = np.frombuffer(base64.b64decode(column["values"]), "<u4")
    assert (codes == np.where(out, 3, data.clusters)).all()
    kept = dataclasses.replace(
        data, clusters=data.clusters[6:], confidence=data.confidence[6:], cell_ids=data.cell_ids[6:],
        layouts=(dataclasses.replace(data.layouts[0], coordinates=data.layouts[0].coordinates[6:]),),
    )  # fmt: skip
    masked = dataclasses.replace(data, clusters=np.where(out, -1, data.clusters))
    expression = data.values.expression.tocsr()
    without = by_cluster(expression[6:], kept.clusters, n_clusters=3)
    assert np.array_equal(by_cluster(expression, masked.clusters, n_clusters=3), without)
    assert [view["confidence"] for view in cluster_views(masked)] == pytest.approx(
        [view["confidence"] for view in cluster_views(kept)]
    )


def test_what_does_not_stand_out_from_chance_is_not_a_finding():
    marker = {"name": "WEAK", "log2_fold_change": 2.0, "p_adjusted": 0.3, "fraction_in": 0.5, "fraction_out": 0.1}
    absent = marker | {"name": "ABSENT", "log2_fold_change": -2.0, "p_adjusted": 1e-9}
    genes = (("WEAK", 1.0, "By luck."),)
    word = {"term": "luck", "score": 1.0, "p_value": 0.01, "p_adjusted": 0.4, "genes": genes}
    data = dataclasses.replace(make_data(n_clusters=2), markers=((marker,), (absent,)), words=((word,), ()))
    data = dataclasses.replace(data, evidence=())
    words = Page(render_report(data)).words
    assert words.count("No significant marker gene.") == 2
    assert words.count("No significant word.") == 2
    assert "not significant" in words


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layouts": (Layout(name="UMAP", coordinates=np.full((60, 2), np.nan)),)}, "NaN or infinity"),
        ({"confidence": np.full(60, 1.5)}, r"confidence must lie in \[0, 1\], got 1.5"),
        ({"confidence": np.full(60, np.nan)}, r"confidence must lie in \[0, 1\]"),
    ],
)
def test_data_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(make_data(), **change)


def test_a_share_above_one_is_refused():
    with pytest.raises(ValueError, match=r"share_hvgs must lie in \[0, 1\], got 93"):
        dataclasses.replace(make_data(), coverage=make_data().coverage | {"share_hvgs": 93.0})


def test_a_file_is_replaced_only_if_allowed_and_never_left_in_part(tmp_path, data):
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(InputUnusable, match=r"report\.html exists .* this result is in \S+/report-2\.html"):
        write_report(data, path)
    (tmp_path / "report-2.html").unlink()
    assert path.read_text() == "mine"
    write_report(data, path, overwrite=True)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(InputUnusable, match="absent is not a folder; make it first"):
        write_report(data, tmp_path / "absent" / "report.html")


def test_a_file_name_that_is_not_utf8_can_be_written(tmp_path):
    data = make_data()
    source = os.fsdecode(b"cells-\xff.h5ad")
    write_report(dataclasses.replace(data, input=data.input | {"source": source}), tmp_path / "r.html")
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
    """OKLab (Ottosson 2020) of #rrggbb colors as an eye with this vision sees them."""
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
        assert contrast(color, "#15181c") >= 3
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
        (p_value(1.26e-9), "1.3e-09", "1.26e-09"),
        (p_value(9.3e-185), "&lt; 1e-16", "9.3e-185"),
        (p_value(0.0), "&lt; 1e-16", "0.0"),
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
    left, top, right, bottom = chart["frame"]
    points = np.array([[float(at) for at in pair.split(" ")] for pair in chart["path"][1:].split("L")])
    finite = np.array([value for value in values if math.isfinite(value)])
    assert len(points) == len(finite)
    assert np.all((points[:, 0] >= left) & (points[:, 0] <= right) & (points[:, 1] >= top) & (points[:, 1] <= bottom))
    assert np.all(np.diff(points[:, 0]) > 0)
    if len(chart["y_ticks"]) > 1 and np.ptp(finite) > 1e-3:  # the labels hold 4 digits
        (low_y, low), (high_y, high) = [(y, float(text)) for y, text in (chart["y_ticks"][0], chart["y_ticks"][-1])]
        read_off = low + (points[:, 1] - low_y) / (high_y - low_y) * (high - low)
        assert np.allclose(read_off, finite, atol=2e-3 * max(abs(low), abs(high), high - low))


def test_a_curve_is_summed_up_and_one_without_a_point_refused():
    chart = line_chart([(2.0, 1.0), (5.0, 4.0), (8.0, 2.0)], title="t", x_label="k", y_label="score")
    assert "highest 4 at 5" in chart["summary"]
    with pytest.raises(ValueError, match="no finite point"):
        line_chart([(1.0, math.nan)], title="t", x_label="x", y_label="y")


@given(sentence=st.text(max_size=60), term=st.text(max_size=8))
def test_cutting_at_a_term_loses_nothing(sentence, term):
    assert "".join(piece for piece, _ in split_at_term(sentence, term)) == sentence


def test_a_term_is_found_across_case_plural_and_hyphen_but_not_inside_words():
    pieces = split_at_term("T-cells and t cell lines, not platelet cells", "t cell")
    assert [piece for piece, is_term in pieces if is_term] == ["T-cells", "t cell"]
    assert split_at_term("a (b", "(b") == [("a ", False), ("(b", True)]
