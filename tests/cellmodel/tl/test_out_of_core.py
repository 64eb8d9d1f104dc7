"""Cells that stay in their file give what cells in memory give, and a run that was killed goes on."""

import hashlib
import signal
import time
from dataclasses import replace

import anndata
import h5py
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score

import cellmodel as cm
import genekb
from cellmodel.core.config import GraphConfig, PreprocessConfig, RunConfig, SemanticsConfig, SpatialConfig
from cellmodel.core.errors import InputUnusable, NotCounts, SlotTaken
from cellmodel.core.stages import Stages
from cellmodel.io import backed as stored
from cellmodel.io.cells import ReadConfig, count_entries, read_cells
from cellmodel.io.matrix import ValueKind, inspect_values
from cellmodel.io.writers import write_cells
from cellmodel.pp.blocks import read_backed_cells
from cellmodel.pp.features import fit_components
from cellmodel.pp.moments import detected_genes, highly_variable, scan
from cellmodel.pp.normalize import normalize_log1p
from cellmodel.recipes.registry import find_recipe, plugins, recipe_names
from cellmodel.tl._run import task as running
from cellmodel.tl._run.pipeline import run as pipeline
from cellmodel.tl.model.fitted import load_model, predict
from tests.support.demo import variable_demo_cells
from tests.support.grids import mostly_slow
from tests.support.processes import start

WHOLE = replace(find_recipe("pca-kmeans"), name="whole", out_of_core=False)
CONFIG = RunConfig(knowledge="none", preprocess=PreprocessConfig(n_top_genes=200), n_clusters=4)


def make_counts(n_cells=400, n_genes=300, seed=0):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 4, n_cells)
    rates = rng.gamma(0.4, 1.0, (4, n_genes))
    depth = rng.lognormal(0, 0.3, (n_cells, 1))
    return sp.csr_matrix(rng.poisson(rates[group] * depth).astype(np.float32)), group


def make_cells(counts):
    n_cells, n_genes = counts.shape
    adata = anndata.AnnData(counts.copy())
    adata.obs_names = [f"cell {i}" for i in range(n_cells)]
    adata.var_names = [f"G{i}" for i in range(n_genes)]
    return adata


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    make_cells(make_counts()[0]).write_h5ad(path)
    return path


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(stored, "MOST_ROWS", 37)


def run(path, output, *, mode="yes", config=CONFIG, **arguments):
    files = cm.tl.CellFiles([path], output=output, out_of_core=mode)
    return cm.tl.cluster(files, config=config, **arguments)


def test_the_scan_finds_what_whole_matrices_tell(cells, small_blocks, tmp_path):
    counts = make_counts()[0]
    matrix = stored.open_backed(cells, ReadConfig()).matrix("X", Stages(tmp_path / "work", key={}))
    assert max(block.shape[0] for block in matrix.blocks()) == 37
    found = scan(matrix, kind=ValueKind.COUNTS)
    assert found.report == inspect_values(counts)
    dense = counts.toarray().astype(np.float64)
    linear = 1e4 * dense / np.maximum(dense.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(found.mean, linear.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.variance, linear.var(axis=0, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(found.depth, counts.toarray().sum(axis=1))
    assert found.n_cells.tolist() == (counts.toarray() > 0).sum(axis=0).tolist()


def stored_as(kind, folder):
    """Write the same cells as a file of another kind: CSC, or HDF5 of Cell Ranger 3 or 2."""
    adata = make_cells(make_counts()[0])
    if kind.startswith("10x"):
        path = folder / "cells.h5"
        is_new = kind == "10x"
        with h5py.File(path, "w") as file:
            group = file.create_group("matrix" if is_new else "GRCh38")
            group["shape"], group["barcodes"] = adata.shape[::-1], adata.obs_names.to_numpy(dtype="S")
            group["features/name" if is_new else "gene_names"] = adata.var_names.to_numpy(dtype="S")
            group["features/id" if is_new else "genes"] = adata.var_names.to_numpy(dtype="S")
            if is_new:
                group["features/feature_type"] = np.full(adata.n_vars, b"Gene Expression")
            for part in ("data", "indices", "indptr"):
                group.create_dataset(part, data=getattr(adata.X, part).astype(np.int64), compression="gzip")
        return path
    path = folder / f"cells.{kind}"
    adata.X = adata.X.tocsc()
    write_cells(adata, path)
    return path


@pytest.mark.parametrize("kind", mostly_slow(["10x", "10x of Cell Ranger 2", "h5ad", "zarr"], "10x"))
def test_csc_and_10x_are_read_as_csr_is(kind, cells, small_blocks, tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "_SORTED_ENTRIES", 1_001)
    path = stored_as(kind, tmp_path)
    assert count_entries(path, ReadConfig()) == make_counts()[0].nnz
    suffix = ".zarr" if kind == "zarr" else ".h5ad"
    config = replace(CONFIG, recipe="pca-kmeans", n_words=0)
    backed = run(path, tmp_path / f"b{suffix}", config=config)
    for other, mode in ((path, "no"), (cells, "yes")):
        output = tmp_path / f"{other.suffix[1:]}-{mode}.h5ad"
        found = run(other, output, mode=mode, config=config, overwrite=True).result
        np.testing.assert_allclose(backed.result.features.pcs, found.features.pcs, atol=1e-4)
        assert backed.result.labels.tolist() == found.labels.tolist()
    written = getattr(anndata, f"read_{suffix[1:]}")(tmp_path / f"b{suffix}")
    assert (make_counts()[0] != written.X).nnz == 0
    assert written.obs["cellmodel"].astype(int).tolist() == backed.result.labels.tolist()
    assert written.uns["cellmodel"]["input"]["notes"][-1].startswith("read out of core")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("kind", "place", "value", "message"),
    [
        ("h5ad", "X/indices", lambda _: 400, "an index of X points out of its 400 cells"),
        ("h5ad", "X/indices", lambda indices: indices[6], "stores 1 entries of a cell and a gene more than once"),
        ("10x", "matrix/indptr", lambda _: 0, "pointers that do not rise from 0 on"),
    ],
)
def test_indices_and_pointers_that_are_wrong_are_refused(kind, place, value, message, small_blocks, tmp_path):
    path = stored_as(kind, tmp_path)
    with h5py.File(path, "r+") as file:
        file[place][7] = value(file[place])
    with pytest.raises(InputUnusable, match=message):
        run(path, tmp_path / "out.h5ad")
    assert list(tmp_path.iterdir()) == [path]


def test_out_of_core_and_in_memory_agree(cells, small_blocks, tmp_path):
    estimated = replace(CONFIG, n_clusters=None)
    streamed = run(cells, tmp_path / "s.h5ad", config=estimated).result
    whole = run(cells, tmp_path / "w.h5ad", mode="no", config=estimated).result
    assert streamed.features.top_genes.tolist() == whole.features.top_genes.tolist()
    assert adjusted_rand_score(streamed.labels, whole.labels) > 0.95
    assert adjusted_rand_score(streamed.labels, make_counts()[1]) > 0.9
    names = [[marker.name for marker in table.markers[:5]] for table in streamed.explanation.markers]
    assert names == [[marker.name for marker in table.markers[:5]] for table in whole.explanation.markers]


@pytest.mark.parametrize("mode", ["yes", "no"])
@pytest.mark.parametrize(
    "change",
    mostly_slow([{}, {"recipe": "pca-leiden"}, {"n_clusters": None}, {"recipe": "pca-kmeans"}], {}),
)
def test_equal_cells_are_never_parted(mode, change, tmp_path, small_blocks, caplog):
    three = np.arange(120) % 3
    make_cells(make_counts()[0][:3][three]).write_h5ad(tmp_path / "cells.h5ad")
    config = replace(CONFIG, **{"n_clusters": 5, **change})
    result = run(tmp_path / "cells.h5ad", tmp_path / "out.h5ad", mode=mode, config=config).result
    assert result.labels.tolist() == three.tolist()
    assert anndata.read_h5ad(tmp_path / "out.h5ad").uns["cellmodel"]["n_clusters"]["n_clusters"] == 3
    notes = [line for line in caplog.messages if "different cells" in line]
    assert notes in ([], ["only 3 different cells: 3 clusters, not 5"])
    assert notes or change  # what a graph gives, and an estimate, is right already


def test_the_components_are_those_of_the_whole_matrix(cells, small_blocks, tmp_path):
    features = run(cells, tmp_path / "s.h5ad").result.features
    expression = normalize_log1p(make_counts()[0])
    seen = np.flatnonzero(detected_genes(make_counts()[0]))
    top = seen[highly_variable(expression[:, seen], n_top=200)]
    assert features.top_genes.tolist() == top.tolist()
    np.testing.assert_allclose(features.expression.toarray(), expression[:, top].toarray(), rtol=1e-6)
    whole = fit_components(expression[:, top], n_components=30)(expression[:, top])
    np.testing.assert_allclose(np.abs(features.pcs[:, :3]), np.abs(whole[:, :3]), atol=2e-3)


@pytest.mark.parametrize("mode", mostly_slow(["yes", "no"], "yes"))
def test_the_recall_of_an_approximate_graph_is_told(mode, cells, tmp_path):
    config = replace(CONFIG, graph=GraphConfig(exact_up_to=100), n_words=0)
    features = run(cells, tmp_path / "out.h5ad", mode=mode, config=config).result.features
    pcs = features.pcs / np.linalg.norm(features.pcs, axis=1, keepdims=True)
    nearest = np.argsort(10 * np.eye(400) - pcs @ pcs.T, axis=1)[:, :15]
    found = features.knn.indices.reshape(400, 15)
    overlap = np.mean([len(set(a) & set(b)) / 15 for a, b in zip(found, nearest, strict=True)])
    told = anndata.read_h5ad(tmp_path / "out.h5ad").uns["cellmodel"]["knn_recall"]
    assert told == features.knn_recall == pytest.approx(overlap, abs=0.01)


def test_the_output_is_the_input_and_the_slots_and_nothing_is_left_beside(cells, tmp_path):
    before = hashlib.sha256(cells.read_bytes()).hexdigest()
    run(cells, tmp_path / "out.h5ad")
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5ad"]
    assert hashlib.sha256(cells.read_bytes()).hexdigest() == before
    written, given = anndata.read_h5ad(tmp_path / "out.h5ad"), anndata.read_h5ad(cells)
    assert (written.X != given.X).nnz == 0
    assert written.obs_names.tolist() == given.obs_names.tolist()
    assert written.obs["cellmodel"].cat.categories.tolist() == [str(k) for k in range(written.obs.cellmodel.nunique())]
    assert written.obsp["cellmodel_connectivities"].shape == (400, 400)
    assert any("out of core" in note for note in written.uns["cellmodel"]["input"]["notes"])


@pytest.mark.parametrize(
    "kind",
    mostly_slow(["zarr", "layer", "csc layer", "dense", "log1p", "raw"], "zarr"),
)
def test_matrices_are_found_as_in_memory(kind, tmp_path):
    counts = make_counts()[0]
    adata = make_cells(counts)
    path = tmp_path / ("cells.zarr" if kind == "zarr" else "cells.h5ad")
    if kind == "dense":
        adata.X = counts.toarray()
    elif kind.endswith("layer"):
        adata.layers["counts"] = counts.tocsc() if kind == "csc layer" else counts
        adata.X = normalize_log1p(counts)
    elif kind in {"log1p", "raw"}:
        adata.X = normalize_log1p(counts)
    if kind == "raw":
        adata.raw = adata
        adata.X = adata.X.toarray() - 1.0
    write_cells(adata, path)
    found = run(path, tmp_path / f"out{path.suffix}").cells
    whole = read_cells(path)
    assert (found.kind, found.names) == (whole.kind, whole.names)
    assert found.notes[:-1] == whole.notes
    assert (found.var_rows is None) == (whole.var_rows is None)
    matrix = stored.open_backed(path, ReadConfig()).matrix(found.matrix.place, Stages(tmp_path / "work", key={}))
    np.testing.assert_allclose(sp.vstack(list(matrix.blocks())).toarray(), whole.matrix.toarray())


@pytest.mark.slow
def test_values_that_change_their_kind_far_down_are_noticed(tmp_path, small_blocks):
    counts = make_counts()[0].toarray()
    counts[200:] = np.log1p(counts[200:])
    adata = make_cells(sp.csr_matrix(counts))
    adata.write_h5ad(tmp_path / "cells.h5ad")
    assert run(tmp_path / "cells.h5ad", tmp_path / "out.h5ad").cells.kind == read_cells(tmp_path / "cells.h5ad").kind


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda a: a.X.data.__setitem__(5, np.nan), InputUnusable, "1 NaN or infinite values"),
        (lambda a: a.X.data.__setitem__(5, -1.0), NotCounts, "counts of which some were made negative"),
        (lambda a: setattr(a, "X", a.X * 0), InputUnusable, "nothing but zeros"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_left(spoil, error, message, tmp_path):
    adata = make_cells(make_counts()[0])
    spoil(adata)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(error, match=message):
        run(tmp_path / "cells.h5ad", tmp_path / "out.h5ad")
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]


def test_cells_that_a_run_cannot_use_leave_no_folder(tmp_path):
    adata = make_cells(make_counts()[0])[:, :1].copy()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(InputUnusable, match="400 cells x 1 genes; at least 3 x 2 are needed"):
        run(tmp_path / "cells.h5ad", tmp_path / "out.h5ad")
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": RunConfig(recipe=WHOLE, knowledge="none")}, "recipe 'whole' reads all cells at once"),
        ({"layer": "spliced"}, "has no layer 'spliced'"),
        ({"use_raw": True}, "has no .raw"),
    ],
)
def test_what_needs_all_cells_at_once_says_so(change, message, cells, tmp_path):
    with pytest.raises(InputUnusable, match=message):
        run(cells, tmp_path / "out.h5ad", **change)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "change", "name", "is_backed"),
    [
        (100, {}, "out.h5ad", True),
        (10**9, {}, "out.h5ad", False),
        (100, {"recipe": WHOLE}, "out.h5ad", False),
        (100, {}, "out.zarr", False),
    ],
)
def test_cells_that_would_fit_are_backed_where_nothing_speaks_against_it(
    values, change, name, is_backed, cells, tmp_path, monkeypatch
):
    monkeypatch.setattr(running, "BACKED_ABOVE", values)
    found = run(cells, tmp_path / name, mode="auto", config=replace(CONFIG, n_words=0, **change))
    assert any("read out of core" in note for note in found.cells.notes) is is_backed


@pytest.mark.parametrize("change", [{"low_data": True}, {"spatial": SpatialConfig(smooth_labels=True)}])
def test_settings_give_out_of_core_what_they_give_in_memory(change, small_blocks, tmp_path):
    counts, group = make_counts()
    adata = make_cells(counts)
    adata.obsm["spatial"] = group[:, None] * 9.0 + np.random.default_rng(0).random((400, 2))
    adata.write_h5ad(tmp_path / "cells.h5ad")
    config = replace(CONFIG, n_words=0, **change)
    backed, whole = (
        run(tmp_path / "cells.h5ad", tmp_path / f"{mode}.h5ad", mode=mode, config=config).result
        for mode in ("yes", "no")
    )
    np.testing.assert_allclose(backed.features.smoothed, whole.features.smoothed, atol=1e-4)
    assert backed.labels.tolist() == whole.labels.tolist()


@pytest.fixture(scope="module")
def kb(demo_store):
    return demo_store("hash-64")


@pytest.fixture(scope="module")
def named_cells(kb, tmp_path_factory):
    """A few cells, with counts, whose genes are those of the store."""
    adata = make_cells(make_counts(n_cells=90, n_genes=200)[0])
    adata.var_names = genekb.read_demo_table().genes["symbol"].to_pylist()[:200]
    path = tmp_path_factory.mktemp("named") / "cells.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "genept-s", "semantics": SemanticsConfig(sentences="encoded", n_sampled=20)},
        *mostly_slow(
            [
                {"recipe": "scsiameseclu", "knowledge": "none"},
                *({"recipe": name} for name in ("lowsample", "genept-w", "scllm-dsc", "scrcl", "scrcl-text")),
            ],
            {"recipe": "lowsample"},
        ),
    ],
)
def test_every_recipe_gives_out_of_core_what_it_gives_in_memory(change, kb, named_cells, small_blocks, tmp_path):
    config = RunConfig(**{"knowledge": "real", "n_words": 0, "n_clusters": 4, **change})
    stages = Stages(tmp_path / "work", key={})
    whole = pipeline(read_cells(named_cells), kb, config)
    backed, again = (
        pipeline(
            read_backed_cells(stored.open_backed(named_cells, ReadConfig()), ReadConfig(), stages),
            kb,
            config,
            stages=stages,
        )
        for _ in "12"
    )
    for found in (backed, again):  # the second takes up the stages of the first
        assert found.labels.tolist() == whole.labels.tolist()
        assert found.n_clusters_by == whole.n_clusters_by
        np.testing.assert_allclose(found.representation.z, whole.representation.z, atol=1e-3)
        for name in ("centers", "z_joint"):
            if getattr(whole.representation, name) is not None:
                made, expected = (getattr(one.representation, name) for one in (found, whole))
                np.testing.assert_allclose(made, expected, atol=1e-3)


@pytest.mark.parametrize("recipe", mostly_slow(["fused", "pca-leiden"], "fused"))
def test_blood_cells_get_the_same_clusters_out_of_core(recipe, tmp_path):
    path = tmp_path / "cells.h5ad"
    write_cells(variable_demo_cells(), path)
    config = RunConfig(recipe=recipe, knowledge="none", n_clusters=5, n_words=0)
    backed, whole = (run(path, tmp_path / f"{mode}.h5ad", mode=mode, config=config).result for mode in ("yes", "no"))
    assert backed.labels.tolist() == whole.labels.tolist()


def test_built_in_recipes_all_work_out_of_core():
    assert {name for name in recipe_names() if not find_recipe(name).out_of_core} <= set(plugins())


@pytest.mark.parametrize("recipe", mostly_slow(["fused", "scllm-dsc", "scsiameseclu", "scrcl"], "fused"))
def test_a_model_and_a_report_are_written_out_of_core(recipe, cells, small_blocks, tmp_path):
    config = replace(CONFIG, recipe=recipe)
    for mode in ("yes", "no"):
        folder = tmp_path / mode
        folder.mkdir()
        files = cm.tl.CellFiles([cells], output=folder / "out.h5ad", out_of_core=mode)
        cm.tl.cluster(files, config=config, save_model=folder / "model", report=folder / "report.html")
        assert sorted(path.name for path in folder.iterdir()) == ["model", "out.h5ad", "report.html"]
    models = [load_model(tmp_path / mode / "model") for mode in ("yes", "no")]
    found = [predict(model, read_cells(cells), None) for model in models]
    assert found[0].labels.tolist() == found[1].labels.tolist()
    np.testing.assert_allclose(models[0].components, models[1].components, atol=1e-6)
    pages = [(tmp_path / mode / "report.html").read_text() for mode in ("yes", "no")]
    assert abs(len(pages[0]) - len(pages[1])) < 0.02 * len(pages[1])


@pytest.mark.slow
def test_slots_of_an_earlier_run_are_kept_unless_told(cells, tmp_path):
    run(cells, tmp_path / "first.h5ad")
    with pytest.raises(SlotTaken, match="overwrite=True"):
        run(tmp_path / "first.h5ad", tmp_path / "second.h5ad")
    run(tmp_path / "first.h5ad", tmp_path / "second.h5ad", overwrite=True)
    assert "cellmodel" in anndata.read_h5ad(tmp_path / "second.h5ad").obs


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_and_ends_the_same(cells, tmp_path):
    args = ["cluster", cells, "--knowledge", "none", "--out-of-core", "yes", "--work-dir", tmp_path / "work"]
    process = start("cellmodel", *args, "-o", tmp_path / "out.h5ad")
    while not (tmp_path / "work" / "graph").is_dir():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "out.h5ad").exists()
    again = start("cellmodel", "-v", *args, "-o", tmp_path / "out.h5ad")
    _, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert "graph: done before" in err
    run(cells, tmp_path / "whole.h5ad", config=RunConfig(knowledge="none"))
    a, b = (anndata.read_h5ad(tmp_path / name) for name in ("out.h5ad", "whole.h5ad"))
    np.testing.assert_array_equal(a.obsm["X_cellmodel"], b.obsm["X_cellmodel"])
    assert a.obs["cellmodel"].tolist() == b.obs["cellmodel"].tolist()
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("values", [10**9, 100])
def test_a_backed_anndata_gets_the_slots_of_one_in_memory(values, cells, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "BACKED_ABOVE", values)
    whole, backed = anndata.read_h5ad(cells), anndata.read_h5ad(cells, backed="r")
    for adata in (whole, backed):
        cm.tl.cluster(adata, knowledge="none", recipe="pca-kmeans", n_clusters=4)
    assert backed.isbacked
    assert backed.obs["cellmodel"].tolist() == whole.obs["cellmodel"].tolist()
    assert np.allclose(backed.obsm["X_cellmodel"], whole.obsm["X_cellmodel"], atol=1e-4)
    notes = list(backed.uns["cellmodel"]["input"]["notes"])
    assert any("read out of core" in note for note in notes) is (values == 100)
    cm.tl.cluster(backed[:200], knowledge="none", recipe="pca-kmeans", n_clusters=2, copy=True, overwrite=True)
    backed.file.close()
