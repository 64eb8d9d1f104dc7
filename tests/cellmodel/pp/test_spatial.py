"""Moran's I of genes, against its definition, in blocks."""

import numpy as np
import pytest
import scipy.sparse as sp

from cellmodel.pp import spatial
from cellmodel.pp.spatial import likeness, morans_i, spatial_graph


@pytest.mark.parametrize("block", [7, 1000])
def test_it_is_that_of_the_definition_whatever_the_block(monkeypatch, block):
    monkeypatch.setattr(spatial, "_BLOCK", block)
    rng = np.random.default_rng(0)
    places = rng.random((60, 2))
    values = rng.poisson(np.outer(places[:, 0] * 6, np.ones(5)) + 0.2).astype(np.float32)
    values[:, 4] = 3.0
    graph = spatial_graph(places, n_neighbors=5)
    weights = graph.toarray() / graph.toarray().sum(axis=1, keepdims=True)
    centered = values[:, :4] - values[:, :4].mean(axis=0, dtype=np.float64)
    expected = (centered * (weights @ centered)).sum(axis=0) / (centered**2).sum(axis=0)
    got = morans_i(sp.csr_matrix(values), graph)
    np.testing.assert_allclose(got[:4], expected, atol=1e-12)
    assert got[4] == 0.0


def test_likeness_is_near_one_for_regions_and_near_zero_for_cells_that_are_mixed_or_apart():
    places = np.column_stack(np.divmod(np.arange(400), 20)).astype(float)
    graph, rng = spatial_graph(places, n_neighbors=4), np.random.default_rng(0)
    regions = np.eye(2, dtype=np.float32)[(places[:, 0] > 9).astype(int)]
    assert likeness(regions, graph) > 0.9
    assert likeness(rng.permutation(regions), graph) < 0.1
    assert likeness(np.eye(2, dtype=np.float32)[places.sum(axis=1).astype(int) % 2], graph) == 0.0
    assert likeness(np.ones((400, 2), dtype=np.float32), graph) == 0.0
