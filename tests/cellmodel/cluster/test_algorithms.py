import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from cellmodel.cluster.algorithms import (
    MicroWardConfig,
    confidence,
    kmeans,
    leiden,
    leiden_to_k,
    micro_ward,
    order_by_size,
)
from cellmodel.core.config import GraphConfig
from cellmodel.pp.neighbors import knn_graph, smooth, snn_weights
from tests.support import oracles, strategies

HEADS = {"micro_ward": micro_ward, "kmeans": kmeans}
SIZES = (400, 120, 60, 15)


def blobs(seed, *, sizes=SIZES, distance=12.0):
    """Groups of very different size, far apart, and the group of each cell."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    centres = distance * np.eye(len(sizes), 6)
    return (centres[truth] + rng.standard_normal((len(truth), 6))).astype(np.float32), truth


def snn_of(features, n_neighbors=15):
    return snn_weights(knn_graph(features, config=GraphConfig(n_neighbors=n_neighbors, metric="euclidean")))


@pytest.mark.parametrize("head", sorted(HEADS))
@pytest.mark.parametrize("seed", range(3))
def test_heads_find_groups_that_lie_apart(head, seed):
    features, truth = blobs(seed)
    assert HEADS[head](features, n_clusters=4, seed=seed).tolist() == truth.tolist()


def test_micro_ward_keeps_small_groups_where_kmeans_splits_the_large_one():
    rng = np.random.default_rng(0)
    large = rng.standard_normal((6000, 2)) * 5
    small = [rng.standard_normal((25, 2)) * 0.5 + center for center in ([0, 45], [45, 0])]
    features = np.vstack([large, *small]).astype(np.float32)
    truth = np.repeat([0, 1, 2], [6000, 25, 25])
    assert adjusted_rand_score(truth, micro_ward(features, n_clusters=3, seed=0)) == 1
    assert adjusted_rand_score(truth, kmeans(features, n_clusters=3, seed=0)) < 0.5


@settings(deadline=None)
@given(features=strategies.features(), data=st.data(), head=st.sampled_from(sorted(HEADS)))
def test_every_cluster_occurs_even_among_equal_cells(features, data, head):
    k = data.draw(st.integers(1, len(features)))
    labels = HEADS[head](features, n_clusters=k, seed=0)
    assert labels.dtype == np.int64
    assert sorted(set(labels.tolist())) == list(range(k))


@settings(deadline=None)
@given(seed=strategies.seeds, head=st.sampled_from(sorted(HEADS)))
def test_permuting_the_cells_permutes_the_clusters(seed, head):
    features, _ = blobs(5, sizes=(80, 60, 40), distance=2.0)
    order = np.random.default_rng(seed).permutation(len(features))
    straight = HEADS[head](features, n_clusters=6, seed=seed)
    permuted = HEADS[head](features[order], n_clusters=6, seed=seed)
    assert adjusted_rand_score(straight[order], permuted) == 1


@pytest.mark.parametrize("head", sorted(HEADS))
def test_equal_seeds_give_equal_clusters_and_the_global_stream_does_not_matter(head):
    features, _ = blobs(6, distance=2.0)
    np.random.seed(1)  # noqa: NPY002 - a caller's own use of the global stream
    first = HEADS[head](features, n_clusters=8, seed=3)
    np.random.seed(2)  # noqa: NPY002
    assert first.tolist() == HEADS[head](features, n_clusters=8, seed=3).tolist()


def test_micro_ward_chooses_the_run_with_the_best_silhouette():
    from sklearn.metrics import silhouette_score

    features, _ = blobs(7, distance=2.0)
    few, many = (
        silhouette_score(features, micro_ward(features, n_clusters=5, seed=0, config=MicroWardConfig(n_runs=runs)))
        for runs in (1, 8)
    )
    assert many >= few


@pytest.mark.parametrize("head", sorted(HEADS))
@pytest.mark.parametrize("n_clusters", [0, -1, 6])
def test_a_number_of_clusters_out_of_range_is_refused(head, n_clusters):
    with pytest.raises(ValueError, match=rf"n_clusters must lie in 1 \.\. 5 .*got {n_clusters}"):
        HEADS[head](np.ones((5, 2), dtype=np.float32), n_clusters=n_clusters, seed=0)


@pytest.mark.parametrize("head", sorted(HEADS))
def test_features_that_are_not_finite_are_refused(head):
    with pytest.raises(ValueError, match="1 of 6 features are NaN or infinite"):
        HEADS[head](np.array([[1.0, 2.0], [np.nan, 1.0], [0.0, 1.0]]), n_clusters=2, seed=0)


def test_kmeans_on_a_part_of_the_cells_labels_all_of_them():
    features, truth = blobs(8)
    found = micro_ward(features, n_clusters=4, seed=0, config=MicroWardConfig(fitted_cells=300))
    assert adjusted_rand_score(truth, found) == 1


def test_settings_below_one_are_refused():
    with pytest.raises(ValueError, match="every value must be >= 1"):
        MicroWardConfig(n_runs=0)


def test_leiden_finds_groups_and_parts_of_the_graph():
    features, truth = blobs(9)
    assert adjusted_rand_score(truth, leiden(snn_of(features), resolution=0.05, seed=0)) == 1


def test_leiden_repeats_itself_within_one_process():
    features, _ = blobs(10, distance=1.5)
    graph = snn_of(features)
    first = leiden(graph, resolution=1.5, seed=4)
    for other in range(3):
        leiden(graph, resolution=0.7, seed=other)
    assert leiden(graph, resolution=1.5, seed=4).tolist() == first.tolist()


def test_leiden_gives_more_communities_at_higher_resolution():
    graph = snn_of(blobs(11, distance=3.0)[0])
    found = [leiden(graph, resolution=value, seed=0).max() + 1 for value in (0.05, 1.0, 20.0)]
    assert found[0] < found[1] < found[2]


def test_leiden_makes_each_cell_a_community_where_nothing_is_linked():
    assert leiden(sp.csr_matrix((4, 4)), resolution=1.0, seed=0).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("resolution", [0, -1.0])
def test_leiden_refuses_a_resolution_that_is_not_positive(resolution):
    with pytest.raises(ValueError, match=f"resolution must be > 0, got {resolution}"):
        leiden(sp.identity(3, format="csr"), resolution=resolution, seed=0)


@pytest.mark.parametrize("n_clusters", [1, 4, 7])
def test_leiden_to_k_meets_the_number_asked_for(n_clusters):
    graph = snn_of(blobs(12, distance=3.0)[0], n_neighbors=30)
    labels = leiden_to_k(graph, n_clusters=n_clusters, seed=0)
    assert sorted(set(labels.tolist())) == list(range(n_clusters))


def test_leiden_to_k_gives_the_nearest_number_where_parts_cannot_be_joined():
    graph = sp.block_diag([np.ones((5, 5)) - np.eye(5)] * 3, format="csr")
    assert leiden_to_k(graph, n_clusters=2, seed=0).max() + 1 == 3
    with pytest.raises(ValueError, match=r"n_clusters must lie in 1 \.\. 15"):
        leiden_to_k(graph, n_clusters=16, seed=0)


@given(labels=strategies.labelings())
def test_ordering_by_size_renames_and_nothing_else(labels):
    before = labels[0] * 7 - 3
    after = order_by_size(before)
    sizes = np.bincount(after)
    assert (np.diff(sizes) <= 0).all()
    assert adjusted_rand_score(before, after) == 1
    firsts = [after.tolist().index(cluster) for cluster in range(len(sizes))]
    for a, b in zip(range(len(sizes)), range(1, len(sizes)), strict=False):
        assert sizes[a] > sizes[b] or firsts[a] < firsts[b]


def test_confidence_equals_its_definition():
    features, truth = blobs(13, sizes=(30, 20, 10), distance=3.0)
    expected = oracles.simplified_silhouette_by_loops(features, truth)
    np.testing.assert_allclose(confidence(features, truth), expected, atol=1e-5)


def test_confidence_is_one_for_one_cluster_and_falls_towards_a_border():
    features, truth = blobs(14, sizes=(50, 50), distance=6.0)
    assert (confidence(features, np.zeros(100, dtype=np.int64)) == 1).all()
    line = np.array([[0.0], [1.0], [4.0], [9.0], [10.0], [11.0]], dtype=np.float32)
    values = confidence(line, np.array([0, 0, 0, 1, 1, 1]))
    assert values[2] < values[0] < values[1]
    assert ((values >= 0) & (values <= 1)).all()
    wrong = truth.copy()
    wrong[0] = 1
    assert confidence(features, wrong)[0] == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Variable names are not unique")  # genes that share a symbol: AnnData's warning
def test_micro_ward_tells_cell_lines_apart_whose_labels_come_from_genotypes(real_data):
    from cellmodel.bench.metrics import score
    from cellmodel.pp.normalize import detected_genes, highly_variable, normalise_log1p, principal_components

    anndata = pytest.importorskip("anndata")
    cells = anndata.read_h5ad(real_data / "scrna" / "mixology_celseq2_5cl.h5ad")
    counts = cells.X[:, detected_genes(cells.X)]
    expression = normalise_log1p(counts)
    pcs = principal_components(expression[:, highly_variable(expression)], seed=0)
    graph = snn_weights(knn_graph(pcs, config=GraphConfig()))
    scores = score(cells.obs["cell_type"].tolist(), micro_ward(smooth(pcs, graph), n_clusters=5, seed=0).tolist())
    assert scores.accuracy >= 0.95
    assert scores.nmi >= 0.88
    assert scores.ari >= 0.90
