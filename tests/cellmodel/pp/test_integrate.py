"""Genes chosen within batches, and how far batches are mixed."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp

from cellmodel.core.config import GraphConfig
from cellmodel.io.cells import ObsCategories
from cellmodel.io.matrix import ValueKind
from cellmodel.pp.blocks import scan
from cellmodel.pp.integrate import mix_within
from cellmodel.pp.neighbors import knn_graph
from cellmodel.pp.normalize import principal_axes, variable_in_batches
from tests.support.batches import two_protocols


def batches_of(codes):
    names = tuple(f"b{code}" for code in range(int(max(codes)) + 1))
    return ObsCategories(key="batch", names=names, codes=np.asarray(codes, dtype=np.int64))


@pytest.mark.parametrize(("seed", "n_top"), [(0, 40), (1, 100), (2, 7)])
def test_genes_chosen_within_batches_are_those_of_scanpy(seed, n_top):
    sc = pytest.importorskip("scanpy")
    adata = two_protocols(n_cells=300, n_genes=200, n_batches=3, seed=seed)
    adata.X[adata.obs["batch"] == "b1", 5] = 0  # a gene that one batch lacks
    found = scan(
        sp.csr_matrix(adata.X),
        kind=ValueKind.COUNTS,
        batches=batches_of([int(name[1:]) for name in adata.obs["batch"]]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Scanpy's and AnnData's own
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
        table = sc.pp.highly_variable_genes(adata, n_top_genes=n_top, batch_key="batch", inplace=False)
    chosen = variable_in_batches(found.batch_mean, found.batch_variance, n_top=n_top)
    assert chosen.tolist() == np.flatnonzero(table["highly_variable"]).tolist()


def test_moments_within_batches_add_up_to_those_of_all_cells():
    adata = two_protocols(n_cells=90)
    codes = np.array([int(name[1:]) for name in adata.obs["batch"]])
    plain = scan(sp.csr_matrix(adata.X), kind=ValueKind.COUNTS)
    keyed = scan(sp.csr_matrix(adata.X), kind=ValueKind.COUNTS, batches=batches_of(codes))
    np.testing.assert_allclose(keyed.mean, plain.mean)
    np.testing.assert_allclose(keyed.variance, plain.variance)
    for batch in (0, 1):
        own = scan(sp.csr_matrix(adata.X[codes == batch]), kind=ValueKind.COUNTS)
        np.testing.assert_allclose(keyed.batch_mean[batch], own.mean)
        np.testing.assert_allclose(keyed.batch_variance[batch], own.variance, atol=1e-9)
    assert plain.batch_mean is None


def test_same_batch_neighbours_equal_a_count_by_loops():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((60, 4)).astype(np.float32)
    codes, clusters = rng.integers(0, 3, 60), rng.integers(0, 2, 60)
    before = rng.standard_normal((60, 4)).astype(np.float32)
    config = GraphConfig(n_neighbors=7)
    graphs = [knn_graph(each, config=config) for each in (before, points)]
    rows = mix_within(batches_of(codes), graphs[1], clusters, before=before, graph=config)
    for row, members in zip(rows, (np.arange(60), *(np.flatnonzero(clusters == one) for one in (0, 1))), strict=True):
        expected = []
        for graph in graphs:
            fractions = []
            for cell in members:
                near = [other for other in graph[cell].indices if clusters[other] == clusters[cell]]
                if near:
                    fractions.append(np.mean([codes[other] == codes[cell] for other in near]))
            expected.append(np.mean(fractions))
        assert (row.before, row.after) == pytest.approx(tuple(expected))
        mixed = []
        for cell in members:
            others = [other for other in range(60) if other != cell and clusters[other] == clusters[cell]]
            mixed.append(np.mean([codes[other] == codes[cell] for other in others]))
        assert row.if_mixed == pytest.approx(np.mean(mixed))
        sizes = np.bincount(codes[members])
        assert (row.batch, row.share) == (f"b{sizes.argmax()}", pytest.approx(sizes.max() / len(members)))


def test_many_cells_are_searched_for_some_of_them_before_integration():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((2_400, 3)).astype(np.float32)
    codes, clusters = (points[:, 0] > 0).astype(np.int64), np.zeros(2_400, dtype=np.int64)
    config = GraphConfig(n_neighbors=10)
    (row, _) = mix_within(batches_of(codes), knn_graph(points, config=config), clusters, before=points, graph=config)
    assert row.before == pytest.approx(row.after, abs=0.02)


def test_principal_axes_keep_distances_and_do_not_depend_on_a_rotation():
    rng = np.random.default_rng(0)
    points = (rng.standard_normal((50, 6)) * [5, 4, 3, 2, 1, 0.5] + 7).astype(np.float32)
    turned = points @ np.linalg.qr(rng.standard_normal((6, 6)))[0].astype(np.float32)
    found, again = principal_axes(points), principal_axes(turned)
    np.testing.assert_allclose(
        np.linalg.norm(found[:, None] - found, axis=2), np.linalg.norm(points[:, None] - points, axis=2), atol=1e-3
    )
    np.testing.assert_allclose(np.abs(found), np.abs(again), atol=1e-3)
    assert (np.diff(found.var(axis=0)) < 0).all()
