"""What a report says of samples: whose cells are drawn where, what is counted, flagged, left out, and said."""

import base64
import dataclasses
import json
import logging
from importlib.resources import files

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import cellmodel as cm
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import ReadConfig, cells_from_anndata
from cellmodel.pl.report.collect.frames import report_data
from cellmodel.pl.report.page.render import render_report
from cellmodel.pl.report.page.samples import sample_view
from cellmodel.pl.report.page.view import cluster_views
from cellmodel.pl.report.write import report_file
from tests.cellmodel.pl.test_report import Page
from tests.support.browser import open_report
from tests.support.in_process import call
from tests.support.report_data import HOSTILE, make_data, with_samples

N_CELLS = 400


def make_cells():
    """Cells of five samples in two conditions and two clusters of another program; cluster b is nearly s4 alone."""
    rng = np.random.default_rng(0)
    sample = np.array([f"s{one}" for one in rng.choice([1, 2, 3, 4, 5], N_CELLS, p=[0.3, 0.2, 0.2, 0.1, 0.2])])
    cluster = np.where(sample == "s4", "b", "a")
    cluster[:2] = "b"
    rates = np.where((cluster == "b")[:, None] == (np.arange(30) < 15), 6.0, 1.0)
    rates[:, 0] *= np.where(np.isin(sample, ["s2", "s3"]), 6.0, 1.0)  # G0 is higher in the stimulated ones
    adata = anndata.AnnData(sp.csr_matrix(rng.poisson(rates).astype(np.float32)))
    adata.var_names, adata.obs_names = [f"G{gene}" for gene in range(30)], [f"c{cell}" for cell in range(N_CELLS)]
    adata.obs["leiden"], adata.obs["sample"] = pd.Categorical(cluster), sample
    adata.obs["stim"] = np.where(np.isin(sample, ["s2", "s3"]), "stim", "ctrl")
    adata.obsm["X_umap"] = rng.normal(size=(N_CELLS, 2)).astype(np.float32)
    return adata


def read(adata, **choice):
    return report_data(cells_from_anndata(adata, ReadConfig()), cluster_key="leiden", **choice)


def view_of(data):
    return sample_view(data, cluster_views(data))


@pytest.fixture
def cells():
    return make_cells()


def test_the_page_and_script_of_a_report_without_samples_hold_nothing_of_samples():
    page = Page(render_report(make_data()))
    style, _, script = (text for _, text in page.inline)
    folder = files("cellmodel.pl.report.page")
    assert script == folder.joinpath("report.js").read_text(encoding="utf-8")
    assert style == folder.joinpath("report.css").read_text(encoding="utf-8")
    assert not {"samples", "conditions"} & {attributes.get("id") for _, attributes in page.elements}
    assert not {"samples", "sample_key"} & page.payload.keys()


def test_a_file_without_a_key_of_samples_has_no_samples(cells):
    data = read(cells)
    assert (data.samples, data.mixing, data.composition, data.effects) == (None, None, None, ())


def test_every_text_and_figure_of_samples_is_on_the_page_and_hostile_text_makes_no_element():
    data = with_samples(make_data())
    page = Page(render_report(data))
    clean = Page(render_report(with_samples(make_data(text=("plain",)), text=("plain",))))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in clean.elements]
    assert page.open == []
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    one = data.effects[0]["comparisons"][2]
    texts = [text for pair in data.samples.names for text in pair]
    texts += [data.samples.key, data.mixing["rows"][0]["batch"], *data.composition["notes"], one["comparison"]]
    texts += [one["up"][0]["gene"], one["down"][0]["gene"], one["themes_up"][0]["theme"], HOSTILE[3]]
    assert [text for text in texts if " ".join(text.split()) not in page.words] == []
    shown = np.array(sorted(page.figures))
    figures = [one["up"][0]["log2_fold_change"], one["down"][0]["log2_fold_change"], one["n_cells"], one["n_up"]]
    figures += [data.mixing["rows"][0][name] for name in ("share", "before", "after", "if_mixed")]
    figures += [data.composition["rows"][0][name] for name in ("mean_share", "ratio", "statistic", "p_adjusted")]
    figures += [one["themes_up"][0]["score"], one["themes_up"][0]["genes"][0][1]]
    assert [figure for figure in figures if not np.isclose(shown, figure, rtol=1e-12).any()] == []


def test_links_and_labels_of_samples_have_a_target():
    page = Page(render_report(with_samples(make_data())))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    links = {attributes["href"][1:] for tag, attributes in page.elements if tag == "a"}
    named = {attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes}
    assert links | named <= set(ids)
    assert len(ids) == len(set(ids))
    assert {"samples", "conditions"} <= links


def test_samples_are_the_first_color_as_categories_whatever_their_column_holds(cells):
    cells.obs["donor"] = np.where(cells.obs["sample"] == "s1", 1.0, 2.0)
    cells.obs.loc["c7", "donor"] = np.nan
    data = read(cells, sample_key="donor")
    first = next(iter(data.colors))
    assert (first, set(data.colors[first])) == ("donor", {"1", "2", "missing"})
    assert data.samples.codes[7] == -1
    page = Page(render_report(data))
    assert "1 cell without a value in donor" in page.words
    codes = np.frombuffer(base64.b64decode(page.payload["samples"]), "<u4")
    assert codes.tolist() == np.where(data.samples.codes < 0, 2, data.samples.codes).tolist()


def test_bars_have_the_share_of_each_cluster_in_a_sample_and_nearly_pure_clusters_are_named(cells):
    view = view_of(read(cells, sample_key="sample"))["about"]
    expected = pd.crosstab(cells.obs["sample"], cells.obs["leiden"], normalize="index")
    for unit in view["bars"]:
        assert unit["shares"] == pytest.approx(expected.loc[unit["name"]].tolist())
        assert sum(part["width"] for part in unit["segments"]) == pytest.approx(100)
        assert unit["segments"][0]["start"] == 0
    ((cluster, sample, share),) = view["alone"]
    own = cells.obs.loc[cells.obs["leiden"] == "b", "sample"]
    assert (cluster["name"], sample, share) == ("b", "s4", pytest.approx((own == "s4").mean()))
    assert "Cluster b is nearly of one sample" in Page(render_report(read(cells, sample_key="sample"))).words


def test_conditions_that_were_compared_split_the_samples_the_reference_first(cells):
    cm.tl.composition(cells, sample_key="sample", cluster_key="leiden", condition_key="stim", reference="stim")
    data = read(cells)
    assert (data.samples.key, data.samples.condition_key) == ("sample", "stim")
    assert data.samples.names == (("s2", "stim"), ("s3", "stim"), ("s1", "ctrl"), ("s4", "ctrl"), ("s5", "ctrl"))
    own = [data.samples.names[code] for code in data.samples.codes]
    assert own == list(zip(cells.obs["sample"], cells.obs["stim"], strict=True))
    stored = cells.uns["cellmodel_composition"]["clusters"]
    assert [row["p_adjusted"] for row in data.composition["rows"]] == stored["p_adjusted"].tolist()
    assert "Composition by condition" in Page(render_report(data)).words


def test_effects_are_the_significant_genes_of_either_direction_and_can_color_the_map(cells, tmp_path):
    keys = {"sample_key": "sample", "cluster_key": "leiden", "condition_key": "stim"}
    cm.tl.markers(cells, **keys, reference="ctrl", min_cells=1)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    data = read(anndata.read_h5ad(tmp_path / "cells.h5ad"))
    (found,) = data.effects
    by_cluster = {one["cluster"]: one for one in found["comparisons"]}
    stored = cells.uns["cellmodel_conditions"]["markers"].query("p_adjusted <= .05 and cluster == 'a'")
    up, down = stored.query("log2_fold_change > 0"), stored.query("log2_fold_change < 0")
    assert "G0" in set(up["gene"])
    assert [row["gene"] for row in by_cluster["a"]["up"]] == up["gene"].tolist()[:15]
    assert [row["gene"] for row in by_cluster["a"]["down"]] == down["gene"].tolist()[::-1][:15]
    assert {"G0"} <= set(data.values.genes)
    words = Page(render_report(data)).words
    assert "Effects of conditions" in words
    for note in cells.uns["cellmodel_conditions"]["notes"]:
        assert note in words


def test_themes_of_samples_are_preferred_to_those_of_cells_and_the_latter_are_said_to_be():
    data = with_samples(make_data())
    by_cells = ({**data.effects[0], "themes_of": "cells"},)
    without = ({**data.effects[0], "themes_of": ""},)
    warning = "Themes are from a comparison of cells, not of samples"
    assert warning not in Page(render_report(data)).words
    assert warning in Page(render_report(dataclasses.replace(data, effects=by_cells))).words
    assert (
        "cellmodel attribute --condition-key" in Page(render_report(dataclasses.replace(data, effects=without))).words
    )


def test_a_run_with_batches_shows_them_and_flags_clusters_of_nearly_one(cells):
    cells.obs["run"] = cells.obs["leiden"].cat.codes.astype(str).astype("category")
    row = {"n_cells": 9, "batch": "s1", "before": 0.7, "after": 0.4, "if_mixed": 0.3}
    rows = [{"cluster": name, "share": share, **row} for name, share in (("all", 0.5), ("0", 0.95), ("1", 0.96))]
    data = with_samples(make_data(text=("plain",)))
    data = dataclasses.replace(data, mixing={"key": "sample", "integration": "harmony", "rows": tuple(rows)})
    assert [one["is_flagged"] for one in view_of(data)["mixing"]["rows"]] == [False, False, True]
    assert "1 cluster is nearly of one batch" in Page(render_report(data)).words
    alike = dataclasses.replace(data, mixing={**data.mixing, "rows": tuple({**one, "share": 0.97} for one in rows)})
    assert not any(one["is_flagged"] for one in view_of(alike)["mixing"]["rows"])  # as the cells as a whole are
    none = dataclasses.replace(data, mixing={**data.mixing, "rows": tuple({**one, "before": np.nan} for one in rows)})
    assert "nothing was integrated" in Page(render_report(none)).words


def test_the_batch_key_of_a_run_is_taken_with_its_mixing(cells, tmp_path):
    cm.tl.cluster(cells, knowledge="none", n_clusters=2, recipe="pca-kmeans", batch_key="sample", key_added="run")
    cells.write_h5ad(tmp_path / "cells.h5ad")
    report_file(tmp_path / "cells.h5ad", tmp_path / "report.html", key_added="run")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    stored = cells.uns["run"]["batches"]["neighbors"]
    shown = np.array(sorted(page.figures))
    figures = stored[["share", "before", "after", "if_mixed"]].to_numpy(dtype=float).ravel()
    assert [one for one in figures if np.isfinite(one) and not np.isclose(shown, one, rtol=1e-9).any()] == []
    assert page.payload["sample_key"] == "sample"
    assert "before integration by harmony and after" in page.words


def test_files_that_were_read_as_one_are_the_samples(cells, tmp_path):
    paths = [tmp_path / "first.h5ad", tmp_path / "second.h5ad"]
    del cells.obs["sample"]
    for path, half in zip(paths, (cells[:250], cells[250:]), strict=True):
        half.copy().write_h5ad(path)
    given = ("--knowledge", "none", "--recipe", "pca-kmeans", "--n-clusters", "2", "-o", tmp_path / "out.h5ad")
    code, _, printed = call("cellmodel", "cluster", *paths, *given)
    assert code == 0, printed
    code, _, printed = call("cellmodel", "report", tmp_path / "out.h5ad", "-o", tmp_path / "report.html")
    assert code == 0, printed
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "2 samples by sample." in page.words
    assert {"first", "second"} <= set(page.words.split())
    assert "first.h5adfirst25030" in page.words  # in the table of the files, which replaces their notes
    assert "first.h5ad: 250 cells" not in page.words


def test_the_column_that_files_were_joined_by_is_that_of_the_samples_from_there_on(cells, tmp_path):
    cells.obs["donor"] = np.where(np.arange(len(cells)) % 2, "d1", "d2")
    paths, out = [tmp_path / "first.h5ad", tmp_path / "second.h5ad"], tmp_path / "out.h5ad"
    for path, half in zip(paths, (cells[:250], cells[250:]), strict=True):
        half.copy().write_h5ad(path)
    given = ("--knowledge", "none", "--recipe", "pca-kmeans", "--n-clusters", "2", "-o", out)
    call_ok("cluster", *paths, "--sample-key", "donor", "--batch-key", "sample", "--out-of-core", "yes", *given)
    call_ok("report", out, "-o", tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.payload["sample_key"] == "donor"
    assert "first.h5ad25030" in page.words
    printed = call_ok("markers", out, "--out-of-core", "yes", "-o", tmp_path / "m.h5ad")
    assert "samples: 'donor', by which the files were joined" in printed
    assert anndata.read_h5ad(tmp_path / "m.h5ad").uns["cellmodel_markers"]["params"]["sample_key"] == "donor"
    call_ok("composition", out, "-o", tmp_path / "shares.tsv")
    assert set(pd.read_csv(tmp_path / "shares.tsv", sep="\t")["sample"]) == {"d1", "d2"}
    call_ok("composition", out, "--cluster-key", "leiden", "-o", tmp_path / "leiden.tsv")


def test_samples_that_nothing_names_are_asked_for(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    for command in ("markers", "composition"):
        code, _, printed = call(
            "cellmodel", command, tmp_path / "cells.h5ad", "--cluster-key", "leiden", "-o", tmp_path / "out.tsv"
        )
        assert (code, printed.count("\n")) == (3, 1)
        assert "name their column of obs with --sample-key (it has: leiden, sample" in printed
        assert not (tmp_path / "out.tsv").exists()


def call_ok(*arguments):
    code, _, printed = call("cellmodel", *arguments)
    assert code == 0, printed
    return printed


def test_the_command_takes_a_key_and_names_the_nearest_one_of_a_key_that_is_not_there(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    report = ("cellmodel", "report", tmp_path / "cells.h5ad", "--cluster-key", "leiden")
    code, _, printed = call(*report, "--sample-key", "sample", "-o", tmp_path / "report.html")
    assert code == 0, printed
    assert "5 samples by sample." in Page((tmp_path / "report.html").read_text(encoding="utf-8")).words
    code, _, printed = call(*report, "--sample-key", "smaple", "-o", tmp_path / "other.html")
    assert code == 3
    assert "did you mean 'sample'?" in printed


def test_the_command_draws_small_maps_and_refuses_them_of_what_is_no_map(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    plot = ("cellmodel", "plot", tmp_path / "cells.h5ad", "--split-by", "sample", "-o", tmp_path / "map.svg")
    code, _, printed = call(*plot, "--kind", "umap", "--color", "leiden")
    assert code == 0, printed
    assert ">s5 (" in (tmp_path / "map.svg").read_text()
    code, _, printed = call(*plot, "--kind", "dotplot")
    assert code == 2
    assert "--split-by goes with --kind umap or embedding" in " ".join(printed.split())


def test_of_five_hundred_samples_the_largest_have_maps_and_bars_and_the_rest_is_counted():
    rng = np.random.default_rng(2)
    sizes = np.r_[np.full(12, 5), np.full(488, 2)]
    names = rng.permutation(np.repeat([f"d{number:03}" for number in range(500)], sizes))
    adata = anndata.AnnData(sp.csr_matrix(rng.poisson(1.0, (len(names), 20)).astype(np.float32)))
    adata.var_names, adata.obs_names = [f"G{one}" for one in range(20)], [f"c{one}" for one in range(len(names))]
    adata.obs["donor"], adata.obs["leiden"] = names, pd.Categorical(np.where(np.arange(len(names)) % 2, "a", "b"))
    adata.obsm["X_umap"] = rng.normal(size=(len(names), 2)).astype(np.float32)
    data = read(adata, sample_key="donor")
    view = view_of(data)["about"]
    assert [unit["name"] for unit in view["maps"]] == [f"d{number:03}" for number in range(12)]
    assert (len(view["bars"]), view["n_rest"], len(view["rest"])) == (40, 488, 60)
    page = Page(render_report(data))
    assert "The 12 with most cells of 500 have a map." in page.words
    assert "The 40 with most cells of 500 are shown." in page.words
    assert "and 428 more" in page.words
    (column,) = [one for one in page.payload["columns"] if one["name"] == "donor"]
    assert (len(column["names"]), len(column["colors"])) == (500, 60)
    assert not [why for why in data.left_out if why.startswith("donor")]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("sampel", r"no column 'sampel' in obs .*did you mean 'sample'\?\); name the sample of each cell"),
        ("leiden", "'leiden' is the column of the clusters; name that of the samples"),
        ("none", "no cell of .* has a sample in 'none'"),
        ("depth", "400 different values for 400 cells: measured values"),
    ],
)
def test_a_key_that_names_no_samples_is_refused(cells, key, message):
    cells.obs["none"], cells.obs["depth"] = pd.Categorical([None] * N_CELLS, categories=["a"]), np.arange(N_CELLS) * 1.5
    with pytest.raises(InputUnusable, match=message):
        read(cells, sample_key=key)


def test_what_a_record_names_and_the_file_no_more_holds_is_logged_and_left_out(cells, caplog):
    cm.tl.composition(cells, sample_key="sample", cluster_key="leiden", condition_key="stim")
    del cells.obs["sample"]
    with caplog.at_level(logging.WARNING):
        data = read(cells)
    assert data.samples is None
    assert data.composition is not None
    assert "the report shows no sample: " in caplog.text
    assert "Composition by condition" in Page(render_report(data)).words


@pytest.mark.parametrize(
    "content",
    [{}, 5, {"markers": 5, "comparisons": pd.DataFrame()}, {"comparisons": pd.DataFrame({"a": [1]})}],
)
def test_records_of_samples_that_are_not_whole_are_passed_over(cells, content):
    params = {"sample_key": "sample", "cluster_key": "leiden", "condition_key": "stim"}
    cells.uns["broken"] = {"params": params, **content} if isinstance(content, dict) else content
    data = read(cells)
    assert (data.composition, data.effects) == (None, ())


def test_what_was_compared_before_the_clusters_changed_is_said(cells):
    cm.tl.composition(cells, sample_key="sample", cluster_key="leiden", condition_key="stim")
    assert not [note for note in read(cells).input["notes"] if "other sizes" in note]
    cells.obs.loc[cells.obs_names[10:20], "leiden"] = "b"
    assert 'uns["cellmodel_composition"] was made when' in str(read(cells).input["notes"])


@pytest.mark.parametrize(
    ("condition", "samples", "more", "is_outdated"),
    [("stim", None, -3, False), ("", None, 0, False), ("", None, -3, True), ("", {"sample_key": "sample"}, -3, False),
     ("", {"sample_key": "sample"}, 3, True)],
)  # fmt: skip
def test_evidence_of_a_part_of_a_cluster_is_not_taken_for_that_of_other_clusters(
    cells, condition, samples, more, is_outdated
):
    rows = [
        {"cluster": name, "condition": condition, "against": "rest", "n_cells": size + more}
        for name, size in cells.obs["leiden"].value_counts().items()
    ]
    params = {"cluster_key": "leiden", "samples": samples}
    cells.uns["cellmodel_attribution"] = {"params": params, "groups": pd.DataFrame(rows)}
    assert any("other sizes" in note for note in read(cells).input["notes"]) == is_outdated


@pytest.fixture
def browser(tmp_path):
    data = with_samples(make_data(600))
    with open_report(data, tmp_path) as opened:
        yield opened


def colors_of(browser, unit):
    """Share of the pixels of a small map that are neither ground nor gray."""
    browser.settle()
    return browser.run(
        f"""(() => {{ const canvas = document.querySelectorAll(".small-map canvas")[{unit}];
        const copy = Object.assign(document.createElement("canvas"), {{width: canvas.width, height: canvas.height}});
        const reader = copy.getContext("2d", {{willReadFrequently: true}});
        reader.drawImage(canvas, 0, 0);
        const {{data}} = reader.getImageData(0, 0, copy.width, copy.height);
        let colored = 0;
        for (let i = 0; i < data.length; i += 4) {{
          const [red, green, blue] = data.slice(i, i + 3);
          colored += Math.max(red, green, blue) - Math.min(red, green, blue) > 60;
        }}
        return colored / (data.length / 4); }})()"""
    )


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_a_browser_draws_a_small_map_for_each_sample_at_every_width_and_theme(browser, width, dark):
    browser.look(width=width, dark=dark)
    assert browser.run("document.querySelectorAll('.small-map canvas').length") == 4
    assert all(0.002 < colors_of(browser, unit) < 0.6 for unit in range(4))
    assert browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


@pytest.mark.slow
def test_small_maps_follow_the_color_and_the_legend_of_the_map_and_samples_stand_next_to_clusters(browser):
    data = with_samples(make_data(600))
    first = browser.run(
        "[...document.querySelector('#color-by optgroup').children].map((option) => option.textContent)"
    )
    assert first == ["cluster", "confidence", data.samples.key]
    every = [colors_of(browser, unit) for unit in range(4)]
    browser.click("#legend button")
    assert all(colors_of(browser, unit) < before for unit, before in enumerate(every))
    browser.press("Escape")
    browser.click("#show-all")
    assert [colors_of(browser, unit) for unit in range(4)] == every
    browser.run("document.getElementById('zoom-in').click()")  # the large map alone moves
    assert [colors_of(browser, unit) for unit in range(4)] == every
    at = list(browser.run("[...document.querySelectorAll('#color-by option')].map((option) => option.textContent)"))
    assert at.count(data.samples.key) == 1
    browser.run(
        "(() => { const select = document.getElementById('color-by'); "
        f"select.value = [...select.options].find((one) => one.textContent === {json.dumps(data.samples.key)}).value; "
        "select.dispatchEvent(new Event('change')); })()"
    )
    assert browser.run("document.getElementById('legend-title').textContent") == data.samples.key
    legend = browser.run("[...document.querySelectorAll('#legend .legend-name')].map((one) => one.textContent)")
    assert set(legend) == {*(name for name, _ in data.samples.names), "missing"}


@pytest.mark.slow
def test_tables_of_samples_are_saved_with_all_digits(browser):
    data = with_samples(make_data(600))
    browser.run(
        """(() => { window.saved = {}; let last = null;
        URL.createObjectURL = (blob) => { last = blob; return "blob:here"; };
        HTMLAnchorElement.prototype.click = function () { window.saved[this.download] = last.text(); }; })()"""
    )
    browser.run("document.querySelectorAll('[data-download]').forEach((button) => button.click())")
    saved = dict(
        browser.run("Promise.all(Object.entries(window.saved).map(async ([name, text]) => [name, await text]))")
    )
    names = ("composition", "mixing", "composition-tests", "condition-genes", "condition-themes")
    tables = {name: [line.split("\t") for line in saved[f"{name}.tsv"].strip("\n").split("\n")] for name in names}
    assert [len(rows) for rows in tables.values()] == [1 + 4, 1 + 4, 1 + 3, 1 + 6, 1 + 3]
    assert tables["mixing"][1][0] == "all"
    assert tables["mixing"][2][0] == data.cluster_names[0]
    assert float(tables["mixing"][1][4]) == data.mixing["rows"][0]["before"]
    gene = data.effects[0]["comparisons"][0]["up"][0]
    saved_gene = dict(zip(tables["condition-genes"][0], tables["condition-genes"][1], strict=True))
    figures = {"log2 fold change": "log2_fold_change", "p": "p_value", "Adjusted p": "p_adjusted"}
    assert {name: float(saved_gene[name]) for name in figures} == {name: gene[key] for name, key in figures.items()}
    assert saved_gene["Comparison"] == data.effects[0]["comparisons"][0]["comparison"]
