"""Features joined to a score: weights, boosted trees beside them, and the share of the trees."""

from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from cellmodel.perturb.features import FEATURES, FOR_TREES, Known, Settings, Vectors, pair_features
from cellmodel.perturb.model import N_FOLDS, mean_auc
from cellmodel.perturb.stack import SHARES, choose_share, fit_stack, group_aucs, scores_left_out

N_PERTURBATIONS, N_GENES = 60, 40
FOLDS = np.arange(N_PERTURBATIONS) % N_FOLDS


def screen(kind):
    """Pairs whose label follows a feature, the product of two, or nothing."""
    rng = np.random.default_rng(0)
    rows, columns = (each.ravel() for each in np.indices((N_PERTURBATIONS, N_GENES)))
    features = rng.normal(size=(len(rows), len(FEATURES)))
    signal = {"linear": features[:, 0], "product": features[:, 0] * features[:, 1], "none": 0.0 * features[:, 0]}[kind]
    labels = (rng.random(len(rows)) < 1 / (1 + np.exp(-2 * signal))).astype(np.float64)
    return features, Known(rows=rows, columns=columns, values=labels)


def tried(features, known):
    return np.stack([scores_left_out(features, known, FOLDS, n_genes=N_GENES, share=share) for share in SHARES])


@pytest.mark.parametrize(("kind", "share"), [("linear", 0.0), ("product", 0.5)])
def test_trees_share_in_the_score_where_they_help_alone(kind, share):
    features, known = screen(kind)
    scores = tried(features, known)
    best, of_pair = choose_share(scores, known, FOLDS)
    assert SHARES[best] == share
    assert np.all(of_pair == best)
    stack = fit_stack(features, known, n_genes=N_GENES, share=share)
    assert (stack.trees is None) == (share == 0.0)
    if kind == "product":
        assert mean_auc(known, FOLDS, scores[0]) < 0.6
        assert mean_auc(known, FOLDS, scores[1]) > 0.7


def test_the_share_of_a_group_is_chosen_without_its_labels():
    known, rng = screen("none")[1], np.random.default_rng(1)
    for group in range(N_FOLDS):
        inside = FOLDS[known.rows] == group
        scores = rng.normal(size=(len(SHARES), len(known.rows)))
        scores[1, ~inside] += known.values[~inside]
        scores[0, inside] += 3 * known.values[inside]
        assert set(choose_share(scores, known, FOLDS)[1][inside].tolist()) == {1}
        flipped = replace(known, values=np.where(inside, 1 - known.values, known.values))
        assert set(choose_share(scores, flipped, FOLDS)[1][inside].tolist()) == {1}


def test_trees_have_no_share_where_the_gain_is_in_one_group_alone():
    known, rng = screen("none")[1], np.random.default_rng(2)
    scores = np.repeat(rng.normal(size=(1, len(known.rows))), 2, axis=0)
    scores[1] += np.where(FOLDS[known.rows] == 0, 2 * known.values, 0.0)
    best, of_pair = choose_share(scores, known, FOLDS)
    assert (best, set(of_pair.tolist())) == (0, {0})


def test_how_near_the_nearest_are_has_no_weight_of_its_own():
    features, known = screen("linear")
    other = features.copy()
    other[:, [FEATURES.index(name) for name in FOR_TREES]] = 0.0
    for share, same in ((0.0, True), (0.5, False)):
        scores = [
            fit_stack(one, known, n_genes=N_GENES, share=share).score(one, known.columns) for one in (features, other)
        ]
        assert np.array_equal(*scores) == same
    both = np.hstack([features, other])
    assert fit_stack(both, known, n_genes=N_GENES).weights.shape == (2 * (len(FEATURES) - len(FOR_TREES)),)


def test_a_group_without_a_gene_of_both_labels_has_no_say():
    features, known = screen("product")
    known = replace(known, values=np.where(FOLDS[known.rows] == 0, 0.0, known.values))
    scores = tried(features, known)
    assert np.isnan(group_aucs(known, FOLDS, scores[0])[0])
    assert SHARES[choose_share(scores, known, FOLDS)[0]] == 0.5


def test_trees_are_the_same_with_any_number_of_threads():
    features, known = screen("product")
    found = []
    for n_threads in (1, 2):
        with threadpool_limits(limits=n_threads, user_api="openmp"):
            found.append(fit_stack(features, known, n_genes=N_GENES, share=0.5).score(features, known.columns))
    assert np.array_equal(*found)


def test_nearest_features_are_the_highest_cosines_with_trained_perturbations():
    rng = np.random.default_rng(0)
    vectors = Vectors(perturbations=rng.normal(size=(16, 5)).astype(np.float32), genes=np.eye(5, dtype=np.float32))
    rows, columns = (each.ravel() for each in np.indices((15, 5)))
    known = Known(rows=rows, columns=columns, values=rng.integers(0, 2, len(rows)).astype(np.float64))
    asked = np.array([15, 15])
    found = pair_features(known, asked, np.array([0, 3]), vectors, settings=Settings())
    inside = vectors.perturbations - vectors.perturbations[:15].mean(axis=0)
    inside /= np.linalg.norm(inside, axis=1, keepdims=True)
    cosines = np.sort(inside[:15] @ inside[15])[::-1]
    for name, expected in (("nearest", cosines[0]), ("nearest_ten", cosines[:10].mean())):
        assert found[:, FEATURES.index(name)] == pytest.approx(np.full(2, expected), abs=1e-5)
