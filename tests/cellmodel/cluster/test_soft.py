import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from cellmodel.cluster.algorithms import kmeans
from cellmodel.cluster.soft import gaussian_mixture, transport_clusters

HEADS = {"gmm": gaussian_mixture, "ot": transport_clusters}


def blobs(seed, *, sizes=(200, 80, 30), distance=12.0):
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    return ((distance * np.eye(len(sizes), 5))[truth] + rng.standard_normal((len(truth), 5))).astype(np.float32), truth


@pytest.mark.parametrize(("head", "sizes"), [("gmm", (200, 80, 30)), ("ot", (100, 100, 100))])
@pytest.mark.parametrize("seed", range(2))
def test_groups_that_lie_apart_are_found(head, sizes, seed):
    features, truth = blobs(seed, sizes=sizes)
    found = HEADS[head](features, n_clusters=3, seed=seed)
    assert adjusted_rand_score(truth, found.labels) == 1
    assert found.converged


@pytest.mark.parametrize("head", sorted(HEADS))
def test_permuting_the_cells_permutes_the_clusters_and_equal_seeds_give_equal_ones(head):
    features, _ = blobs(2, distance=3.0)
    order = np.random.default_rng(0).permutation(len(features))
    straight = HEADS[head](features, n_clusters=4, seed=1).labels
    assert straight.tolist() == HEADS[head](features, n_clusters=4, seed=1).labels.tolist()
    assert adjusted_rand_score(straight[order], HEADS[head](features[order], n_clusters=4, seed=1).labels) > 0.99


def test_a_mixture_tells_a_tight_group_inside_a_wide_one_where_kmeans_cannot():
    rng = np.random.default_rng(3)
    features = np.vstack([rng.normal(0, 5, (300, 6)), rng.normal(0, 0.3, (150, 6)) + 2]).astype(np.float32)
    truth = np.repeat([0, 1], [300, 150])
    found = gaussian_mixture(features, n_clusters=2, seed=0)
    assert adjusted_rand_score(truth, found.labels) > 0.9
    assert adjusted_rand_score(truth, kmeans(features, n_clusters=2, seed=0)) < 0.5


def test_a_mixture_is_as_likely_as_the_best_of_many_random_starts():
    features, _ = blobs(4, distance=3.0)
    labels = gaussian_mixture(features, n_clusters=3, seed=0).labels
    best = GaussianMixture(3, covariance_type="diag", n_init=20, random_state=1).fit_predict(features)
    assert adjusted_rand_score(labels, best) > 0.95


def test_smoothing_draws_transported_clusters_towards_equal_sizes():
    features, _ = blobs(5, sizes=(240, 40, 20), distance=4.0)
    spreads = []
    for smoothing in (0.0, 0.5, 1.0):
        found = transport_clusters(features, n_clusters=3, seed=0, smoothing=smoothing)
        spreads.append(np.bincount(found.labels).std())
    assert spreads[0] > spreads[1] > spreads[2]
    assert spreads[2] < 10


def test_transport_without_smoothing_is_kmeans_where_clusters_are_clear():
    features, _ = blobs(6, distance=8.0)
    sharp = transport_clusters(features, n_clusters=3, seed=0, smoothing=0.0, sharpness=50.0)
    assert sharp.labels.tolist() == kmeans(features, n_clusters=3, seed=0).tolist()


def test_transport_that_is_cut_short_says_so():
    features, _ = blobs(7, sizes=(120, 60, 60), distance=1.0)
    found = transport_clusters(features, n_clusters=3, seed=0, smoothing=1.0, n_rounds=1)
    assert (found.n_rounds, found.converged) == (1, False)


@pytest.mark.parametrize("head", sorted(HEADS))
def test_wrong_input_is_refused(head):
    features = np.ones((5, 2), dtype=np.float32)
    with pytest.raises(ValueError, match=r"n_clusters must lie in 1 \.\. 5"):
        HEADS[head](features, n_clusters=6, seed=0)
    with pytest.raises(ValueError, match="1 of 10 features are NaN or infinite"):
        HEADS[head](np.where(np.arange(10).reshape(5, 2) == 3, np.nan, features), n_clusters=2, seed=0)


@pytest.mark.parametrize("wrong", [{"smoothing": 1.1}, {"sharpness": 0.0}, {"n_rounds": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="smoothing must lie in"):
        transport_clusters(np.zeros((4, 2)), n_clusters=2, seed=0, **wrong)
