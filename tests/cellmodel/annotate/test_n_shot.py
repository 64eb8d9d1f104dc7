"""Draws of labeled cells: as many as asked, never tested on, the same for one seed."""

import numpy as np
import pytest

from cellmodel.annotate.classify import n_shot_splits, stratified_splits
from cellmodel.core.errors import InputUnusable

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


def test_draws_differ_and_a_seed_repeats_them():
    def draws(seed):
        return [split.train.tolist() for split in n_shot_splits(CLASSES, n_shots=(3,), n_draws=4, seed=seed)]

    assert draws(0) == draws(0) != draws(1)
    assert len({tuple(train) for train in draws(0)}) == 4


def test_a_draw_does_not_depend_on_how_many_others_are_asked_for():
    few = list(n_shot_splits(CLASSES, n_shots=(3,), n_draws=1, seed=0))
    many = [split for split in n_shot_splits(CLASSES, n_shots=(1, 3), n_draws=5, seed=0) if split.n_shot == 3]
    assert few[0].train.tolist() == many[0].train.tolist()


def test_unusable_labels_and_numbers_are_refused():
    with pytest.raises(InputUnusable, match="1 classes have more than one cell"):
        next(n_shot_splits(np.array([0, 0, 1]), n_shots=(1,), n_draws=1, seed=0))
    with pytest.raises(ValueError, match="shots and draws must be >= 1"):
        next(n_shot_splits(CLASSES, n_shots=(0,), n_draws=1, seed=0))
    with pytest.raises(ValueError, match="share_test must lie between 0 and 1"):
        next(stratified_splits(CLASSES, share_test=1.0, n_draws=1, seed=0))
