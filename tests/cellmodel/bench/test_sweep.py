"""A sweep: one thing changed at a time, by the mechanism of the benchmark; corruptions are seeded and of their size."""

import json

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from cellmodel.bench.changes import (
    DROP_CELLS,
    DROPOUT,
    SETTINGS,
    THIN,
    UNCHANGED,
    Change,
    changed_cells,
    changed_config,
    default_of,
    parse_changes,
    without_repeats,
)
from cellmodel.bench.jobs import BenchConfig, DataSet
from cellmodel.bench.runner import run_bench
from cellmodel.bench.tables import changes_markdown, paired_rows
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable, UnknownName
from cellmodel.io.cells import ReadConfig, cells_from_anndata
from cellmodel.nn.modules import layer_similarities, mean_cosine
from tests.robust.bad_files.cells import cells as make_cells
from tests.support.demo import variable_demo_cells
from tests.support.in_process import call, call_json


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    where = tmp_path_factory.mktemp("sweep") / "some.h5ad"
    variable_demo_cells()[:150].write_h5ad(where)
    return where


def counts():
    return cells_from_anndata(make_cells())


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("n_top_genes=500,1000", [("n_top_genes", 500), ("n_top_genes", 1000)]),
        ("n_pcs=10", [("n_components", 10)]),
        ("metric=euclidean", [("metric", "euclidean")]),
        ("learning_rate=1e-2", [("learning_rate", 0.01)]),
        ("epochs=5", [("epochs", 5)]),
        ("low_data=true", [("low_data", True)]),
        ("knowledge=none,random", [("knowledge", "none"), ("knowledge", "random")]),
    ],
)
def test_settings_are_read_by_their_type_and_change_one_value(text, changes):
    assert parse_changes(text) == changes
    for change in parse_changes(text):
        before, after = RunConfig(), changed_config(RunConfig(), change)
        assert before != after
        assert changed_config(after, Change(change.setting, default_of(change.setting))) == before


@pytest.mark.parametrize(
    ("text", "kind", "why"),
    [
        ("n_top_gene=5", UnknownName, "did you mean 'n_top_genes'"),
        ("theta=1", UnknownName, "n_neighbors"),
        ("n_top_genes=many", ValueError, "n_top_genes is a whole number, not 'many'"),
        ("n_top_genes=0", ValueError, "n_top_genes must be >= 1"),
        ("metric=cosin", ValueError, "did you mean 'cosine'"),
        ("low_data=1", ValueError, "one of true, false"),
        *((f"thin={value}", ValueError, "thin takes fractions") for value in ("1", "0", "1.5", "-0.1", "nan")),
        ("thin=half", ValueError, "thin is a number, not 'half'"),
        ("n_top_genes", ValueError, "KEY=a,b,c"),
        ("n_top_genes=", ValueError, "KEY=a,b,c"),
    ],
)
def test_a_setting_that_cannot_be_changed_so_is_refused(text, kind, why):
    with pytest.raises(kind, match=why):
        parse_changes(text)


def test_what_the_run_has_already_is_no_change():
    asked = parse_changes(["n_top_genes=500,2000,500", "thin=0.5"])
    assert without_repeats(asked) == (Change("n_top_genes", 500), Change(THIN, 0.5))


def test_every_setting_is_one_of_a_run():
    names = json.dumps(RunConfig(training=changed_config(RunConfig(), Change("epochs", 3)).training).to_dict())
    assert all(f'"{name}"' in names for name in SETTINGS if name not in {"n_pcs", *UNCHANGED})


def test_corruptions_take_the_share_that_they_name_and_repeat_by_seed():
    cells = counts()
    total = cells.matrix.sum()
    thinned, rows = changed_cells(cells, Change(THIN, 0.25), seed=0)
    deviation = np.sqrt(total * 0.25 * 0.75)
    assert abs(thinned.matrix.sum() - 0.25 * total) < 4 * deviation
    assert (thinned.matrix > cells.matrix).nnz == 0
    assert rows.tolist() == list(range(cells.shape[0]))
    dropped, _ = changed_cells(cells, Change(DROPOUT, 0.5), seed=0)
    assert (dropped.matrix != cells.matrix.multiply(dropped.matrix > 0).tocsr()).nnz == 0
    assert abs(dropped.matrix.nnz - cells.matrix.nnz / 2) < 4 * np.sqrt(cells.matrix.nnz / 4)
    fewer, kept = changed_cells(cells, Change(DROP_CELLS, 0.25), seed=0)
    assert fewer.shape[0] == len(kept) == round(0.75 * cells.shape[0])
    assert (fewer.matrix != cells.matrix[kept]).nnz == 0
    assert fewer.adata.obs_names.tolist() == cells.adata.obs_names[kept].tolist()
    for change in (Change(THIN, 0.25), Change(DROPOUT, 0.5), Change(DROP_CELLS, 0.25)):
        first, again, other = (changed_cells(cells, change, seed=seed)[0].matrix for seed in (0, 0, 1))
        assert (first != again).nnz == 0
        assert first.shape != other.shape or (first != other).nnz > 0


def test_only_counts_are_thinned():
    adata = make_cells()
    adata.X = adata.X / 3.0
    with pytest.raises(InputUnusable, match="`dropout`"):
        changed_cells(cells_from_anndata(adata, ReadConfig(values="linear")), Change(THIN, 0.5), seed=0)


def test_mean_cosine_is_that_of_all_pairs():
    z = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs = [torch.cosine_similarity(z[i], z[j], dim=0) for i in range(7) for j in range(7) if i != j]
    assert mean_cosine(z) == pytest.approx(float(torch.stack(pairs).mean()))
    assert mean_cosine(torch.ones(4, 2)) == pytest.approx(1)
    assert np.isnan(mean_cosine(torch.ones(1, 2)))


def test_layers_that_pass_messages_are_named_by_their_model_and_the_last_pass_counts():
    from cellmodel.nn.graphs import GraphAutoencoder, GraphConvolution, csr_tensor

    model, graph, other = GraphAutoencoder((4, 3, 2)), csr_tensor(identity(5)), csr_tensor(identity(6))
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    with layer_similarities(5) as found:
        model.encoder(z, graph)  # with gradients: a step of the training
        with torch.no_grad():
            model.encoder(torch.ones(5, 4), graph)
            last = model.encoder(z, graph)
            GraphConvolution(4, 2, propagate_first=True)(torch.ones(6, 4), other)
    assert list(found) == ["0", "1"]
    assert found["1"] == pytest.approx(mean_cosine(last))


def identity(n_cells):
    return sp.identity(n_cells, format="csr", dtype=np.float32)


def sweep(path, output, *changes, label_key="bulk_labels", **more):
    settings = {"variants": ("pca-kmeans",), "output": output, "seeds": (0, 1), "n_clusters": ("given",)} | more
    return run_bench([DataSet(name="some", path=path, label_key=label_key)], BenchConfig(changes=changes, **settings))


@pytest.mark.slow
def test_a_value_more_computes_that_value_alone_and_differences_are_paired(path, tmp_path):
    genes, cells = Change("n_top_genes", 200), Change(DROP_CELLS, 0.5)
    first = sweep(path, tmp_path / "out", genes)
    assert (first.n_reused, [row["setting"] for row in first.rows]) == (0, ["", "", "n_top_genes", "n_top_genes"])
    second = sweep(path, tmp_path / "out", genes, cells)
    assert (second.n_reused, second.rows[:4]) == (2, first.rows)
    assert [row["n_cells"] for row in second.rows] == [150] * 4 + [75] * 2
    complete, changed, _ = paired_rows(second.rows)
    values = [row["ari"] for row in second.rows[:4]]
    assert complete.mean["same_clusters"] == 1
    assert changed.difference["ari"] == pytest.approx(np.mean([values[2] - values[0], values[3] - values[1]]))
    alone = run_bench(
        [DataSet(name="some", path=path, label_key="bulk_labels")],
        BenchConfig(variants=("pca-kmeans",), output=tmp_path / "bench", seeds=(0, 1), n_clusters=("given",)),
    )
    assert [row["ari"] for row in alone.rows] == values[:2]
    assert "| some | pca-kmeans | n_top_genes 200 | " in changes_markdown(second.rows)


@pytest.mark.slow
def test_without_labels_runs_are_compared_with_the_complete_one(path, tmp_path):
    found = sweep(path, tmp_path / "out", Change(DROPOUT, 0.3), label_key=None, seeds=(0,), n_clusters=("5",))
    assert "ari" not in found.rows[0]
    assert [row["same_clusters"] < 1 for row in found.rows] == [False, True]
    assert all(row["n_clusters"] == 5 for row in found.rows)


@pytest.mark.slow
def test_layers_of_graph_recipes_are_in_the_table(path, tmp_path):
    found = sweep(path, tmp_path / "out", Change("epochs", 2), variants=("scrcl",), seeds=(0,))
    layers = [name for name in found.rows[0] if name.startswith("cosine.")]
    assert layers == [f"cosine.{name}" for name in ("pcs", "smoothed", "graph_first", "graph_second", "features")]
    assert found.rows[0]["cosine.graph_second"] != found.rows[1]["cosine.graph_second"]


@pytest.mark.slow
def test_the_command_writes_tables(path, tmp_path):
    args = ["bench", path, "--recipes", "pca-kmeans", "--seeds", "0", "--set", "n_pcs=5", "--drop-cells", "0.2"]
    content = call_json("cellmodel", *args, "--truth", "bulk_labels", "-o", tmp_path / "out")
    assert [(row["setting"], row["k"]) for row in content["rows"]] == [
        ("", "given"),
        ("n_components", "given"),
        ("drop_cells", "given"),
    ]
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"] == content["rows"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "nothing is to be scored"),
        (["--set", "n_gene=3"], "did you mean"),
        (["--thin", "2"], "between 0 and 1"),
        (["--set", "n_pcs=5", "--n-clusters", "given"], "--label-key"),
        (["--set", "n_pcs=5", "--n-clusters", "few"], "--n-clusters is a number"),
    ],
)
def test_wrong_usage_of_the_command(options, why, path, tmp_path):
    code, _, err = call("cellmodel", "bench", path, "-o", tmp_path / "out", *options)
    assert (code, why in err.replace("\n", " ")) == (2, True), err
