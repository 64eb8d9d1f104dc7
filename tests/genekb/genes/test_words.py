import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from genekb.core.words import split_clauses, split_sentences
from genekb.genes.texts import prose_of
from genekb.genes.words import count_words, split_texts, words_table
from genekb.schema import strings

pieces = st.sampled_from(
    [*"aB3.;,:-()[]!_\n\t ", ". ", "; X", " - ", "é", "β", "Ⅷ", "Gene", "T-cell", "[provided by X].", "\x1c", "\0"]
)
written = st.lists(st.lists(pieces, max_size=12).map("".join), max_size=5)


def words_one_by_one(text):
    words = []
    for sentence in split_sentences(text):
        clauses = [re.findall("[a-z0-9]+", clause.lower()) for clause in split_clauses(sentence)]
        words += [word for clause in clauses if clause for word in (",", *clause)]
        words = [*words, "."]
    return words


def without_marks_after_ends(words):
    return [word for before, word in zip([".", *words], words, strict=False) if word != "," or before != "."]


@given(texts=written)
def test_words_of_texts_are_those_of_their_clauses_and_sentences(texts):
    table = words_table(strings(texts), np.arange(len(texts)))
    plain = [text.replace("\0", "\1") for text in texts]
    assert table["word"].to_pylist() == [without_marks_after_ends(words_one_by_one(text)) for text in plain]
    numbers = {}
    wanted = [[numbers.setdefault(one, len(numbers)) for one in split_sentences(text)] for text in plain]
    assert table["sentence"].to_pylist() == wanted


def test_words_know_their_clause_sentence_and_text():
    words = split_texts(["Binds insulin, and Zn. It is a T cell", "", "Binds insulin, and Zn."])
    assert [words.vocabulary[word] for word in words.words[:4]] == ["binds", "insulin", "and", "zn"]
    assert words.starts_clause.tolist() == [True, False, True, False, True, *[False] * 4, True, False, True, False]
    assert words.sentences.tolist() == [0] * 4 + [1] * 5 + [2] * 4
    assert words.sentence_ids.tolist() == [0, 1, 0]
    assert words.texts.tolist() == [0, 0, 2]


def test_words_of_other_designations_are_told_from_those_of_the_prose():
    texts = [
        "A1BG: alpha-1-B glycoprotein. Binds. Also, it is secreted [RefSeq]. Also: HEL-S-163pA; Epididymis secretory.",
        "B: b.",
        "C: c. Also: x [a]; Y.",
        "",
    ]
    words, plain = split_texts(texts), split_texts([prose_of(text) for text in texts])
    kept = words.in_prose(texts)
    assert words.texts[kept].tolist() == plain.texts.tolist() == [0, 0, 0, 1, 2]
    assert [words.vocabulary[word] for word in words.words[kept[words.sentences]]] == [
        plain.vocabulary[word] for word in plain.words
    ]


def test_blanks_of_other_scripts_and_letters_that_are_lowered_to_ascii_count_as_such():
    words = split_texts(["One\u00a0two.\u2003Three - \u212a4"])
    assert [words.vocabulary[word] for word in words.words] == ["one", "two", "three", "k4"]
    assert words.sentences.tolist() == [0, 0, 1, 1]
    assert words.starts_clause.tolist() == [True, False, True, True]


@given(texts=written)
def test_words_of_any_script_are_counted(texts):
    wanted = [["b"], ["the", "a"], ["\u00e9"]]
    counts = count_words(strings(["before", *texts]).slice(1), wanted)
    lowered = [re.findall(r"[^\W_]+", text.lower()) for text in texts]
    assert counts.tolist() == [[sum(map(each.count, same)) for same in wanted] for each in lowered]
