"""The exported graph: what recipes see, opened by PyTorch Geometric, refused where it is damaged."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import cellmodel as cm
from cellmodel.core.config import RunConfig, SpatialConfig
from cellmodel.core.errors import InputUnusable, LineageMismatch
from cellmodel.io.cells import cells_from_anndata
from cellmodel.io.graph import ARRAYS, GRAPH
from cellmodel.tl._run.pipeline import prepare
from tests.robust.bad_files.cells import cells as make_cells
from tests.support.demo import demo_cells
from tests.support.in_process import call, call_json

PAGE = Path(__file__).parents[3] / "docs" / "guide" / "graph.md"
LABELS = "bulk_labels"
NEAR, EXPRESSES = ("cell", "near", "cell"), ("cell", "expresses", "gene")


@pytest.fixture(scope="module")
def adata():
    return demo_cells()


@pytest.fixture(scope="module")
def exported(adata, demo_kb, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "graph"
    cm.tl.export_graph(adata, demo_kb, folder=folder, label_key=LABELS)
    return folder


def dense(graph, kind):
    store, shape = graph[kind], (graph[kind[0]].num_nodes, graph[kind[2]].num_nodes)
    return sp.coo_matrix((store.edge_weight, store.edge_index), shape).toarray()


def test_the_graph_holds_what_every_recipe_sees(exported, adata, demo_kb):
    graph, cells = cm.io.read_graph(exported), cells_from_anndata(adata.copy())
    views = prepare(cells, demo_kb, RunConfig()).views
    np.testing.assert_array_equal(graph["cell"].x, views.pcs)
    np.testing.assert_array_equal(graph["cell"].text, views.text)
    np.testing.assert_array_equal(graph["gene"].x, views.raw_gene_vectors)
    np.testing.assert_array_equal(dense(graph, NEAR), views.graph.toarray().astype(np.float32))
    np.testing.assert_array_equal(dense(graph, EXPRESSES), views.expression.toarray())
    assert graph.names["cell"].tolist() == adata.obs_names.tolist()
    assert graph.classes[graph["cell"].y].tolist() == adata.obs[LABELS].astype(str).tolist()
    assert (graph["gene"].x.abs().sum(dim=1) > 0).tolist() == graph["gene"].has_text.tolist()
    symbol = dict(zip(graph.symbols, graph["gene"].gene_id.tolist(), strict=True))
    assert symbol["CD3D"] == 915
    assert "CD3D" in graph.names["gene"]


def test_ids_of_store_and_encoder_go_with_the_graph(exported, demo_kb):
    ids = {"store_id": demo_kb.store_id, "encoder_id": demo_kb.encoder_id()}
    graph = cm.io.read_graph(exported)
    made_with = graph.made_with
    assert {name: made_with[name] for name in ids} == ids
    content = json.loads((exported / GRAPH.description).read_text())
    assert content["record"]["content_id"] == made_with["content_id"]
    assert content["sizes"]["cell near cell"] == graph[NEAR].num_edges


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
def test_the_ten_lines_of_the_guide_learn_the_types(exported, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    monkeypatch.chdir(exported.parent)
    torch.manual_seed(0)
    names = {}
    exec(code, names)
    rest = ~names["seen"]
    most_common = names["labels"][rest].bincount().max() / rest.sum()
    right = (names["found"] == names["labels"])[rest].float().mean()
    assert right > 0.7 > 1.5 * most_common


def test_without_knowledge_genes_have_no_features(adata, demo_kb, tmp_path):
    cm.tl.export_graph(adata, knowledge="none", folder=tmp_path / "a")
    cm.tl.export_graph(adata, demo_kb, knowledge="none", folder=tmp_path / "b")
    alone, known = (cm.io.read_graph(tmp_path / name) for name in "ab")
    assert not {"x", "gene_id", "has_text"} & set(alone["gene"])
    assert (set(known["gene"]) & {"x", "gene_id"}, "text" in known["cell"]) == ({"gene_id"}, False)
    assert alone["gene"].num_nodes == len(alone.names["gene"]) == known["gene"].num_nodes
    assert (alone.made_with, hasattr(alone, "classes"), hasattr(alone, "symbols")) == ({}, False, False)


def test_controls_and_coordinates_are_exported(adata, demo_kb, exported, tmp_path):
    spots = adata[:100].copy()
    spots.obsm["spatial"] = np.random.default_rng(0).uniform(size=(100, 2))
    cm.tl.export_graph(
        spots, demo_kb, folder=tmp_path / "a", knowledge="shuffled", config=RunConfig(spatial=SpatialConfig())
    )
    graph = cm.io.read_graph(tmp_path / "a")
    np.testing.assert_allclose(graph["cell"].pos, spots.obsm["spatial"], rtol=1e-6)
    beside = dense(graph, ("cell", "beside", "cell"))
    assert (beside == beside.T).all()
    assert set(np.unique(beside)) == {0, 1}
    real = cm.io.read_graph(exported)
    vectors = dict(zip(real.names["gene"], real["gene"].x.numpy(), strict=True))
    shared = [row for row, name in enumerate(graph.names["gene"]) if name in vectors]
    same = [np.allclose(graph["gene"].x[row], vectors[graph.names["gene"][row]]) for row in shared]
    assert np.mean(same) < 0.7


def test_missing_labels_are_marked(tmp_path):
    adata = make_cells()
    adata.obs.loc[adata.obs_names[:3], "label"] = None
    cm.tl.export_graph(adata, knowledge="none", folder=tmp_path / "a", label_key="label")
    graph = cm.io.read_graph(tmp_path / "a")
    assert graph["cell"].y[:4].tolist() == [-1, -1, -1, 0]
    assert graph.classes.tolist() == ["B cell", "T cell"]
    adata.obs["label"] = None
    with pytest.raises(InputUnusable, match="holds no label"):
        cm.tl.export_graph(adata, knowledge="none", folder=tmp_path / "b", label_key="label")


def test_parts_are_taken_and_directions_added_by_the_library(exported):
    from torch_geometric.transforms import ToUndirected

    graph = cm.io.read_graph(exported)
    part = graph.subgraph({"cell": torch.tensor([5, 2, 9])})
    assert part["cell"].num_nodes == 3
    assert torch.equal(part["cell"].x, graph["cell"].x[[5, 2, 9]])
    both = ToUndirected(reduce="mean")(graph.clone())
    np.testing.assert_array_equal(dense(both, NEAR), dense(graph, NEAR))
    np.testing.assert_array_equal(dense(both, ("gene", "rev_expresses", "cell")), dense(graph, EXPRESSES).T)


def test_the_same_cells_give_the_same_bytes(exported, adata, demo_kb, tmp_path):
    cm.tl.export_graph(adata, demo_kb, folder=tmp_path / "again", label_key=LABELS)
    for name in (ARRAYS, GRAPH.description):
        assert (tmp_path / "again" / name).read_bytes() == (exported / name).read_bytes()


def damage_arrays(folder):
    content = bytearray((folder / ARRAYS).read_bytes())
    content[-1] ^= 1
    (folder / ARRAYS).write_bytes(content)


def change(folder, **fields):
    path = folder / GRAPH.description
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (damage_arrays, LineageMismatch, "not the file that was written; export the graph again"),
        (lambda folder: (folder / ARRAYS).unlink(), LineageMismatch, "is missing or not the file"),
        (lambda folder: (folder / GRAPH.description).unlink(), InputUnusable, "holds no graph.json"),
        (lambda folder: (folder / GRAPH.description).write_text("{"), LineageMismatch, "graph.json is damaged"),
        (lambda folder: change(folder, format=2), InputUnusable, "a graph of format 2, 1 is read here"),
        (lambda folder: change(folder, names={"cell": ["a"], "gene": ["b"]}), LineageMismatch, "graph.json is damaged"),
        (lambda folder: change(folder, names=3), LineageMismatch, "graph.json is damaged"),
        (lambda folder: change(folder, record=3), LineageMismatch, "graph.json is damaged"),
    ],
)
def test_a_damaged_or_foreign_folder_is_one_line(damage, error, says, tmp_path):
    cm.tl.export_graph(make_cells(), knowledge="none", folder=tmp_path / "a")
    damage(tmp_path / "a")
    with pytest.raises(error, match=re.escape(says)) as raised:
        cm.io.read_graph(tmp_path / "a")
    assert "\n" not in str(raised.value)


def test_a_graph_is_replaced_only_on_request_and_nothing_else_ever(tmp_path):
    export = dict(knowledge="none", folder=tmp_path / "a")
    cm.tl.export_graph(make_cells(), **export)
    with pytest.raises(InputUnusable, match="exists"):
        cm.tl.export_graph(make_cells(), **export)
    cm.tl.export_graph(make_cells(), **export, overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.json").write_text("{}")
    with pytest.raises(InputUnusable, match="folder of other files"):
        cm.tl.export_graph(make_cells(), knowledge="none", folder=tmp_path / "mine", overwrite=True)


def test_the_command_reports_what_it_wrote(tmp_path, demo_home):
    make_cells().write_h5ad(tmp_path / "cells.h5ad")
    line = ["export", tmp_path / "cells.h5ad", "--to", "graph", "--kb", "demo", "--home", demo_home]
    line += ["-o", tmp_path / "graph"]
    found = call_json("cellmodel", *line, "--label-key", "label")
    graph = cm.io.read_graph(tmp_path / "graph")
    assert found["sizes"]["gene"] == graph["gene"].num_nodes
    assert found["features"]["cell"]["x"] == list(graph["cell"].x.shape)
    assert found["classes"] == graph.classes.tolist()
    code, _, err = call("cellmodel", *line)
    assert (code, "exists" in err) == (3, True)
    code, out, _ = call("cellmodel", *line, "--overwrite")
    assert (code, "cell expresses gene" in out) == (0, True)
    code, _, err = call("cellmodel", "export", tmp_path / "cells.h5ad", "--to", "graph", "-o", tmp_path / "x")
    assert (code, "needs a store" in err) == (2, True)
