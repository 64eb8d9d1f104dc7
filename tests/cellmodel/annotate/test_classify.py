"""Classes from labeled cells: right where classes are plain, and blind to whatever it may not see."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from cellmodel.annotate.classify import (
    ClassifyConfig,
    classify_cells,
    contrastive_features,
    n_shot_splits,
    stratified_splits,
    weigh_by_separation,
)
from cellmodel.core.errors import InputUnusable

TRUTH = np.repeat([0, 1, 2], 30)
LABELED = np.arange(0, 90, 5)


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(3, 8))[TRUTH] * 1.5 + rng.normal(size=(90, 8))).astype(np.float32)


def found_by(features, **choices):
    config = ClassifyConfig(**choices)
    return classify_cells(features, labeled=LABELED, classes=TRUTH[LABELED], config=config, seed=0)


@pytest.mark.parametrize("head", ["centroid", "knn", "logistic"])
@pytest.mark.parametrize("contrast", ["none", "supervised", "self"])
def test_plain_classes_are_found_with_probabilities_that_sum_to_one(features, head, contrast):
    found = found_by(features, head=head, contrast=contrast)
    assert (found.classes == TRUTH).mean() > 0.75
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(found.classes, found.probabilities.argmax(axis=1))


def test_heads_agree_with_scikit_learn(features):
    known = features[LABELED], TRUTH[LABELED]
    np.testing.assert_array_equal(
        found_by(features, head="centroid").classes, NearestCentroid().fit(*known).predict(features)
    )
    nearest = KNeighborsClassifier(n_neighbors=1).fit(*known).predict(features)
    np.testing.assert_array_equal(found_by(features, head="knn", n_neighbors=1).classes, nearest)


def test_cells_below_the_limit_and_no_others_are_left_without_a_class(features):
    free, limited = found_by(features), found_by(features, unassigned_below=0.9)
    unsure = free.confidence < 0.9
    assert 0 < unsure.sum() < 90
    np.testing.assert_array_equal(limited.classes, np.where(unsure, -1, free.classes))


def test_the_supervised_projection_is_fitted_to_labeled_cells_alone(features):
    def project(cells):
        return contrastive_features(cells, labeled=LABELED, classes=TRUTH[LABELED], seed=0)

    unlabeled = np.setdiff1d(np.arange(90), LABELED)
    swapped = features.copy()
    swapped[unlabeled] = features[unlabeled[::-1]]  # same mean and scale: nothing that is fitted may move
    np.testing.assert_allclose(project(swapped)[LABELED], project(features)[LABELED], atol=1e-4)


def test_a_feature_that_tells_no_class_apart_loses_its_weight():
    rng = np.random.default_rng(0)
    cells = np.stack([TRUTH + 0.01 * rng.normal(size=90), rng.normal(size=90)], axis=1)
    weighed = weigh_by_separation(cells, labeled=np.arange(90), classes=TRUTH)
    assert np.abs(weighed[30:, 1]).mean() < 0.4
    assert np.abs(weighed[30:, 0]).mean() > 0.8
    np.testing.assert_allclose(np.linalg.norm(weighed, axis=1), 1, rtol=1e-6)


def test_unusable_classes_and_settings_are_refused(features):
    def classify(classes):
        return classify_cells(
            features, labeled=np.arange(len(classes)), classes=classes, config=ClassifyConfig(), seed=0
        )

    with pytest.raises(InputUnusable, match="have 1 class, 2 are needed"):
        classify(np.zeros(5, dtype=np.int64))
    with pytest.raises(ValueError, match="without gaps; none is 1"):
        classify(np.array([0, 2, 2]))
    with pytest.raises(ValueError, match="n_neighbors must be >= 1"):
        ClassifyConfig(n_neighbors=0)
    with pytest.raises(ValueError, match="unassigned_below must lie in"):
        ClassifyConfig(unassigned_below=1.5)


CLASSES = np.repeat([0, 1, 2, 3], [20, 9, 2, 1])


def test_every_class_gives_its_shots_and_keeps_a_cell_to_test_on():
    for split in n_shot_splits(CLASSES, n_shots=(1, 5), n_draws=3, seed=0):
        assert not set(split.train) & set(split.test)
        assert sorted([*split.train, *split.test]) == list(range(31))  # the class of one cell is left out
        assert np.bincount(CLASSES[split.train]).tolist() == [split.n_shot, split.n_shot, 1]


def test_stratified_splits_keep_the_shares_of_the_classes():
    for split in stratified_splits(CLASSES, share_test=0.3, n_draws=3, seed=0):
        assert not set(split.train) & set(split.test)
        assert np.bincount(CLASSES[split.test]).tolist() == [6, 3, 1]


def test_draws_differ_and_a_seed_repeats_them_whatever_else_is_asked_for():
    def draws(seed, *, n_shots=(3,), n_draws=4):
        splits = n_shot_splits(CLASSES, n_shots=n_shots, n_draws=n_draws, seed=seed)
        return [split.train.tolist() for split in splits if split.n_shot == 3]

    assert draws(0) == draws(0, n_shots=(1, 3), n_draws=5)[:4] != draws(1)
    assert len({tuple(train) for train in draws(0)}) == 4


def test_unusable_labels_and_numbers_are_refused():
    with pytest.raises(InputUnusable, match="1 classes have more than one cell"):
        next(n_shot_splits(np.array([0, 0, 1]), n_shots=(1,), n_draws=1, seed=0))
    with pytest.raises(ValueError, match="shots and draws must be >= 1"):
        next(n_shot_splits(CLASSES, n_shots=(0,), n_draws=1, seed=0))
    with pytest.raises(ValueError, match="share_test must lie between 0 and 1"):
        next(stratified_splits(CLASSES, share_test=1.0, n_draws=1, seed=0))
