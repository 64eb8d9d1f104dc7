"""Moderated t: ordinary t and least squares as oracles, the prior found again, uniform p values without an effect."""

import numpy as np
import pytest
from scipy import stats

from cellmodel.explain.samples.moderated_t import fit_effects, moderate, prior_of

SIDE = np.repeat([1.0, 0.0], [3, 4])
ONES = np.ones((7, 1))


def draw(rng, *, prior_df, scale, n_genes=4000, n_units=7):
    """Genes whose variances follow the model: scale * prior_df / chi2(prior_df)."""
    variance = scale * prior_df / rng.chisquare(prior_df, n_genes)
    return rng.normal(0, np.sqrt(variance)[:, None], (n_genes, n_units))


def test_without_a_prior_it_is_students_t_and_of_blocks_the_paired_t():
    values = np.random.default_rng(0).normal(size=(2, 8))  # of two genes nothing is learnt
    side = np.tile([1.0, 0.0], 4)
    donors = np.repeat(np.eye(4), 2, axis=0)
    for test, nuisance, df in ((stats.ttest_ind, np.ones((8, 1)), 6), (stats.ttest_rel, donors, 3)):
        found = moderate(fit_effects(values, side, nuisance))
        oracle = test(values[:, ::2], values[:, 1::2], axis=1)
        np.testing.assert_allclose(found.t, oracle.statistic)
        np.testing.assert_allclose(found.p_value, oracle.pvalue)
        assert (found.df, found.prior_df) == (df, 0)


def test_effects_are_those_of_least_squares():
    rng = np.random.default_rng(2)
    values, effect, nuisance = rng.normal(size=(5, 9)), rng.normal(size=9), rng.normal(size=(9, 3))
    design = np.column_stack([effect, nuisance])
    oracle, residual, *_ = np.linalg.lstsq(design, values.T, rcond=None)
    found = fit_effects(values, effect, nuisance)
    np.testing.assert_allclose(found.estimate, oracle[0])
    np.testing.assert_allclose(found.variance, residual / 5)
    np.testing.assert_allclose(found.error, np.sqrt(np.linalg.inv(design.T @ design)[0, 0]))


@pytest.mark.parametrize("prior_df", [3.0, 10.0])
def test_the_prior_is_found_again(prior_df):
    values = draw(np.random.default_rng(3), prior_df=prior_df, scale=2.0)
    effects = fit_effects(values, SIDE, ONES)
    found, prior = prior_of(effects.variance, effects.df)
    assert found == pytest.approx(prior_df, rel=0.2)
    np.testing.assert_allclose(prior, 2.0, rtol=0.1)


def test_genes_that_vary_alike_have_a_prior_without_end():
    values = np.random.default_rng(4).normal(size=(4000, 7))
    effects = fit_effects(values, SIDE, ONES)
    prior_df, prior = prior_of(effects.variance, effects.df)
    assert prior_df > 50
    np.testing.assert_allclose(prior, 1.0, rtol=0.05)


def test_a_trend_of_the_variance_is_followed():
    rng = np.random.default_rng(5)
    mean = rng.uniform(2, 12, 4000)
    values = draw(rng, prior_df=8.0, scale=1.0) * np.sqrt(np.exp(-0.3 * mean))[:, None]
    effects = fit_effects(values, SIDE, ONES)
    prior_df, prior = prior_of(effects.variance, effects.df, trend=mean)
    assert prior_df == pytest.approx(8.0, rel=0.3)
    np.testing.assert_allclose(np.log(prior), -0.3 * mean, atol=0.25)


def test_p_values_without_an_effect_are_uniform():
    values = draw(np.random.default_rng(6), prior_df=4.0, scale=1.0)
    found = moderate(fit_effects(values, SIDE, ONES), trend=values.mean(axis=1))
    assert stats.kstest(found.p_value, "uniform").pvalue > 0.01


def test_it_finds_more_than_students_t():
    values = draw(np.random.default_rng(7), prior_df=6.0, scale=1.0)
    values[:200, :3] += 5
    p_value = moderate(fit_effects(values, SIDE, ONES)).p_value
    ordinary = stats.ttest_ind(values[:, :3], values[:, 3:], axis=1).pvalue
    found, without = (stats.false_discovery_control(each) <= 0.05 for each in (p_value, ordinary))
    assert found[:200].sum() > 1.5 * without[:200].sum()
    assert found[200:].sum() <= 0.1 * found.sum()


def test_an_effect_that_blocks_determine_is_refused():
    with pytest.raises(ValueError, match="combination of the nuisance"):
        fit_effects(np.ones((2, 7)), SIDE, np.column_stack([ONES, 1 - SIDE]))
    with pytest.raises(ValueError, match="no residual degree"):
        moderate(fit_effects(np.ones((2, 2)), np.array([1.0, 0.0]), np.ones((2, 1))))
