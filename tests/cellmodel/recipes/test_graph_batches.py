"""Graphs that are too large to be trained whole: batches of parts, sub-graphs, and inference over all cells."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.metrics import adjusted_rand_score

from cellmodel.nn.graphs import CellGraphs, DotAttention, mean_propagation, propagation, relate_cells
from cellmodel.nn.train import TrainConfig, fit
from cellmodel.pp.spatial import spatial_graph
from cellmodel.recipes import scllm_dsc, scrcl, scsiameseclu
from cellmodel.recipes.graph_training import BATCHING, Batching, batches, in_blocks
from tests.support.views import grouped_views, permuted

pytestmark = pytest.mark.slow  # trains networks; of the graph recipes, scllm-dsc is trained in the quick tests

SIZES = (90, 60, 40)
N_CELLS = sum(SIZES)
SMALL = Batching(whole_cells=100, part_cells=12, batch_cells=96)
RECIPES = {module.RECIPE.name: module for module in (scllm_dsc, scsiameseclu, scrcl)}


@pytest.fixture(scope="module", params=["scllm-dsc", pytest.param("scsiameseclu", marks=pytest.mark.slow), "scrcl"])
def trained(request):
    views, truth = grouped_views(sizes=SIZES)
    module = RECIPES[request.param]
    return module, views, truth, module.represent(views, 0, batching=SMALL)


def test_groups_are_found_in_batches_and_whole_training_differs(trained):
    module, views, truth, found = trained
    assert adjusted_rand_score(truth, module.RECIPE.head(found, replace(views, n_clusters=3), 0)) > 0.95
    assert not np.allclose(module.represent(views, 0).z, found.z, atol=1e-3)


def test_batches_are_drawn_by_seed_and_cells_and_not_by_order_of_the_cells(trained):
    module, views, _, found = trained
    order = np.random.default_rng(3).permutation(N_CELLS)
    other = module.represent(permuted(views, order), 0, batching=SMALL)
    np.testing.assert_allclose(other.z, found.z[order], atol=2e-3)
    assert module.represent(views, 0, batching=SMALL).z.tobytes() == found.z.tobytes()


def test_a_training_in_batches_takes_as_many_steps_as_one_of_the_whole_graph_at_most(trained):
    module, _, _, found = trained
    stages = {"scllm-dsc": 100, "scsiameseclu": 130, "scrcl": 100}
    assert len(found.history) <= stages[module.RECIPE.name]


def test_up_to_the_stated_number_of_cells_a_step_takes_the_whole_graph():
    pcs = grouped_views(sizes=SIZES)[0].pcs
    assert batches(pcs, seed=0, batching=BATCHING) is None
    assert batches(pcs, seed=0, batching=replace(SMALL, whole_cells=N_CELLS)) is None
    assert batches(pcs, seed=0, batching=replace(SMALL, whole_cells=N_CELLS - 1)) is not None


def test_a_batch_is_of_whole_parts_sorted_and_other_parts_each_time():
    pcs = grouped_views(sizes=SIZES)[0].pcs
    draw, rng = batches(pcs, seed=0, batching=replace(SMALL, batch_cells=12)), np.random.default_rng(0)
    parts = {tuple(draw(rng).tolist()) for _ in range(200)}
    assert len(parts) == N_CELLS // SMALL.part_cells
    assert sorted(cell for part in parts for cell in part) == list(range(N_CELLS))
    assert all(list(part) == sorted(part) for part in parts)
    spread = np.mean([pcs[list(part)].std(axis=0).mean() for part in parts])
    assert spread < 0.7 * pcs.std(axis=0).mean()


def test_parts_of_spots_are_neighbors_by_their_coordinates():
    coordinates = np.random.default_rng(0).random((N_CELLS, 2))
    spatial = spatial_graph(coordinates, n_neighbors=6)
    draw = batches(grouped_views(sizes=SIZES)[0].pcs, seed=0, batching=replace(SMALL, batch_cells=1), spatial=spatial)
    rng = np.random.default_rng(0)
    parts = [draw(rng).numpy() for _ in range(20)]
    assert np.mean([coordinates[part].std(axis=0).mean() for part in parts]) < 0.5 * coordinates.std()


def test_spots_are_trained_in_batches_on_the_graph_of_their_coordinates():
    views, _ = grouped_views(sizes=SIZES)
    spatial = replace(views, spatial=spatial_graph(np.random.default_rng(0).random((N_CELLS, 2)), n_neighbors=6))
    found = scrcl.represent(spatial, 0, batching=SMALL).z
    assert np.isfinite(found).all()
    assert not np.allclose(found, scrcl.represent(views, 0, batching=SMALL).z, atol=1e-2)


def test_every_step_asks_for_a_batch_and_is_an_epoch():
    model, seen, epochs = torch.nn.Linear(1, 1), [], []

    def loss(model, batch):
        seen.append(batch["cell"].ravel().tolist())
        return {"loss": model(batch["cell"]).square().mean()}

    draw = iter(torch.tensor([[0, 2], [1, 2], [0, 1]]))
    views = {"cell": torch.arange(3.0)[:, None]}
    config = TrainConfig(n_steps=3, batch_size=None)
    history = fit(
        model, loss, views=views, config=config, rng=np.random.default_rng(0), draw=lambda _: next(draw),
        on_epoch=epochs.append,
    )  # fmt: skip
    assert seen == [[0, 2], [1, 2], [0, 1]]
    assert epochs == [0, 1, 2]
    assert len(history) == 3


def test_a_sub_graph_is_propagated_over_as_if_there_were_no_other_cells():
    graph = grouped_views(sizes=SIZES)[0].graph
    cells = torch.tensor([0, 3, 4, 50, 51, 120])
    graphs = CellGraphs(relate_cells(linked=graph), lambda data: propagation(data, "linked"))
    alone = relate_cells(linked=graph[cells.numpy()][:, cells.numpy()])
    torch.testing.assert_close(graphs.of(cells).to_dense(), propagation(alone, "linked").to_dense())
    assert graphs.of(torch.arange(N_CELLS)) is graphs.whole


def test_a_mean_over_a_sub_graph_gives_rows_that_sum_to_one():
    matrix = sp.csr_matrix(np.array([[0.5, 0.3, 0.2], [0.0, 0.6, 0.4], [0.25, 0.0, 0.75]]))  # not symmetric
    graphs = CellGraphs(relate_cells(diffused=matrix), lambda data: mean_propagation(data, "diffused"))
    torch.testing.assert_close(graphs.whole.to_dense(), torch.from_numpy(matrix.toarray()).float())
    expected = torch.tensor([[0.5 / 0.7, 0.2 / 0.7], [0.25, 0.75]])
    torch.testing.assert_close(graphs.of(torch.tensor([0, 2])).to_dense(), expected)


def test_attention_and_inference_in_blocks_are_those_of_all_cells_at_once():
    z = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    edges = torch.tensor([[0, 0, 1, 3, 3, 4, 6], [1, 2, 0, 3, 6, 5, 0]])
    torch.testing.assert_close(DotAttention(block_cells=2)(z, edges), DotAttention()(z, edges))
    cells = {"first": z, "second": torch.arange(7.0)}
    found = in_blocks(lambda block: {"sum": block["first"].sum(dim=1) + block["second"]}, cells, block_cells=3)
    torch.testing.assert_close(found["sum"], z.sum(dim=1) + torch.arange(7.0))


def test_diffusion_of_some_rows_at_a_time_is_that_of_all():
    graph = grouped_views(sizes=SIZES)[0].graph + sp.identity(N_CELLS)
    transition = sp.csr_matrix(graph / graph.sum(axis=1))
    whole = scsiameseclu.diffuse(transition, restart=0.2, n_steps=3, n_kept=9)
    blocks = scsiameseclu.diffuse(transition, restart=0.2, n_steps=3, n_kept=9, block_cells=70)
    assert (whole != blocks).nnz == 0
