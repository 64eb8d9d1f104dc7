import pytest

from genekb.core.messages import counted, did_you_mean, known_names, p_text


@pytest.mark.parametrize(
    ("value", "text"), [(9.3e-185, "< 1e-16"), (0.0, "< 1e-16"), (1.26e-9, "1.3e-09"), (0.5, "0.5")]
)
def test_p_values_are_written_no_smaller_than_data_can_show(value, text):
    assert p_text(value) == text


@pytest.mark.parametrize(
    ("wanted", "names", "text"),
    [
        ("humn", ["human@2022-11", "mouse@2022-11"], "human@2022-11, mouse@2022-11; did you mean 'human@2022-11'?"),
        ("wcp-25", ["wcp-256-ecdb6e6de84e"], "wcp-256-ecdb6e6de84e; did you mean 'wcp-256-ecdb6e6de84e'?"),
        ("Leidn", ["leiden", "cell_type"], "leiden, cell_type; did you mean 'leiden'?"),
        ("other", ["leiden", 7], "leiden, 7"),
        ("x", [], "none"),
        ("x", [f"column {number}" for number in range(13)], "and 1 more"),
    ],
)
def test_names_that_there_are_are_listed_and_the_near_one_is_offered(wanted, names, text):
    assert known_names(wanted, names).endswith(text)


def test_nothing_is_offered_where_nothing_is_near():
    assert did_you_mean("zebrafish", ["human", "mouse"]) == ""


@pytest.mark.parametrize(
    ("number", "nouns", "text"),
    [(1, {}, "1 index"), (0, {"plural": "indices"}, "0 indices"), (2323, {}, "2,323 indexs")],
)
def test_a_count_agrees_with_its_noun(number, nouns, text):
    assert counted(number, "index", **nouns) == text
