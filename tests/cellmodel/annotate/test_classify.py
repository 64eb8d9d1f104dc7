"""Classes from labeled cells: right where classes are plain, and blind to whatever it may not see."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from cellmodel.annotate.classify import ClassifyConfig, classify_cells, contrastive_features, weigh_by_separation
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
