"""The benchmark: one protocol, resumable, labels for scoring alone, tables that can be recomputed by hand."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

import cellmodel as cm
import genekb
from cellmodel.bench.jobs import BenchConfig, find_datasets, parse_variant, run_job, variant_name
from cellmodel.bench.metrics import score
from cellmodel.bench.runner import plan_jobs, run_bench
from cellmodel.bench.tables import benchmark_markdown, compare
from cellmodel.core.errors import InputUnusable
from cellmodel.io.formats.anndata import read_anndata
from genekb.core.errors import NotAvailable
from tests.support.demo import variable_demo_cells
from tests.support.in_process import call, call_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two labeled files: some of the demo's cells, and the same with labels permuted."""
    where = tmp_path_factory.mktemp("labeled")
    cells = variable_demo_cells()[:150].copy()
    cells.obs["cell_type"] = cells.obs["bulk_labels"].astype(str)
    cells.write_h5ad(where / "a.h5ad")
    cells.obs["cell_type"] = cells.obs["cell_type"].to_numpy()[np.random.default_rng(0).permutation(150)]
    cells.write_h5ad(where / "b.h5ad")
    return where


def datasets(folder):
    return find_datasets(folder, listing=None, label_key="cell_type")


def config(tmp_path, **choices):
    settings = {"variants": ("pca-kmeans", "pca-kmeans+gmm"), "output": tmp_path / "out", "seeds": (0, 1)}
    return BenchConfig(**settings | choices)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("fused", ("fused", "real", "own")),
        ("scrcl+leiden", ("scrcl", "real", "leiden")),
        ("fused+leiden@shuffled", ("fused", "shuffled", "leiden")),
        ("genept-w@none", ("genept-w", "none", "own")),
    ],
)
def test_a_variant_is_read_and_written_alike(text, parts):
    assert parse_variant(text) == parts
    assert variant_name(*parts) == text


@pytest.mark.parametrize("text", ["nosuch", "fused+nosuch", "fused@nosuch", "fused@none+leiden", ""])
def test_an_unknown_variant_is_refused(text):
    with pytest.raises(InputUnusable, match=r"not one of|does not read"):
        parse_variant(text)


@pytest.mark.slow
def test_scores_are_those_of_the_public_functions(folder, tmp_path):
    job = plan_jobs(datasets(folder)[:1], config(tmp_path))[0]
    rows, _ = run_job(job)
    assert [(row["recipe"], row["k"], row["seed"]) for row in rows][:3] == [
        ("pca-kmeans", "given", 0),
        ("pca-kmeans+gmm", "given", 0),
        ("pca-kmeans", "estimated", 0),
    ]
    cells = read_anndata(folder / "a.h5ad")
    n_types = cells.obs["cell_type"].nunique()
    cm.tl.cluster(cells, None, n_clusters=n_types, recipe="pca-kmeans", knowledge="none", random_state=1)
    expected = score(cells.obs["cell_type"], cells.obs["cellmodel"])
    found = next(row for row in rows if (row["recipe"], row["k"], row["seed"]) == ("pca-kmeans", "given", 1))
    assert (found["accuracy"], found["nmi"], found["n_clusters"]) == (expected.accuracy, expected.nmi, n_types)
    assert found["mean"] == pytest.approx((expected.accuracy + expected.nmi + expected.ari) / 3)


@pytest.mark.slow
def test_a_second_run_computes_nothing_and_another_setting_does(folder, tmp_path):
    first = run_bench(datasets(folder), config(tmp_path))
    assert (first.n_reused, len(first.rows), first.failures) == (0, 2 * 2 * 2 * 2, ())
    second = run_bench(datasets(folder), config(tmp_path))
    assert (second.n_reused, second.rows) == (2, first.rows)
    (tmp_path / "out" / "jobs" / "a--pca-kmeans.json").unlink()
    third = run_bench(datasets(folder), config(tmp_path))
    assert third.n_reused == 1
    assert [row["ari"] for row in third.rows] == [row["ari"] for row in first.rows]
    assert run_bench(datasets(folder), config(tmp_path, seeds=(0,))).n_reused == 0


@pytest.mark.slow
def test_labels_change_the_scores_and_not_the_clusters(folder, tmp_path):
    rows = run_bench(datasets(folder), config(tmp_path, seeds=(0,))).rows
    by_data = {
        name: [row["n_clusters"] for row in rows if row["data"] == name and row["k"] == "estimated"]
        for name in ("a", "b")
    }
    assert by_data["a"] == by_data["b"]
    given = {row["data"]: row["ari"] for row in rows if row["k"] == "given" and row["recipe"] == "pca-kmeans"}
    assert given["a"] > 0.2
    assert abs(given["b"]) < 0.05


@pytest.mark.slow
def test_what_cannot_be_done_is_listed_and_the_rest_goes_on(folder, tmp_path):
    found = run_bench(datasets(folder)[:1], config(tmp_path, variants=("genept-w", "pca-kmeans"), seeds=(0,)))
    assert [(data, recipe) for data, recipe, _ in found.failures] == [("a", "genept-w")]
    assert "`kb`" in found.failures[0][2]
    assert {row["recipe"] for row in found.rows} == {"pca-kmeans"}
    assert "genept-w: " in (tmp_path / "out" / "results.md").read_text()


def test_tables_are_means_over_seeds_then_data_sets():
    rows = [
        row("one", "fused", [0.9, 0.7], n_seeds=2) + row("two", "fused", [0.6], n_seeds=1),
        row("one", "pca-leiden", [0.5], n_seeds=1) + row("two", "pca-leiden", [0.7], n_seeds=1),
    ]
    every = [one for part in rows for one in part]
    found = compare(pd.DataFrame(every), "fused", "pca-leiden")
    assert found.difference == pytest.approx(np.mean([0.8 - 0.5, 0.6 - 0.7]))
    assert (found.n_better, found.n_data) == (1, 2)
    assert found.p_value == pytest.approx(wilcoxon([0.3, -0.1]).pvalue)
    text = benchmark_markdown(every)
    assert "| fused | 2 | 0.700 |" in text
    assert "| fused | +0.100 | 1 of 2 |" in text
    assert "| one | clustering | fused | 2.0 / 3 | 0.800 ± 0.100 |" in text


def row(data, recipe, values, *, n_seeds):
    names = ("accuracy", "nmi", "ari", "macro_f1", "balanced_accuracy", "mean")
    shared = {"data": data, "origin": "clustering", "recipe": recipe, "k": "given", "n_clusters": 2, "n_types": 3}
    measured = {"seconds": 1.0, "peak_mb": 100}
    assert len(values) == n_seeds
    return [shared | measured | dict.fromkeys(names, value) | {"seed": seed} for seed, value in enumerate(values)]


def test_a_listing_says_where_labels_come_from_and_which_bytes_are_meant(folder, tmp_path):
    listing = tmp_path / "list.toml"
    listing.write_text('[first]\nfile = "a.h5ad"\nlabel_key = "bulk_labels"\nlabels = "sorting"\n')
    (found,) = find_datasets(folder, listing=listing, label_key="cell_type")
    assert (found.name, found.label_key, found.origin) == ("first", "bulk_labels", "sorting")
    listing.write_text('[first]\nfile = "a.h5ad"\nsha256 = "00"\n')
    with pytest.raises(InputUnusable, match="sha256"):
        find_datasets(folder, listing=listing, label_key="cell_type")
    with pytest.raises(InputUnusable, match="there are a, b"):
        find_datasets(folder, listing=None, label_key="cell_type", names=("c",))


def test_the_command_writes_the_same_rows_in_three_forms(folder, tmp_path):
    output = tmp_path / "results"
    args = ["bench", folder, "--recipes", "pca-kmeans", "--seeds", "0-1", "--data", "a", "-o", output]
    content = call_json("cellmodel", *args, "--n-clusters", "given")
    assert [row["seed"] for row in content["rows"]] == [0, 1]
    assert json.loads((output / "results.json").read_text())["rows"] == content["rows"]
    assert pd.read_csv(output / "results.csv", dtype=str)["ari"].map(float).to_list() == [
        row["ari"] for row in content["rows"]
    ]


@pytest.mark.slow
def test_text_is_read_from_the_store(folder, tmp_path):
    build = genekb.BuildConfig(name="demo", models=("hash-64",))
    store = genekb.build(genekb.read_demo_table(), build, home=tmp_path / "home").folder
    choices = {"variants": ("genept-w", "genept-w@random"), "seeds": (0,), "stores": (store,), "n_clusters": ("given",)}
    rows = run_bench(datasets(folder)[:1], config(tmp_path, **choices)).rows
    assert [row["recipe"] for row in rows] == ["genept-w", "genept-w@random"]
    assert rows[0]["nmi"] != rows[1]["nmi"]


def test_without_its_package_integration_is_not_benchmarked(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scib_metrics", None)
    with pytest.raises(NotAvailable, match="scib-metrics"):
        run_bench(datasets(folder), config(tmp_path, batch_key="batch"))
    assert not (tmp_path / "out").exists()


def test_the_table_of_integration_has_each_recipe_beside_both_rivals():
    scores = {"scib": 0.8, "scib_pca": 0.5, "scib_harmony": 0.7}
    columns = {f"{column}_{name}": mean for column, mean in scores.items() for name in ("overall", "bio", "batch")}
    rows = [each | columns for each in row("one", "fused", [0.9, 0.7], n_seeds=2)]
    rows += [
        each | {name: mean + 0.1 for name, mean in columns.items()} for each in row("two", "fused", [0.6], n_seeds=1)
    ]
    lines = benchmark_markdown(rows).splitlines()
    start = lines.index("### Batches integrated: scIB's scores of the embeddings")
    assert lines[start + 4 : start + 7] == [
        "| PCA, not integrated | 2 | 0.550 | 0.550 | 0.550 |",
        "| PCA, Harmony | 2 | 0.750 | 0.750 | 0.750 |",
        "| fused | 2 | 0.850 | 0.850 | 0.850 |",
    ]
    assert "scIB" not in benchmark_markdown(row("one", "fused", [0.9], n_seeds=1))


@pytest.mark.slow
def test_recipes_that_integrate_are_scored_beside_plain_harmony(real_data, tmp_path):
    pytest.importorskip("scib_metrics", exc_type=ImportError)
    (tmp_path / "in").mkdir()
    read_anndata(real_data / "batches" / "segerstolpe_3donors.h5ad").write_h5ad(tmp_path / "in" / "pancreas.h5ad")
    given = ["--recipes", "pca-kmeans", "--seeds", "0", "--n-clusters", "given", "-o", tmp_path / "out"]
    found = call_json("cellmodel", "bench", tmp_path / "in", *given, "--batch-key", "batch")
    (scored,) = found["rows"]
    assert scored["scib_overall"] > scored["scib_pca_overall"]
    assert scored["scib_harmony_batch"] > scored["scib_pca_batch"]
    assert scored["scib_overall"] == pytest.approx(0.6 * scored["scib_bio"] + 0.4 * scored["scib_batch"])
    assert "| PCA, Harmony | 1 |" in (tmp_path / "out" / "results.md").read_text()
    code, _, err = call("cellmodel", "bench", tmp_path / "in", *given, "--batch-key", "bach")
    assert (code, "did you mean 'batch'" in err) == (3, True)
