"""The n-shot protocol: means of the draws' own scores, and no test label seen."""

from dataclasses import replace

import numpy as np
import pytest

from cellmodel.annotate.classify import ClassifyConfig
from cellmodel.annotate.label_transfer import Labeled, read_labels
from cellmodel.bench.n_shot import TrialConfig, run_trials, score_trials, trial_features
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import read_cells
from cellmodel.tl._run.pipeline import prepare
from tests.support.demo import demo_file
from tests.support.grids import mostly_slow

CODES = np.repeat([0, 1, 2], 20)
KNOWN = Labeled(rows=np.arange(60), codes=CODES, names=("a", "b", "c"), n_unlabeled=0)


def features(gap):
    rng = np.random.default_rng(0)
    return (gap * np.eye(3)[CODES] + rng.normal(size=(60, 3))).astype(np.float32)


def tried(gap, known=KNOWN, **choices):
    config = TrialConfig(**{"label_key": "type", "n_shots": (1, 5), "n_draws": 8} | choices)
    return score_trials(features(gap), known, trials=config, seed=0)


def test_scores_agree_with_the_summed_confusion():
    for row in tried(3.0, share_test=0.25):
        hits = np.diag(row.confusion)
        assert row.confusion.sum() == row.n_draws * row.n_test
        assert row.mean["accuracy"] == pytest.approx(hits.sum() / row.confusion.sum())
        np.testing.assert_allclose(list(row.recall.values()), hits / row.confusion.sum(axis=1))
        assert row.mean["balanced_accuracy"] == pytest.approx(np.mean(list(row.recall.values())))


@pytest.mark.parametrize("contrast", mostly_slow(["none", "supervised"], "none"))
def test_more_labels_help_where_there_are_classes_and_nothing_does_where_there_are_none(contrast):
    one, five = tried(2.5)
    assert 0.5 < one.mean["accuracy"] < five.mean["accuracy"]
    shuffled = Labeled(
        rows=KNOWN.rows, codes=np.random.default_rng(1).permutation(CODES), names=KNOWN.names, n_unlabeled=0
    )
    rows = tried(2.5, shuffled, n_draws=3, classify=ClassifyConfig(contrast=contrast))
    assert all(row.mean["accuracy"] < 0.45 for row in rows)  # a third by chance: no test label leaks


def test_cells_below_the_limit_are_counted_as_unassigned():
    for row in tried(2.5, classify=ClassifyConfig(unassigned_below=0.9)):
        assert row.classes[-1] == "unassigned"
        assert 0 < row.mean["share_unassigned"] == pytest.approx(row.confusion[:, -1].sum() / row.confusion.sum())


def test_nothing_to_try_is_refused():
    with pytest.raises(ValueError, match="nothing to try"):
        TrialConfig(label_key="type", n_shots=())


@pytest.fixture(scope="module")
def demo():
    return read_cells(demo_file())


WITHOUT_TEXT = RunConfig(knowledge="none")


def test_a_recipe_gives_what_it_would_cluster_and_classes_are_found_in_it(demo):
    made = trial_features(demo, None, RunConfig(), kind="recipe:pca-kmeans")
    np.testing.assert_array_equal(made, prepare(demo, None, WITHOUT_TEXT).views.pcs)
    trials = TrialConfig(label_key="bulk_labels", n_shots=(5,), n_draws=5, features="recipe:pca-kmeans")
    (row,) = run_trials(demo, None, RunConfig(), trials=trials)
    assert row.mean["accuracy"] > 0.5


@pytest.mark.slow
def test_a_recipe_that_learns_centers_is_never_told_how_many_classes_there_are(demo):
    free, told = (
        trial_features(demo, None, replace(WITHOUT_TEXT, n_clusters=number), kind="recipe:scsiameseclu")
        for number in (None, 3)
    )
    np.testing.assert_array_equal(free, told)
    trials = TrialConfig(label_key="bulk_labels", n_shots=(5,), n_draws=5)
    (row,) = score_trials(free, read_labels(demo, "bulk_labels"), trials=trials, seed=0)
    assert row.mean["accuracy"] > 0.5


def test_features_that_cannot_be_made_are_refused(demo):
    with pytest.raises(ValueError, match="features must be expression, text, both or recipe:NAME, got 'words'"):
        TrialConfig(label_key="type", features="words")
    with pytest.raises(InputUnusable, match="recipe 'absent' is not one of"):
        trial_features(demo, None, RunConfig(), kind="recipe:absent")
    with pytest.raises(InputUnusable, match="needs a store"):
        trial_features(demo, None, RunConfig(), kind="recipe:genept-w")
    for kind in ("text", "both"):
        with pytest.raises(InputUnusable, match="need a store and knowledge"):
            trial_features(demo, None, RunConfig(), kind=kind)
