"""Words as they are compared: plurals, case and hyphens; what only looks like a plural."""

import pytest

from genekb.core.words import singular, spellings, split_words, stop_words


@pytest.mark.parametrize(
    ("plurals", "singulars"),
    [
        ("cells bodies complexes classes branches viruses diseases", "cell body complex class branch virus disease"),
        ("mitochondria nuclei epithelia helices analyses", "mitochondrion nucleus epithelium helix analysis"),
        ("causes kinases fibres niches embryos carcinomas", "cause kinase fibre niche embryo carcinoma"),
    ],
)
def test_a_plural_is_its_singular(plurals, singulars):
    assert split_words(plurals) == singulars.split()
    assert split_words(singulars) == singulars.split()


@pytest.mark.parametrize(
    "text", ["pancreas lens plus class virus axis series species", "nras kras aids gas2s cd4s trans"]
)
def test_what_only_looks_like_a_plural_is_left_alone(text):
    assert split_words(text) == text.split()


def test_case_hyphens_and_underscores_part_words():
    assert split_words("T-cells (CD4+), B_Cells") == ["t", "cell", "cd4", "b", "cell"]
    assert split_words("...") == []


@pytest.mark.parametrize("word", ["cell", "cells", "antibodies", "virus", "mitochondria", "class", "cd4", "lens"])
def test_spellings_are_all_that_fold_to_one_singular(word):
    found = spellings(word)
    assert {word, singular(word)} <= set(found)
    assert {singular(one) for one in found} == {singular(word)}
    assert all(spellings(one) == found for one in found if one in {word, singular(word)})


def test_stop_words_are_those_of_scikit_learn():
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    assert stop_words() == ENGLISH_STOP_WORDS
