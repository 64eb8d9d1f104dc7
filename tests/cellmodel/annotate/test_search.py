"""Free text against cells with known types: what is found, why, and what is written."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

import cellmodel as cm
from cellmodel.annotate.cell_types import CellType, read_cell_types
from cellmodel.annotate.search.cells import SearchConfig, search_cells
from cellmodel.annotate.search.queries import content_words, random_queries, type_words, unknown_words
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import cells_from_anndata
from tests.support.demo import demo_cells


@pytest.fixture(scope="module")
def kb(demo_store):
    return demo_store("wcp-64")


@pytest.fixture(scope="module")
def adata():
    return demo_cells()


def search(adata, kb, **settings):
    return search_cells(cells_from_anndata(adata), kb, RunConfig(), search=SearchConfig(**settings))


def test_clusters_are_ranked_and_each_gene_comes_with_a_sentence_of_its_text(adata, kb):
    found = search(adata, kb, query="B cell receptor", cluster_key="bulk_labels", use_types=False)
    assert (found.types, found.clusters[0].cluster) == ((), "CD19+ B")
    assert found.clusters[0].p_value < 0.05 < found.clusters[-1].p_value
    scores = [one.score for one in found.clusters]
    assert scores == sorted(scores, reverse=True)
    best = found.clusters[0].genes
    assert {"CD79A", "CD79B"} & {gene.name for gene in best}
    texts = dict(zip([gene.name for gene in best], kb.texts(kb.resolve([g.name for g in best]).gene_ids), strict=True))
    assert all(gene.sentence in texts[gene.name] for gene in best)
    assert sum(one.n_cells for one in found.clusters) == adata.n_obs


def test_cells_of_the_type_score_higher_and_the_best_cells_tell_the_genes(adata, kb):
    found = search(adata, kb, query="B cell receptor", use_types=False)
    assert found.clusters == ()
    is_b = (adata.obs["bulk_labels"] == "CD19+ B").to_numpy()
    assert np.mean(found.scores[is_b][:, None] > found.scores[~is_b]) > 0.85
    assert {"CD79A", "CD79B"} & {gene.name for gene in found.genes}


def test_the_same_query_gives_the_same_bytes_and_a_copy_leaves_the_cells_alone(adata, kb):
    first, second = (cm.tl.search(adata, kb, query="cytotoxic granule", copy=True) for _ in range(2))
    assert first.obs["cellmodel_search"].to_numpy().tobytes() == second.obs["cellmodel_search"].to_numpy().tobytes()
    assert first.uns["cellmodel_search"]["params"]["query"] == "cytotoxic granule"
    assert "cellmodel_search" not in adata.obs


def test_a_query_without_a_word_and_one_of_too_many_letters_are_refused():
    for query in (" ", "!!!"):
        with pytest.raises(InputUnusable, match=f"the query '{query}' is empty"):
            SearchConfig(query=query)
    with pytest.raises(ValueError, match="at most 2,000 are searched"):
        SearchConfig(query="x" * 2_001)


def test_words_that_have_nothing_to_do_with_cells_are_said_not_to_stand_out(adata, kb):
    settings = {"cluster_key": "bulk_labels", "n_permutations": 40}
    weather = search(adata, kb, query="the weather today", **settings)
    assert weather.unknown_words == {"weather": (), "today": ()}
    assert (weather.stands_out, weather.p_value > 0.05) == (False, True)
    assert weather.to_dict()["stands_out"] is False
    real = search(adata, kb, query="B cells", **settings)
    assert (real.stands_out, real.unknown_words) == (True, {})
    assert real.p_value == search(adata, kb, query="B cells", **settings).p_value
    in_cells = search(adata, kb, query="NK cells", n_permutations=40)
    assert (in_cells.clusters, in_cells.stands_out) == ((), True)


def test_a_misspelt_word_finds_what_it_nearly_is_and_is_listed_with_it(adata, kb):
    found = search(adata, kb, query="monocytess", n_permutations=40)
    assert found.unknown_words == {"monocytess": ("monocyte",)}
    assert (found.types[0][0].endswith("monocyte"), found.stands_out) == (True, True)
    written = cm.tl.search(adata, kb, query="monocytess", copy=True).uns["cellmodel_search"]["unknown_words"]
    assert written == {"monocytess": ["monocyte"]}


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
