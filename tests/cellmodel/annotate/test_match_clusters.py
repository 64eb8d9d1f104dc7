import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import false_discovery_control, hypergeom, ttest_ind

from cellmodel.annotate.match_clusters import (
    UNMATCHED,
    CompareConfig,
    common_space,
    match_clusters,
    match_profiles,
    match_weights,
    upregulation,
)
from cellmodel.annotate.shared_genes import ComparedSide
from cellmodel.core.random import generator

N_GENES, PER_TYPE, N_CELLS, DIM = 120, 12, 40, 12
CONFIG = CompareConfig(n_permutations=60, rank=10, n_profile_genes=30)


def planted_vectors(n_types=5):
    """Texts of the genes of a type point one way; those of the other genes anywhere."""
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((N_GENES, DIM))
    for number in range(n_types):
        vectors[number * PER_TYPE : (number + 1) * PER_TYPE] += 6 * np.eye(DIM)[number]
    return vectors.astype(np.float32)


def side(types, *, seed, ids=None, vectors=None):
    """Cells in which type t leads in the genes 12t .. 12t+11; clusters stand in the order of ``types``."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(types)), N_CELLS)
    rates = np.full((len(types), N_GENES), 0.5)
    for row, number in enumerate(types):
        rates[row, number * PER_TYPE : (number + 1) * PER_TYPE] = 3.0
    counts = rng.poisson(rates[labels])
    return ComparedSide(
        clusters=tuple(f"t{number}" for number in types),
        labels=labels,
        expression=sp.csr_matrix(np.log1p(counts).astype(np.float32)),
        gene_names=tuple(f"G{gene}" for gene in range(N_GENES)),
        gene_ids=np.arange(1, N_GENES + 1) if ids is None else ids,
        vectors=planted_vectors() if vectors is None else vectors,
    )


@pytest.fixture(scope="module")
def matched():
    return match_clusters(side((0, 1, 2, 3), seed=0), side((2, 0, 1, 4), seed=1), config=CONFIG, seed=0)


def test_each_type_finds_itself_by_meaning_and_by_its_own_markers_and_what_one_side_lacks_finds_none(matched):
    for match in matched[0]:
        number = int(match.cluster[1])
        is_shared = number < 3
        expected = match.cluster if is_shared else UNMATCHED
        assert (match.match, match.by_markers) == (expected, expected)
        assert (match.is_reciprocal, match.n_cells) == (is_shared, N_CELLS)
        if is_shared:
            assert match.by_meaning == match.cluster
            own = {f"G{gene}" for gene in range(number * PER_TYPE, (number + 1) * PER_TYPE)}
            for genes in (match.shared_markers, match.own_genes, match.other_genes):
                assert (len(genes), set(genes) <= own) == (10, True)


def test_overlap_is_tested_as_scipy_tests_it(matched):
    pairs = matched[1]
    p = np.array([pair.p_markers for pair in pairs])
    np.testing.assert_allclose([pair.p_markers_adjusted for pair in pairs], false_discovery_control(p))
    markers = brute_markers(side((0, 1, 2, 3), seed=0)), brute_markers(side((2, 0, 1, 4), seed=1))
    sizes = [{name: len(genes) for name, genes in each.items()} for each in markers]
    for pair in pairs:
        shared = len(markers[0][pair.a] & markers[1][pair.b])
        assert pair.n_shared == shared
        expected = hypergeom.sf(shared - 1, N_GENES, sizes[1][pair.b], sizes[0][pair.a])
        assert pair.p_markers == pytest.approx(expected)


def brute_markers(one):
    dense, found = one.expression.toarray().astype(float), {}
    for row, name in enumerate(one.clusters):
        t, p = ttest_ind(dense[one.labels == row], dense[one.labels != row], equal_var=False)
        passing = np.flatnonzero((t > 0) & (false_discovery_control(p) <= CONFIG.max_marker_p))
        found[name] = set(passing[np.argsort(-t[passing])][: CONFIG.n_markers].tolist())
    return found


def test_where_no_gene_meets_meaning_finds_the_types_alone():
    odd = np.arange(1, N_GENES + 1)
    a, b = side((0, 1, 2, 3), seed=0, ids=odd), side((2, 0, 1, 3), seed=1, ids=odd + 1000)
    matches, pairs = match_clusters(a, b, config=CONFIG, seed=0)
    assert [match.match for match in matches] == [match.cluster for match in matches]
    assert {match.by_markers for match in matches} == {UNMATCHED}
    assert {pair.p_markers for pair in pairs} == {1.0}


def test_texts_dealt_out_at_random_are_no_meaning():
    vectors = planted_vectors()[np.random.default_rng(5).permutation(N_GENES)]
    a, b = side((0, 1, 2, 3), seed=0), side((0, 1, 2, 3), seed=1, vectors=vectors)
    matches, _ = match_clusters(a, b, config=CONFIG, seed=0)
    assert sum(match.by_meaning == UNMATCHED for match in matches) >= 6
    assert all(match.by_markers == match.cluster for match in matches)
    assert sum(match.match == UNMATCHED for match in matches) >= 6


def test_the_same_seed_gives_the_same_answer_and_turned_sides_the_turned_one(matched):
    a, b = side((0, 1, 2, 3), seed=0), side((2, 0, 1, 4), seed=1)
    assert match_clusters(a, b, config=CONFIG, seed=0) == matched
    back, _ = match_clusters(b, a, config=CONFIG, seed=0)
    said = {(match.side, match.cluster): match.match for match in matched[0]}
    assert said == {("b" if match.side == "a" else "a", match.cluster): match.match for match in back}


def test_upregulation_are_the_lead_less_one_error_in_deviations():
    one = side((0, 1, 2), seed=4)
    dense = one.expression.toarray().astype(float)
    groups = [dense[one.labels == row] for row in range(3)]
    weights = upregulation(one.expression, one.labels, n_top=N_GENES)
    for row, gene in ((0, 0), (1, 17), (2, 30), (2, 119)):
        others = [groups[other] for other in range(3) if other != row]
        lead = groups[row][:, gene].mean() - np.mean([other[:, gene].mean() for other in others])
        variances = [each[:, gene].var(ddof=1) / N_CELLS for each in (groups[row], *others)]
        error = np.sqrt(variances[0] + (variances[1] + variances[2]) / 4)
        within = np.mean([each[:, gene].var(ddof=1) for each in groups])
        between = np.var([each[:, gene].mean() for each in groups])
        expected = np.clip((lead - error) / np.sqrt(within + between), 0, 2)
        assert weights[row, gene] == pytest.approx(expected, abs=1e-6)


def test_upregulation_do_not_see_how_large_the_other_clusters_are():
    one = side((0, 1, 2), seed=4)
    doubled = np.concatenate([np.arange(3 * N_CELLS), *[np.flatnonzero(one.labels == 2)] * 20])
    before = upregulation(one.expression, one.labels, n_top=12)
    after = upregulation(one.expression[doubled], one.labels[doubled], n_top=12)
    assert set(np.flatnonzero(before[0])) == set(np.flatnonzero(after[0])) == set(range(12))
    assert (before > 0).sum(axis=1).max() <= 12


def test_profiles_are_centered_over_the_clusters_of_a_side_and_are_sums_over_its_genes():
    def centered(rows):
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows - rows.mean(axis=0)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    rng = np.random.default_rng(0)
    weights, vectors = rng.random((3, 8)), rng.standard_normal((8, 5))
    found = match_profiles(
        weights, weights, left_vectors=vectors, right_vectors=vectors, n_permutations=3, rng=generator(0, "test")
    )
    profiles, plain = centered(weights @ vectors), centered(weights)
    np.testing.assert_allclose(found.left @ vectors, profiles)
    np.testing.assert_allclose(found.cosine, profiles @ profiles.T)
    np.testing.assert_allclose(match_weights(weights, weights), plain @ plain.T)


def test_a_gene_without_text_stays_out_of_the_common_space():
    vectors = planted_vectors()
    vectors[7] = 0
    left, right = common_space(vectors, planted_vectors(), rank=6)
    assert not left[7].any()
    np.testing.assert_allclose(np.linalg.norm(np.delete(left, 7, axis=0), axis=1), 1, rtol=1e-5)
    assert right.shape == (N_GENES, 6)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="n_markers must be >= 1, got 0"):
        CompareConfig(n_markers=0)
    with pytest.raises(ValueError, match=r"p values must lie in \(0, 1\], got 0.05"):
        CompareConfig(max_p=0.0)
