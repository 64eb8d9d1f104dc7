import numpy as np
import pytest
import scipy.sparse as sp
import torch

from cellmodel.core.config import GraphConfig
from cellmodel.explain.clusters import neighbor_agreement
from cellmodel.nn.modules import Projector
from cellmodel.pp.features import principal_components
from cellmodel.pp.neighbors import attach, knn_graph, smooth, snn_weights
from cellmodel.pp.normalize import normalize_log1p
from cellmodel.recipes import lowsample
from cellmodel.recipes.base import CellViews, NewCells
from cellmodel.recipes.lowsample import MOST_KEPT, RECIPE, represent

pytestmark = pytest.mark.slow  # trains networks; of the graph recipes, scllm-dsc is trained in the quick tests

N_CELLS, N_GENES = 90, 120


def make_views(depth, *, with_counts=True):
    """Three groups of cells with genes of their own, and some of the others; read to a depth."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), N_CELLS // 3)
    is_own = np.arange(N_GENES) // 40 == truth[:, None]
    rates = rng.exponential(1, (N_CELLS, N_GENES)) * (rng.random((N_CELLS, N_GENES)) < np.where(is_own, 0.7, 0.2))
    counts = sp.csr_matrix(rng.poisson(depth * rates / rates.sum(axis=1, keepdims=True)).astype(np.float32))
    expression = normalize_log1p(counts)
    pcs = principal_components(expression, n_components=5)
    knn = knn_graph(pcs, config=GraphConfig(n_neighbors=10))
    graph = snn_weights(knn)
    views = CellViews(
        expression=expression,
        pcs=pcs,
        graph=graph,
        smoothed=smooth(pcs, graph),
        text=None,
        knn=knn,
        depth=np.asarray(counts.sum(axis=1), dtype=np.float64).ravel(),
        counts=counts if with_counts else None,
        n_clusters=3,
        gene_vectors=rng.standard_normal((N_GENES, 16)).astype(np.float32),
    )
    return views, truth


def test_deep_cells_keep_their_neighbors_since_views_hold_few_molecules_of_them(monkeypatch):
    views, truth = make_views(300_000)

    def purity():
        return neighbor_agreement(represent(views, 0).z, truth, graph=GraphConfig(n_neighbors=10))

    few = purity()
    monkeypatch.setattr(lowsample, "MOST_KEPT", np.inf)
    assert few > purity() + 0.05
    assert few > 0.5


def test_a_view_holds_half_of_a_shallow_cell_and_as_many_molecules_of_a_deep_one():
    for depth, expected in ((200, 100), (300_000, MOST_KEPT)):
        views, _ = make_views(depth)
        ones = views.counts.copy()
        ones.data[:] = 1
        draw = lowsample._thinned(views, ones, np.ones(N_GENES), np.random.default_rng(1))
        drawn = draw(np.arange(N_CELLS))
        scale = 1e4 / (np.minimum(0.5, MOST_KEPT / views.depth) * views.depth)
        kept = np.expm1(drawn.toarray()).sum(axis=1) / scale
        assert kept.mean() == pytest.approx(expected, rel=0.05)


def test_every_parameter_changes_and_the_loss_falls():
    views, _ = make_views(1000)
    found = represent(views, 0)
    torch.manual_seed(0)
    fresh = Projector(dim=16).state_dict()
    assert all(not np.array_equal(found.state[f"model.{name}"], value.numpy()) for name, value in fresh.items())
    assert found.history[-1]["contrast"] < found.history[0]["contrast"]


@pytest.mark.slow
def test_without_counts_genes_are_dropped_instead_and_equal_seeds_give_equal_bytes():
    views, truth = make_views(1000, with_counts=False)
    first, again, other = (represent(views, seed) for seed in (0, 0, 1))
    assert first.z.tobytes() == again.z.tobytes() != other.z.tobytes()
    assert neighbor_agreement(first.z, truth, graph=GraphConfig(n_neighbors=10)) > 0.5


def test_new_cells_are_placed_where_training_placed_the_same_cells():
    views, _ = make_views(1000)
    found = represent(views, 0)
    assert RECIPE.embed is not None
    again = RECIPE.embed(new_cells(views), found.state)
    np.testing.assert_allclose(again.z, found.z, atol=1e-5)


def new_cells(views):
    return NewCells(
        expression=views.expression,
        pcs=views.pcs,
        smoothed=views.smoothed,
        text=None,
        text_paths=None,
        gene_vectors=views.gene_vectors,
        raw_gene_vectors=None,
        has_gene=np.ones(N_GENES, dtype=bool),
        fitted_pcs=views.pcs,
        graph=attach(views.pcs, views.pcs, config=GraphConfig()),
    )
