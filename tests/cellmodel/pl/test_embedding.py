"""The layout's own gradient and optimizer against PyTorch's."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn import functional as F

from cellmodel.core import random as seeding
from cellmodel.core.errors import TrainingDiverged
from cellmodel.pl.report.collect import layouts
from cellmodel.pl.report.collect.layouts import LEARNING_RATE, N_NEGATIVES, neighbor_embedding, neighbor_gradient


def loss_of(plane, cell, near):
    """Contrast each edge with the ends of other edges of the batch, by definition."""
    at_cell, at_near = plane(cell), plane(near)
    others = torch.stack([at_near.roll(shift, dims=0) for shift in range(1, N_NEGATIVES + 1)], dim=1)
    ends = torch.cat([at_near.unsqueeze(1), others], dim=1)
    logits = -torch.log1p((ends - at_cell.unsqueeze(1)).square().sum(dim=2))
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


def plane_of(points):
    return nn.Embedding.from_pretrained(torch.from_numpy(np.array(points, dtype=np.float32)), freeze=False)


@pytest.fixture
def cells():
    """Features of three groups, and the edges between cells of one group."""
    rng = np.random.default_rng(0)
    group = np.arange(90) % 3
    features = (rng.standard_normal((90, 5)) + 4 * np.eye(3, 5)[group]).astype(np.float32)
    graph = sp.csr_matrix((group[:, None] == group[None]) & (rng.random((90, 90)) < 0.3), dtype=np.float64)
    return features, graph


@pytest.mark.parametrize("n_edges", [2, 7, 300])
def test_the_gradient_is_that_of_the_loss(cells, n_edges):
    features, graph = cells
    edges = graph.tocoo()
    cell, near = edges.row[:n_edges].astype(np.int64), edges.col[:n_edges].astype(np.int64)
    plane = plane_of(features[:, :2])
    loss_of(plane, torch.from_numpy(cell), torch.from_numpy(near)).backward()
    ours = neighbor_gradient(np.ascontiguousarray(features[:, :2].T), cell, near)
    np.testing.assert_allclose(ours.T, plane.weight.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize("batch_size", [64, 100_000])
def test_the_steps_are_those_of_adam(cells, batch_size, monkeypatch):
    monkeypatch.setattr(layouts, "BATCH_SIZE", batch_size)
    features, graph = cells
    edges = graph.tocoo()
    start = features[:, :2].astype(np.float64)
    plane = plane_of(start / start.std(axis=0).max())
    optimizer = torch.optim.AdamW(plane.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    rng, size = seeding.generator(3, "layout"), min(batch_size, edges.nnz)
    for step in range(20):
        place = step % (edges.nnz // size)
        order = rng.permutation(edges.nnz) if place == 0 else order
        rows = order[place * size : (place + 1) * size]
        optimizer.zero_grad()
        loss_of(plane, torch.from_numpy(edges.row[rows]).long(), torch.from_numpy(edges.col[rows]).long()).backward()
        optimizer.step()
    found = neighbor_embedding(features, graph, seed=3, n_steps=20)
    np.testing.assert_allclose(found, plane.weight.detach().numpy(), atol=1e-4)


def test_the_layout_keeps_groups_apart_and_repeats_to_the_bit(cells):
    features, graph = cells
    found = neighbor_embedding(features, graph, seed=0)
    assert found.dtype == np.float32
    assert found.tobytes() == neighbor_embedding(features, graph, seed=0).tobytes()
    distances = np.linalg.norm(found[:, None] - found[None], axis=2)
    same = (np.arange(90) % 3)[:, None] == (np.arange(90) % 3)[None]
    assert distances[same].mean() < 0.5 * distances[~same].mean()


def test_cells_without_links_stay_where_they_start_and_nothing_infinite_is_drawn(cells):
    features, graph = cells
    empty = neighbor_embedding(features[:, :1], sp.csr_matrix(graph.shape), seed=0)
    assert (empty[:, 1] == 0).all()
    with pytest.raises(TrainingDiverged, match="not finite"):
        neighbor_embedding(np.full_like(features, np.nan), graph, seed=0)
