import numpy as np
import pytest
import scipy.sparse as sp

import cellmodel as cm
from cellmodel.core.errors import InputUnusable
from cellmodel.perturb.effects import EffectSettings, _Trials, measure_effects, predict_effects, pseudo_replicates
from tests.support.screens import CONTROL, HELD_OUT, PERTURBED, TOPICS, simulate, symbol


@pytest.fixture(scope="module")
def screen():
    return simulate()


def direction(effects, truth, *, layer="mean"):
    """Correlation of predicted effects with the directions that were simulated, one a perturbation."""
    return np.array([np.corrcoef(row, true)[0, 1] for row, true in zip(effects.layers[layer], truth, strict=True)])


def test_effects_of_unseen_perturbations_follow_their_family_and_shuffled_texts_do_not(screen, screen_kb):
    adata, truth = screen
    before = adata.copy()
    found = cm.tl.perturb(adata, screen_kb, genes=HELD_OUT, replicate_key="batch")
    assert (found.obs_names.tolist(), found.var_names.tolist()) == (HELD_OUT, adata.var_names.tolist())
    assert direction(found, truth).mean() > 0.85
    assert found.uns["cellmodel_perturb"]["explained_out_of_fold"] > 0.5
    shuffled = cm.tl.perturb(adata, screen_kb, genes=HELD_OUT, replicate_key="batch", knowledge="shuffled")
    assert abs(direction(shuffled, truth).mean()) < 0.4
    assert shuffled.uns["cellmodel_perturb"]["explained_out_of_fold"] < 0.1
    assert (adata.X != before.X).nnz == 0
    assert list(adata.uns) == list(before.uns)


def test_intervals_hold_most_effects_that_are_measured_later(screen, screen_kb):
    adata, _ = screen
    found = cm.tl.perturb(adata, screen_kb, genes=HELD_OUT, replicate_key="batch")
    later, _ = simulate(per_topic=PERTURBED, seed=0)
    measured = cm.tl.perturb(later, screen_kb, genes=HELD_OUT, replicate_key="batch")
    assert set(measured.obs["source"]) == {"trained"}
    inside = (measured.layers["mean"] >= found.layers["lower"]) & (measured.layers["mean"] <= found.layers["upper"])
    assert 0.85 < inside.mean() <= 1.0


def test_a_perturbation_of_the_screen_is_answered_from_its_cells(screen, screen_kb):
    adata, _ = screen
    name = symbol(next(iter(TOPICS)), 0)
    found = cm.tl.perturb(adata, screen_kb, genes=[name, HELD_OUT[0], "NOSUCH"], replicate_key="batch")
    assert found.obs["source"].tolist() == ["trained", "predicted", "predicted"]
    assert found.obs["n_cells"].tolist() == [60, 0, 0]
    assert found.obs["note"].tolist() == ["", "", "no text: mean of the trained perturbations"]
    counts = np.asarray(adata.X.todense(), dtype=float)
    expression = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    label, batch = adata.obs["perturbation"].to_numpy(), adata.obs["batch"].to_numpy()
    each = [
        expression[(label == name) & (batch == one)].mean(axis=0)
        - expression[(label == CONTROL) & (batch == one)].mean(axis=0)
        for one in ("a", "b")
    ]
    np.testing.assert_allclose(found.layers["mean"][0], np.mean(each, axis=0), atol=1e-4)


def test_without_replicates_it_says_that_they_are_pseudo(screen, screen_kb, caplog):
    found = cm.tl.perturb(screen[0], screen_kb, genes=HELD_OUT[:1])
    assert "no replicates named" in caplog.text
    assert found.uns["cellmodel_perturb"]["replicates"].startswith("pseudo-replicates")
    assert set(pseudo_replicates([f"c{n}" for n in range(60)])) == {"0", "1", "2"}


def test_texts_that_say_nothing_give_the_mean_of_the_trained_perturbations():
    rng = np.random.default_rng(0)
    measured, vectors = rng.standard_normal((30, 8)), rng.standard_normal((30, 16)).astype(np.float32)
    names, genes = [f"p{n}" for n in range(30)], rng.standard_normal((8, 16)).astype(np.float32)
    found = predict_effects(measured, vectors, names, new=np.zeros((1, 16), dtype=np.float32), gene_vectors=genes * 0)
    np.testing.assert_allclose(found.mean[0], measured.mean(axis=0))


def test_settings_are_recorded_and_what_they_explain_is_of_groups_that_did_not_choose_them(screen, screen_kb):
    record = cm.tl.perturb(screen[0], screen_kb, genes=HELD_OUT, replicate_key="batch").uns["cellmodel_perturb"]
    assert record["settings"].keys() == {"temperature", "ridge", "gene_temperature", "uses_text"}
    trials = _Trials(measured=np.zeros((8, 1)), folds=np.arange(8) % 4, best=(EffectSettings(), np.zeros((8, 1))))
    trials.errors = [np.array([1.0, 1, 1, 1]), np.array([0.0, 1, 1, 1]), np.array([2.0, 0.5, 0.5, 0.5])]
    assert trials.explained() == pytest.approx(1 - (2.0 + 1.0 * 3) / 4)


def test_one_replicate_has_no_error_and_unlabeled_cells_are_left_out():
    expression = sp.csr_matrix(np.ones((42, 2), dtype=np.float32))
    labels = ["control", *[f"p{n}" for n in range(20)]] * 2
    labels[-1] = ""
    found = measure_effects(expression, labels, ["a"] * 42, control="control")
    assert (len(found.names), found.n_cells.sum()) == (20, 39)
    assert np.isnan(found.error).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"control": "non-targetting"}, "did you mean 'non-targeting'"),
        ({"perturbation_key": "pertubation"}, "has no column 'pertubation'"),
        ({"replicate_key": "rep"}, "has no column 'rep'"),
    ],
)
def test_a_wrong_column_or_control_is_one_line(settings, message, screen, screen_kb):
    with pytest.raises(InputUnusable, match=message):
        cm.tl.perturb(screen[0], screen_kb, genes=HELD_OUT, **settings)


def test_few_perturbations_are_refused_with_what_is_needed(screen_kb):
    adata, _ = simulate(per_topic=2, n_cells=5)
    with pytest.raises(InputUnusable, match=r"16 perturbations beside 'non-targeting' .* at least 20 are needed"):
        cm.tl.perturb(adata, screen_kb, genes=HELD_OUT, replicate_key="batch")
