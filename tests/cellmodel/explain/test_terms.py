from itertools import permutations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, pearson3

from cellmodel.explain import terms as terms_module
from cellmodel.explain.terms import index_terms, score_terms
from tests.support import terms as oracle

CD3D = (
    "CD3D: CD3 delta subunit of T-cell receptor complex. The protein encoded by this gene is part of the T-cell "
    "receptor/CD3 complex, and is involved in signal transduction. Defects in this gene cause immunodeficiency "
    "[provided by RefSeq, Feb 2009]."
)


@pytest.mark.parametrize(
    ("texts", "terms", "no_terms"),
    [
        ([CD3D], "t cell, cell receptor, cd3, signal transduction, immunodeficiency", ""),
        ([CD3D], "", "protein, gene, encoded, the, refseq, feb, 2009"),  # stock vocabulary, provenance
        ([CD3D], "", "t, cell, complex"),  # too short or too broad to stand alone
        ([CD3D], "", "subunit t, complex signal"),  # "of" and a comma stand between
        (
            ["A growth factor receptor of the cell surface at 1q21", "conserved loop"],
            "growth factor, factor receptor, cell surface",
            "growth, receptor, surface, loop, conserved loop, 1q21",
        ),
        (
            ["Binds insulin. Glucagon is not bound", "interleukin 2 receptor"],
            "insulin, glucagon, interleukin",
            "insulin glucagon, interleukin receptor, 2",
        ),
        (
            ["platelets and antibodies", "a platelet, an antibody", "diabetes, class, lens"],
            "platelet, antibody, diabetes, lens",
            "platelets, antibodies, diabete, clas",
        ),
    ],
    ids=["informative", "stock", "broad", "broken", "generic", "sentences and numbers", "plurals"],
)
def test_terms_are_informative_words_and_unbroken_phrases(texts, terms, no_terms):
    found = set(index_terms(texts, min_texts=1).terms)
    assert set(filter(None, terms.split(", "))) <= found
    assert not set(no_terms.split(", ")) & found


def test_other_designations_are_no_terms():
    text = "FTL: ferritin light chain. Stores iron. Also: epididymis secretory protein Li 1; HEL-S-9; ferritin subunit."
    index = index_terms([text] * 3, min_texts=3)
    assert {"ferritin", "iron"} <= set(index.terms)
    assert not {"epididymis", "secretory", "hel", "subunit", "ferritin subunit"} & set(index.terms)
    assert index.sentence(text, term="ferritin") == "FTL: ferritin light chain."


def test_a_phrase_is_shown_whole_where_most_texts_agree():
    texts = [
        "Antigen-presenting cells.",
        "Of antigen presenting cells",
        "An antigen-presenting cell",
        "antigen presenting",
    ]
    index = index_terms([*texts, "Peptides of cell walls"], min_texts=2)
    assert index.whole("antigen presenting", texts) == "antigen presenting cell"
    assert index.whole("antigen presenting", texts[2:]) == "antigen presenting"  # two places are few
    assert index.whole("antigen", texts) == "antigen"


sentences = st.sampled_from(
    [CD3D, "Platelets bind the platelet.", "Binds insulin, glucagon; T cells", "natural killer cells 2", "- (A) x.", ""]
)


@given(texts=st.lists(st.lists(sentences, max_size=3).map(" ".join), max_size=45), min_texts=st.integers(1, 4))
def test_terms_of_texts_are_those_of_each_one_by_one(texts, min_texts):
    found, wanted = (one.index_terms(texts, min_texts=min_texts) for one in (terms_module, oracle))
    assert (found.terms, found.boilerplate, dict(found.singulars)) == (
        wanted.terms,
        wanted.boilerplate,
        dict(wanted.singulars),
    )
    assert found.presence.toarray().tolist() == wanted.presence.toarray().tolist()


def test_a_plural_is_present_as_its_singular():
    index = index_terms(["platelets and antibodies", "a platelet, an antibody", "lens"], min_texts=2)
    assert index.terms == ("antibody", "platelet")
    assert index.presence.toarray().tolist() == [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize(("n_texts", "is_left_out"), [(19, False), (20, True)])
def test_sentences_that_many_texts_share_are_left_out(n_texts, is_left_out):
    shared = "Ribosomes consist of organelles scattered widely."
    index = index_terms([f"RP{n}: ribosomal subunit. {shared}" for n in range(n_texts)], min_texts=3)
    assert "ribosomal" in index.terms
    assert {"organelle", "organelles"}.isdisjoint(index.terms) == is_left_out
    assert (shared in index.boilerplate) == is_left_out


@pytest.mark.parametrize("texts", [[], ["", "the of and"], ["insulin", "glucagon"]])
def test_no_frequent_term_gives_an_empty_index(texts):
    index = index_terms(texts, min_texts=2)
    assert index.terms == ()
    assert index.presence.shape == (len(texts), 0)


def test_sentence_is_the_first_that_holds_the_term():
    index = index_terms([CD3D, "Many T cells."], min_texts=1)
    assert index.sentence(CD3D, term="t cell") == "CD3D: CD3 delta subunit of T-cell receptor complex."
    assert index.sentence(CD3D, term="immunodeficiency") == "Defects in this gene cause immunodeficiency ."
    assert index.sentence("No B cell. All are T cells.", term="t cell") == "All are T cells."
    with pytest.raises(ValueError, match="holds the term 'insulin'"):
        index.sentence(CD3D, term="insulin")


def presence_of(rng: np.random.Generator, *, n_genes: int, sizes: list[int]) -> sp.csr_matrix:
    """Terms in so many texts each, in random genes."""
    dense = np.zeros((n_genes, len(sizes)))
    for term, size in enumerate(sizes):
        dense[rng.choice(n_genes, size, replace=False), term] = 1.0
    return sp.csr_matrix(dense)


def test_score_is_the_normal_equivalent_under_all_shuffles():
    rng = np.random.default_rng(0)
    weights = rng.gamma(1.0, size=8)
    presence = presence_of(rng, n_genes=8, sizes=[2, 3, 5])
    found = score_terms(weights[:, None], presence, n_permutations=1, rng=rng).score.ravel()
    sums = np.array([presence.T @ weights[list(order)] for order in permutations(range(8))])  # (shuffle, term)
    standard = (sums - sums.mean(axis=0)) / sums.std(axis=0)
    skewness = np.maximum((standard**3).mean(axis=0), 0.0)
    observed = (presence.T @ weights - sums.mean(axis=0)) / sums.std(axis=0)
    np.testing.assert_allclose(found, norm.isf(pearson3.sf(observed, skewness)), atol=0.05)


def test_shuffles_stay_among_texts_of_the_same_length():
    rng = np.random.default_rng(1)
    is_long = np.repeat([0.0, 1.0], 60)
    presence = sp.hstack([presence_of(rng, n_genes=120, sizes=[40]), np.repeat(is_long[:, None], 30, axis=1)]).tocsr()
    weights = (is_long + rng.random(120) * 0.1)[:, None]  # genes with long texts lead, whatever their texts say
    scores = score_terms(weights, presence, n_permutations=50, rng=rng)
    assert scores.score[1:].tolist() == [[0.0]] * 30  # in every long text: no shuffle can change it
    assert scores.p_value[1:].tolist() == [[1.0]] * 30


def test_p_values_are_uniform_without_structure():
    rng = np.random.default_rng(2)
    weights = rng.gamma(0.3, size=(600, 4))
    presence = presence_of(rng, n_genes=600, sizes=list(rng.integers(3, 200, 300)))
    scores = score_terms(weights, presence, n_permutations=200, rng=rng)
    assert abs(scores.score.mean()) < 0.1
    assert 0.9 < scores.score.std() < 1.1
    assert 0.47 < scores.p_value.mean() < 0.53
    for level in (0.05, 0.25, 0.5, 0.75):
        assert abs((scores.p_value <= level).mean() - level) < 0.04


def test_adjusted_p_value_holds_the_error_of_the_whole_search():
    best = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        presence = presence_of(rng, n_genes=300, sizes=list(rng.integers(3, 60, 200)))
        scores = score_terms(rng.gamma(0.3, size=(300, 3)), presence, n_permutations=99, rng=rng)
        assert (scores.p_adjusted >= scores.p_value).all()
        best.extend(scores.p_adjusted.min(axis=0))
    assert np.mean(np.array(best) <= 0.05) <= 0.1  # 0.05 expected of 120 searches
    assert 0.4 < np.mean(best) < 0.6


def test_rare_and_common_terms_compare():
    rng = np.random.default_rng(3)
    weights = rng.gamma(0.1, size=(1000, 1))  # most genes near 0, a few large
    sizes = [3] * 1000 + [200] * 1000
    score = score_terms(weights, presence_of(rng, n_genes=1000, sizes=sizes), n_permutations=1, rng=rng).score
    share = [np.mean(half > 1.64) for half in (score[:1000], score[1000:])]
    assert share == pytest.approx([0.05, 0.05], abs=0.025)


def test_weights_without_variation_score_nothing():
    presence = presence_of(np.random.default_rng(4), n_genes=30, sizes=[5, 10])
    for weights in (np.zeros((30, 1)), np.full((30, 1), 0.7)):
        scores = score_terms(weights, presence, n_permutations=9, rng=np.random.default_rng(4))
        assert scores.score.tolist() == [[0.0], [0.0]]
        assert scores.p_value.tolist() == [[1.0], [1.0]]
        assert scores.p_adjusted.tolist() == [[1.0], [1.0]]
