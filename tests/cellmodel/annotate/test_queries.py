"""What queries in plain words mean: cell types by name, plural and function, and words that nobody knows."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from cellmodel.annotate.cell_types import CellType, read_cell_types
from cellmodel.annotate.search.queries import content_words, random_queries, type_words, unknown_words

TYPES = read_cell_types()
QUERIES = Path(__file__).parents[3] / "benchmarks/quality/names/search_queries.toml"


@pytest.fixture(scope="module")
def words():
    return type_words(TYPES)


def meant(words, query):
    nearness = words.nearness(query)
    return {TYPES[place].name for place in np.flatnonzero(nearness == nearness.max()).tolist()}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("plasma cells", {"plasma cell"}),
        ("Plasma-Cells", {"plasma cell"}),
        ("NK cells", {"natural killer cell"}),
        ("monocytes", {"classical monocyte", "non-classical monocyte"}),
        ("microglia", {"microglial cell"}),
        ("cells that secrete antibodies", {"plasma cell"}),
        ("a cell secreting an antibody", {"plasma cell"}),
    ],
)
def test_plain_words_mean_the_types_of_that_name_or_function(words, query, names):
    assert meant(words, query) == names


def test_a_kind_of_cells_means_all_its_types_and_not_what_only_mentions_it(words):
    found = meant(words, "T cells")
    assert {"naive CD4 T cell", "gamma-delta T cell", "follicular helper T cell"} <= found
    assert all("T cell" in name or "T-helper" in name for name in found)
    assert "granulocyte monocyte progenitor" not in meant(words, "monocytes")
    assert "oligodendrocyte precursor cell" not in meant(words, "oligodendrocytes")


def test_surety_is_the_share_of_the_words_that_a_type_has(words):
    full, half = (words.nearness(query).max() for query in ("stores fat", "stores fat zeppelin"))
    assert 0 < half < full <= 1
    assert not words.nearness("zeppelin").any()
    assert not words.nearness("the of and").any()


def test_words_of_no_text_are_listed_in_their_order():
    types = [CellType(name="plasma cell", definition="Secretes antibodies.")]
    found = unknown_words("Weather of antibody secreting plasma kinases", ["A kinase.", None], types)
    assert found == {"weather": ()}
    assert unknown_words("antibodyies", ["A kinase."], types) == {"antibodyy": ("antibody",)}
    assert unknown_words("kinases", ["A kinase."], ()) == {}
    assert content_words("The cells, the Cells and B") == ("cell", "b")


def test_random_queries_are_words_of_gene_texts_and_the_same_for_a_seed():
    texts = ["alpha beta", None, "", "gamma the"]
    first, second = (random_queries(texts, n_words=3, n=20, rng=np.random.default_rng(1)) for _ in range(2))
    assert first == second
    assert {word for query in first for word in query.split()} == {"alpha", "beta", "gamma"}
    assert {len(query.split()) for query in first} == {3}
    assert random_queries([None], n_words=2, n=5, rng=np.random.default_rng(0)) == []


def test_queries_of_the_benchmark_are_complete_and_descriptions_leave_the_name_out():
    table = tomllib.loads(QUERIES.read_text())
    plain = {query for of_set in table["plain"].values() for query in of_set.values()}
    assert plain <= table["function"].keys()
    for name, description in table["function"].items():
        kinds = set(content_words(name)) - {"cell"}
        assert not kinds <= set(content_words(description)), name
