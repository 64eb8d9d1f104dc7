"""Genes chosen within batches, and how far batches are mixed."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp

from cellmodel.core.arrays import unit_rows
from cellmodel.core.config import BatchConfig, GraphConfig, RunConfig
from cellmodel.core.stages import MemoryStages
from cellmodel.io.cells import ObsCategories
from cellmodel.io.matrix import ValueKind
from cellmodel.pp.features import principal_axes
from cellmodel.pp.integrate import Integrated, integrate, map_to_reference, mix_within
from cellmodel.pp.moments import scan, variable_in_batches
from cellmodel.pp.neighbors import faiss_centers, knn_graph
from tests.support.batches import two_protocols


def batches_of(codes):
    names = tuple(f"b{code}" for code in range(int(max(codes)) + 1))
    return ObsCategories(key="batch", names=names, codes=np.asarray(codes, dtype=np.int64))


def was(graph):
    """What is known of the cells before integration."""
    n_cells = graph.shape[0]
    nearest = graph.indices.reshape(n_cells, -1)
    return Integrated(pcs=np.zeros((n_cells, 2)), method="harmony", rows=np.arange(n_cells), nearest=nearest)


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


def test_same_batch_neighbors_equal_a_count_by_loops():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((60, 4)).astype(np.float32)
    codes, clusters = rng.integers(0, 3, 60), rng.integers(0, 2, 60)
    before = rng.standard_normal((60, 4)).astype(np.float32)
    config = GraphConfig(n_neighbors=7)
    graphs = [knn_graph(each, config=config) for each in (before, points)]
    rows = mix_within(batches_of(codes), graphs[1], clusters, integrated=was(graphs[0]))
    members_of = (np.arange(60), *(np.flatnonzero(clusters == one) for one in (0, 1)))
    for place, (row, members) in enumerate(zip(rows, members_of, strict=True)):
        inside = clusters if place else np.zeros(60)  # of all cells all neighbors count
        expected = []
        for graph in graphs:
            fractions = []
            for cell in members:
                near = [other for other in graph[cell].indices if inside[other] == inside[cell]]
                if near:
                    fractions.append(np.mean([codes[other] == codes[cell] for other in near]))
            expected.append(np.mean(fractions))
        assert (row.before, row.after) == pytest.approx(tuple(expected))
        mixed = []
        for cell in members:
            others = [other for other in range(60) if other != cell and inside[other] == inside[cell]]
            mixed.append(np.mean([codes[other] == codes[cell] for other in others]))
        assert row.if_mixed == pytest.approx(np.mean(mixed))
        sizes = np.bincount(codes[members])
        assert (row.batch, row.share) == (f"b{sizes.argmax()}", pytest.approx(sizes.max() / len(members)))


def test_an_integration_that_changed_nothing_says_so_although_each_cluster_is_one_batch(caplog):
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1], 40)
    apart, mixed = 30 * codes[:, None] + rng.standard_normal((80, 4)), rng.standard_normal((80, 4))
    config = GraphConfig(n_neighbors=7, metric="euclidean")
    before, after = (knn_graph(each.astype(np.float32), config=config) for each in (apart, mixed))
    whole = mix_within(batches_of(codes), before, codes, integrated=was(before))[0]
    said = "integration changed nothing: of the nearest cells 100% were of a cell's own batch before, and 100% are now"
    assert (whole.note, said in caplog.text) == (f"{said} (49% if mixed)", True)
    assert mix_within(batches_of(codes), after, codes, integrated=was(before))[0].note == ""
    assert mix_within(batches_of(codes), after, codes, integrated=was(after))[0].note == ""


def test_many_cells_are_searched_for_some_of_them_before_integration():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((2_400, 3)).astype(np.float32)
    batches, config = batches_of(points[:, 0] > 0), RunConfig(batch=BatchConfig(key="batch", integration="harmony"))
    found = integrate(points, batches, config, MemoryStages())
    assert len(found.rows) == 2_000
    graph = knn_graph(points, config=config.graph)
    for row, nearest in zip(found.rows[::100].tolist(), found.nearest[::100].tolist(), strict=True):
        assert set(nearest) == set(graph[row].indices.tolist())


@pytest.mark.parametrize("n_cells", [90, 600, 3_000])
def test_batches_that_are_mixed_are_left_as_they_are_unless_a_method_is_named(n_cells, caplog):
    rng = np.random.default_rng(n_cells)
    points = rng.standard_normal((n_cells, 5)).astype(np.float32)
    batches = batches_of(rng.integers(0, 3, n_cells))
    with caplog.at_level("INFO"):
        found = integrate(points, batches, RunConfig(batch=BatchConfig(key="batch")), MemoryStages())
    assert found.method == "none"
    np.testing.assert_array_equal(found.pcs, points)
    assert "batches are mixed as they are" in caplog.text
    named = RunConfig(batch=BatchConfig(key="batch", integration="harmony"))
    assert integrate(points, batches, named, MemoryStages()).method == "harmony"
    apart = points + 3 * batches.codes[:, None]
    assert integrate(apart, batches, RunConfig(batch=BatchConfig(key="batch")), MemoryStages()).method == "harmony"


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


def shares_of(points, centers):
    closeness = np.exp(-2 * (1 - unit_rows(np.asarray(points, dtype=np.float64)) @ centers.T) / 0.1)
    return closeness / closeness.sum(axis=1, keepdims=True)


def test_cells_of_new_batches_are_shifted_and_then_mapped_by_ridge_regression_at_each_center():
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((200, 4)).astype(np.float32)
    new, batches = (rng.standard_normal((60, 4)) + 0.7).astype(np.float32), rng.integers(0, 2, 60)
    centers = unit_rows(faiss_centers(unit_rows(reference), n_clusters=7))
    of_reference = shares_of(reference, centers)
    means = of_reference.T @ reference / of_reference.sum(axis=0)[:, None]
    expected = new.astype(np.float64)
    for batch in (0, 1):
        cells, shift = new[batches == batch], np.zeros(4)
        for _ in range(5):
            shift = (cells - shares_of(cells - shift, centers) @ means).sum(axis=0) / (len(cells) + 1)
        expected[batches == batch] -= shift
    every = np.vstack([reference, expected])
    shares = shares_of(every, centers)
    of_batch = np.vstack([np.zeros((200, 2)), np.eye(2)[batches]])
    design = np.column_stack([np.ones(260), of_batch])
    for center in range(7):
        weighted = design * shares[:, [center]]
        found = np.linalg.solve(design.T @ weighted + np.diag([0, 1, 1]), weighted.T @ every)
        expected -= shares[200:, [center]] * found[1 + batches]
    np.testing.assert_allclose(map_to_reference(new, batches, reference), expected, atol=1e-4)


@pytest.mark.parametrize("types", [(0, 1, 2, 3), (0, 1, 3), (1, 2)], ids=str)
def test_a_new_batch_far_away_is_brought_to_its_types_whichever_it_has(types):
    rng = np.random.default_rng(0)
    places = 4 * np.eye(4)
    of_reference, of_new = rng.integers(0, 4, 400), np.array(types)[rng.integers(0, len(types), 80)]
    reference, new = (
        (places[each] + rng.standard_normal((len(each), 4)) / 2).astype(np.float32) for each in (of_reference, of_new)
    )
    far = new + np.float32([2.5, -2.5, 0, 0])
    mapped = map_to_reference(far, np.zeros(80, dtype=np.int64), reference)
    nearest = lambda points: ((points[:, None] - places) ** 2).sum(axis=2).argmin(axis=1)  # noqa: E731
    assert (nearest(mapped) == of_new).mean() > 0.95 > (nearest(far) == of_new).mean()
