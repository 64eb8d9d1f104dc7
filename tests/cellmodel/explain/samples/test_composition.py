"""Composition: Student's t as the oracle of two clusters, planted changes found, few calls without any."""

import numpy as np
import pytest
from scipy import stats

from cellmodel.core.errors import InputUnusable
from cellmodel.explain.samples.composition import compare_shares, composition_frame, share_frame, transform_shares
from cellmodel.explain.samples.design import SampleConfig, find_replicates
from cellmodel.io.cells import ObsCategories

CONFIG = SampleConfig(sample_key="donor", condition_key="stim")


def replicates(n_samples, *, paired=False):
    """One cell a replicate; the first half of the samples is in the reference where they are not paired."""
    if paired:
        samples, conditions = np.repeat(np.arange(n_samples), 2), np.tile([0, 1], n_samples)
    else:
        samples = np.arange(n_samples)
        conditions = (samples >= n_samples // 2).astype(np.int64)
    names = tuple(f"s{sample}" for sample in range(n_samples))
    donors = ObsCategories(key="donor", names=names, codes=samples)
    stim = ObsCategories(key="stim", names=("ctrl", "stim"), codes=conditions)
    return find_replicates(donors, stim, None, config=CONFIG)


def draw(rng, shares, *, concentration=60, n_samples=8, n_cells=800):
    """Cells of clusters in samples whose shares differ."""
    return np.stack([rng.multinomial(n_cells, rng.dirichlet(concentration * shares)) for _ in range(n_samples)])


def names_of(n_cells):
    return [str(cluster) for cluster in range(n_cells.shape[1])]


def compare(n_cells, found, **options):
    (one,) = compare_shares(n_cells, found, cluster_names=names_of(n_cells), config=CONFIG, **options)
    return one


@pytest.mark.parametrize("transform", ["arcsine", "logit"])
def test_two_clusters_give_students_t(transform):
    n_cells = draw(np.random.default_rng(0), np.array([0.3, 0.7]))
    found = compare(n_cells, replicates(8), transform=transform)
    values = np.arcsin(np.sqrt(n_cells[:, 0] / 800))
    if transform == "logit":
        values = np.log((n_cells[:, 0] + 0.5) / (n_cells[:, 1] + 0.5))
    oracle = stats.ttest_ind(values[4:], values[:4])
    assert found.statistic[0] == pytest.approx(oracle.statistic)
    assert found.p_value[0] == pytest.approx(oracle.pvalue)


def test_pairs_are_compared_with_themselves():
    rng = np.random.default_rng(1)
    own = rng.dirichlet([3, 3, 3, 3], 5)  # samples differ much
    own = np.repeat(own, 2, axis=0)
    own[1::2, 0] *= 2
    n_cells = np.stack([rng.multinomial(2000, shares / shares.sum()) for shares in own])
    found = compare(n_cells, replicates(5, paired=True))
    assert found.design.is_paired
    assert found.p_value[0] < 0.01
    assert (found.mean / found.mean_against)[0] > 1.3


def test_a_planted_change_is_found_and_nothing_else_called():
    rng = np.random.default_rng(2)
    base, changed = np.array([5, 10, 15, 20, 25, 25]) / 100, np.array([20, 8, 13, 17, 21, 21]) / 100
    hits = 0
    for _ in range(20):
        n_cells = np.vstack([draw(rng, base, n_samples=4), draw(rng, changed, n_samples=4)])
        hits += compare(n_cells, replicates(8)).p_adjusted[0] <= 0.05
    assert hits >= 17


def test_without_a_change_p_values_are_not_too_small():
    rng = np.random.default_rng(3)
    base = np.array([2, 5, 8, 15, 20, 25, 25]) / 100
    p_values = [compare(draw(rng, base), replicates(8)).p_value for _ in range(60)]
    assert np.mean(np.concatenate(p_values) <= 0.05) <= 0.07


@pytest.mark.parametrize(
    ("n_cells", "reason", "shares", "ratios"),
    [
        ([[30, 70], [60, 40]], "one sample on a side", [0.6, 0.4], [2.0, 4 / 7]),
        (np.repeat([[30, 50, 20], [10, 60, 30]], 4, axis=0), "do not vary within", [0.1, 0.6, 0.3], [1 / 3, 1.2, 1.5]),
    ],
    ids=["one a side", "copies"],
)
def test_one_sample_a_side_and_copies_of_it_have_shares_and_no_p_values(n_cells, reason, shares, ratios):
    found = compare(np.array(n_cells), replicates(len(n_cells)))
    assert reason in found.reason
    assert np.isnan(found.p_value).all()
    np.testing.assert_allclose(found.mean, shares)
    np.testing.assert_allclose(composition_frame([found])["ratio"], ratios)


def test_an_absent_cluster_and_a_small_sample_are_left_out():
    n_cells = np.column_stack([draw(np.random.default_rng(4), np.array([0.5, 0.2, 0.3])), np.zeros(8, dtype=np.int64)])
    n_cells[0] = [5, 2, 1, 0]
    found = compare(n_cells, replicates(8))
    assert found.clusters == ("0", "1", "2")
    assert found.design.n_samples == (4, 3)
    assert compare(n_cells[:, [0]], replicates(8)).reason == "all cells of these samples are of one cluster"
    with pytest.raises(InputUnusable, match="no sample in 'donor' has 10 cells"):
        compare(n_cells // 1000, replicates(8))


def test_shares_of_a_sample_add_up():
    n_cells = draw(np.random.default_rng(5), np.array([0.5, 0.2, 0.3]), n_samples=4)
    table = share_frame(n_cells, replicates(4), cluster_names=names_of(n_cells))
    np.testing.assert_allclose(table.groupby("sample")["share"].sum(), 1.0)
    assert table["condition"].tolist() == ["ctrl"] * 6 + ["stim"] * 6
    assert np.isfinite(transform_shares(np.array([[0, 10], [10, 0]]), "logit")).all()
