import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, recall_score

from cellmodel.bench.metrics import score, score_classes
from tests.support import oracles, strategies


@settings(deadline=None)
@given(labels=strategies.labelings(max_cells=15))
def test_accuracy_is_the_best_of_all_matchings(labels):
    y_true, y_pred = labels
    assert score(y_true, y_pred).accuracy == pytest.approx(oracles.accuracy_by_all_matchings(y_true, y_pred))


@settings(deadline=None)
@given(labels=strategies.labelings())
def test_ari_and_nmi_equal_their_definitions(labels):
    y_true, y_pred = (part.tolist() for part in labels)
    found = score(y_true, y_pred)
    assert found.ari == pytest.approx(oracles.rand_index_by_pairs(y_true, y_pred), abs=1e-9)
    assert found.nmi == pytest.approx(oracles.information_by_definition(y_true, y_pred), abs=1e-9)


@settings(deadline=None)
@given(labels=strategies.labelings(), names=st.permutations(["zeta", "b", "10", "9", "alpha"]), seed=strategies.seeds)
def test_names_and_the_order_of_cells_do_not_matter(labels, names, seed):
    y_true, y_pred = labels
    order = np.random.default_rng(seed).permutation(len(y_true))
    renamed = score([names[kind] for kind in y_true[order]], [names[-1 - cluster] for cluster in y_pred[order]])
    plain = score(y_true, y_pred)
    for name in ("accuracy", "nmi", "ari", "n_clusters", "n_types"):
        assert getattr(renamed, name) == pytest.approx(getattr(plain, name))


@given(labels=strategies.labelings())
def test_a_labeling_agrees_with_itself(labels):
    found = score(labels[0], labels[0])
    assert (found.accuracy, found.macro_f1, found.balanced_accuracy) == (1, 1, 1)
    assert found.nmi == pytest.approx(1)
    assert found.ari == 1


def test_fewer_clusters_than_types_leave_types_without_a_match():
    found = score(list("aaabbc"), [0, 0, 0, 1, 1, 1])
    assert found.accuracy == pytest.approx(5 / 6)
    assert found.macro_f1 == pytest.approx((1 + 2 * 2 / (2 + 3) + 0) / 3)
    assert found.balanced_accuracy == pytest.approx((1 + 1 + 0) / 3)
    assert (found.n_clusters, found.n_types) == (2, 3)


def test_surplus_clusters_count_as_wrong():
    found = score(list("aaaabb"), [0, 0, 1, 1, 2, 3])
    assert found.accuracy == pytest.approx(3 / 6)
    assert found.macro_f1 == pytest.approx((2 * 2 / (4 + 2) + 2 * 1 / (2 + 1)) / 2)
    assert found.balanced_accuracy == pytest.approx(0.5)


def test_a_rare_type_weighs_as_much_as_a_common_one_in_macro_scores_only():
    found = score(["common"] * 98 + ["rare"] * 2, [0] * 100)
    assert found.accuracy == pytest.approx(0.98)
    assert found.balanced_accuracy == pytest.approx(0.5)
    assert found.macro_f1 == pytest.approx(2 * 98 / 198 / 2)


def test_random_clusters_have_an_ari_near_zero():
    rng = np.random.default_rng(0)
    assert abs(score(rng.integers(0, 5, 5000), rng.integers(0, 5, 5000)).ari) < 0.005


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="y_true has 3 cells, y_pred 2"):
        score(["a", "b", "c"], [0, 1])


@pytest.mark.parametrize(
    "labels",
    [
        ["a", None, "b"],
        np.array(["a", np.nan, "b"], dtype=object),
        np.array([1.0, np.nan, 2.0]),
        pd.Categorical(["a", None, "b"]),
        pd.array(["a", None, "b"], dtype="string"),
    ],
    ids=["none", "object", "float", "categorical", "pandas string"],
)
def test_missing_labels_are_refused_of_whatever_kind(labels):
    with pytest.raises(ValueError, match="y_true has 3 cells, 1 of them without a label"):
        score(labels, [0, 1, 1])
    with pytest.raises(ValueError, match="y_pred has 3 cells, 1 of them without a label"):
        score([0, 1, 1], labels)


def test_no_cell_is_refused():
    with pytest.raises(ValueError, match="y_true has 0 cells"):
        score([], [])


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcdu")), min_size=1, max_size=30))
def test_scores_of_classes_are_those_of_scikit_learn(pairs):
    y_true, y_pred = map(list, zip(*pairs, strict=True))
    found, types = score_classes(y_true, y_pred, unassigned="u"), sorted(set(y_true))
    recall = recall_score(y_true, y_pred, labels=types, average=None, zero_division=0)
    assert found.accuracy == pytest.approx(accuracy_score(y_true, y_pred))
    assert found.macro_f1 == pytest.approx(f1_score(y_true, y_pred, labels=types, average="macro", zero_division=0))
    assert found.recall == pytest.approx(dict(zip(types, recall, strict=True)))
    assert found.balanced_accuracy == pytest.approx(recall.mean())
    table = [[pairs.count((kind, name)) for name in found.classes] for kind in types]
    np.testing.assert_array_equal(found.confusion, table)
    assert found.share_unassigned == pytest.approx(y_pred.count("u") / len(y_pred))


def test_names_of_classes_are_not_matched_to_types():
    assert score(list("aabb"), list("bbaa")).accuracy == 1
    assert score_classes(list("aabb"), list("bbaa")).accuracy == 0


def test_classes_that_do_not_go_with_the_cells_are_refused():
    with pytest.raises(ValueError, match="y_true has 3 cells, y_pred 2"):
        score_classes(["a", "b", "c"], ["a", "b"])
    with pytest.raises(ValueError, match="y_true has 2 cells, 1 of them without a label"):
        score_classes(["a", None], ["a", "b"])
