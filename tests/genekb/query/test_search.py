import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import genekb
from genekb.builder.assemble import assemble
from genekb.builder.engine import EncodingJob
from genekb.builder.plan import BuildConfig, build, plan_build, store_content
from genekb.builder.update import add_encoders
from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.encoders import EncoderSpec, load_encoder
from genekb.encoders.base import GeneVectors
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.store.search import K1, score_bm25, search_genes

MODELS = ("hash-32", "wcp-16", "random-8")


@pytest.fixture(scope="module")
def built(ncbi_folder, tmp_path_factory):
    source = read_ncbi_folder(ncbi_folder, taxa=["human", "mouse"])
    return build(source, BuildConfig(name="both", models=MODELS, genes="all"), home=tmp_path_factory.mktemp("home"))


@pytest.fixture
def kb(built):
    return genekb.open(built.folder)


def bm25_by_loops(kb, query):
    """BM25 gene by gene and word by word, from the formula; a plural is its singular and an s."""
    texts = dict(zip(kb.table("texts")["gene_id"].to_pylist(), kb.table("texts")["text"].to_pylist(), strict=True))
    documents = {}
    for row in kb.table("genes").to_pylist():
        text = " ".join([texts.get(row["gene_id"], ""), row["symbol"], *(row["aliases"] or [])])
        documents[row["gene_id"]] = re.findall(r"[^\W_]+", text.lower())
    scores = dict.fromkeys(documents, 0.0)
    for word in dict.fromkeys(word.removesuffix("s") for word in re.findall(r"[^\W_]+", query.lower())):
        n_with = sum(word in document or f"{word}s" in document for document in documents.values())
        weight = math.log(1 + (len(documents) - n_with + 0.5) / (n_with + 0.5))
        for gene_id, document in documents.items():
            count = document.count(word) + document.count(f"{word}s")
            scores[gene_id] += weight * count * (K1 + 1) / (count + K1)
    return scores


def test_keyword_scores_are_bm25_by_its_formula(kb):
    query = "hormone of pancreatic cells, of blood glucose"
    expected = {gene: score for gene, score in bm25_by_loops(kb, query).items() if score > 0}
    hits = search_genes(kb, query, mode="keyword", limit=100).hits
    assert {hit.gene_id: hit.score for hit in hits} == pytest.approx(expected)
    assert [hit.score for hit in hits] == sorted(expected.values(), reverse=True)
    assert {hit.symbol for hit in hits[:3]} == {"GCG", "Gcg", "INS"}
    assert hits[0].matched_words == ("hormone", "of", "pancreatic", "cells", "blood", "glucose")


@pytest.mark.parametrize("query", ["Monocytes", "T-Cells", "b cells and bacteria", "pancreatic beta-cells, hormones"])
def test_a_plural_in_any_case_and_hyphenation_finds_what_its_singular_finds(kb, query):
    plain = query.lower().replace("-", " ").replace("bacteria", "bacterium").replace("s", "")
    for mode in ("keyword", "semantic"):
        encoders = ["wcp-16"] if mode == "semantic" else None
        found, expected = (search_genes(kb, each, mode=mode, encoders=encoders).hits for each in (query, plain))
        assert [(hit.gene_id, hit.score) for hit in found] == [(hit.gene_id, hit.score) for hit in expected]
        assert found


@given(
    counts=st.lists(st.lists(st.integers(0, 5), min_size=2, max_size=2), min_size=2, max_size=8),
)
def test_one_more_occurrence_never_lowers_bm25(counts):
    before = np.array(counts)
    present = before[:, 0] > 0  # the number of texts with the word, and so its weight, stays
    after = before.copy()
    after[present, 0] += 1
    assert (score_bm25(after) >= score_bm25(before)).all()


@pytest.mark.parametrize(
    ("query", "symbol"),
    [
        ("INS", "INS"),
        ("ins", "INS"),
        ("CD20", "MS4A1"),
        ("glp-1", "GCG"),
        ("Cd3d", "Cd3d"),
        ("lysozyme beside CD19, an antigen of T cells", "CD19"),
    ],
)
def test_a_gene_that_the_query_names_comes_first(kb, query, symbol):
    for mode in ("keyword", "hybrid"):
        first = search_genes(kb, query, mode=mode).hits[0]
        assert (first.symbol, first.is_named, first.ranks["keyword"]) == (symbol, True, 1)


def test_a_gene_without_text_is_found_by_its_name(far):
    assert far.texts([378938]) == [None]
    hit = search_genes(far, "NEAT2").hits[0]
    assert (hit.symbol, hit.text, hit.origin, hit.is_named) == ("MALAT1", "", "none", True)


def test_hybrid_scores_are_shares_of_the_best_of_every_source_and_of_the_first_genes(kb):
    encoders = ["hash-32", "wcp-16"]
    result = search_genes(kb, "hormone that lowers blood glucose", encoders=encoders, taxon=9606, limit=100)
    sources = {"keyword", *result.encoders}
    assert {spec.rsplit("-", 1)[0] for spec in result.encoders} == {"hash-32", "wcp-16"}
    assert all(set(hit.ranks) <= sources for hit in result.hits)
    shares = []  # of the words, then of each encoder
    for encoder in (None, *result.encoders):
        mode, named = ("semantic", [encoder]) if encoder else ("keyword", [])
        found = search_genes(kb, "hormone that lowers blood glucose", mode=mode, encoders=named, taxon=9606, limit=100)
        shares.append({hit.gene_id: hit.score / found.hits[0].score for hit in found.hits})
    before = {
        hit.gene_id: sum(w * share.get(hit.gene_id, 0) for w, share in zip((0.7, 0.15, 0.15), shares, strict=True))
        for hit in result.hits
    }
    best = sorted(before, key=lambda gene: (-before[gene], gene))[:3]
    expected = dict(before)
    for encoder in result.encoders:
        vectors = kb.vectors(best, encoder=encoder).vectors
        mean = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(axis=0)
        near = search_genes(kb, mean, encoders=[encoder], taxon=9606, limit=100)
        for hit in near.hits:
            expected[hit.gene_id] += 0.25 * hit.score / near.hits[0].score
    assert {hit.gene_id: hit.score for hit in result.hits} == pytest.approx(expected, rel=1e-4)
    scores = [hit.score for hit in result.hits if not hit.is_named]
    assert scores == sorted(scores, reverse=True)
    assert result.hits[0].symbol == "INS"


def test_the_first_encoder_that_reads_a_query_is_asked_and_others_by_name(kb, tmp_path):
    assert [search_genes(kb, query).encoders for query in ("insulin", "zzxqv")] == [kb.encoder_ids[:1]] * 2
    added = genekb.open(add_encoders(kb, ["hash-8"], load=load_encoder, home=tmp_path).folder)
    before, after = (search_genes(store, "hormone of glucose", limit=100) for store in (kb, added))
    assert [hit.gene_id for hit in before.hits] == [hit.gene_id for hit in after.hits]


def test_controls_take_part_only_by_name_and_are_told(human, tmp_path):
    config = BuildConfig(name="controls", models=("random-8", "hash-32"))
    kb = genekb.open(build(human, config, home=tmp_path).folder)
    result = search_genes(kb, "insulin")
    assert {key.rsplit("-", 1)[0]: why for key, why in result.skipped.items()} == {"random-8": "a control"}
    assert [key.rsplit("-", 1)[0] for key in result.encoders] == ["hash-32"]
    named = search_genes(kb, "insulin", encoders=["random-8"])
    assert [key.rsplit("-", 1)[0] for key in named.encoders] == ["random-8"]


def test_only_genes_of_the_taxon_and_type_are_found(kb):
    mouse = search_genes(kb, "T cell receptor", taxon=10090, limit=100).hits
    tax_ids = dict(zip(kb.table("genes")["gene_id"].to_pylist(), kb.table("genes")["tax_id"].to_pylist(), strict=True))
    assert mouse
    assert {tax_ids[hit.gene_id] for hit in mouse} == {10090}
    assert (
        min(hit.ranks["keyword"] for hit in mouse if "keyword" in hit.ranks) == 1
    )  # ranks count only what may be found
    assert {hit.symbol for hit in search_genes(kb, "RNA", gene_type="ncRNA", limit=100).hits} == {"MALAT1", "Xist"}
    with pytest.raises(SourceUnusable, match=r"no gene with tax_id 7227; it has 10090, 9606"):
        search_genes(kb, "x", taxon=7227)


def test_text_of_an_orthologue_is_marked(kb):
    origins = {row["gene_id"]: row["origin"] for row in kb.table("texts").to_pylist()}
    hits = search_genes(kb, "T cell receptor complex", limit=100).hits
    assert {hit.origin for hit in hits if hit.text} == {"own", "ortholog"}
    assert all(hit.origin == origins.get(hit.gene_id, "none") for hit in hits)


def test_an_encoder_that_knows_no_word_of_the_query_is_left_out(kb):
    result = search_genes(kb, "zzxqv", encoders=["hash-32", "wcp-16"])
    assert [key.rsplit("-", 1)[0] for key, why in result.skipped.items() if "no word" in why] == ["wcp-16"]
    with pytest.raises(
        NotAvailable, match=r"no encoder of both@.* knows no word of the query\); in no .* name: zzxqv$"
    ):
        search_genes(kb, "zzxqv", mode="semantic", encoders=["wcp-16"])


def test_a_misspelt_word_is_listed_with_the_nearest_known_ones_and_read_by_its_characters(kb, tmp_path):
    assert search_genes(kb, "insulinn of blood").unknown_words == {"insulinn": ("insulin",)}
    assert search_genes(kb, "zzxqv", mode="keyword").unknown_words == {"zzxqv": ()}
    assert [search_genes(kb, name).unknown_words for name in ("CD20", "glp-1", "NEAT2", "insulin")] == [{}] * 4
    read = genekb.open(add_encoders(kb, ["wcp"], load=load_encoder, home=tmp_path).folder)
    found = search_genes(read, "insulinn", mode="semantic", encoders=["wcp"])
    assert "INS" in {hit.symbol for hit in found.hits[:3]}
    with pytest.raises(NotAvailable, match=r"wcp-.*: it knows no word of the query\); .*: zzxqv$"):
        search_genes(read, "zzxqv", mode="semantic", encoders=["wcp"])


class FarEncoder:
    """Vectors of a hash encoder under the recipe of one that no other machine has."""

    def __init__(self, kind):
        self.spec = EncoderSpec(name=f"far-{kind}", kind=kind, model_id="nobody/far-model", dim=8)

    def encode(self, texts, *, progress=None):
        return load_encoder("hash-8").encode(texts, progress=progress)

    def save(self, folder):
        pass


@pytest.fixture(scope="module")
def far(human, tmp_path_factory):
    """A store with encoders that cannot read a query here."""
    config = BuildConfig(name="far", genes="protein-coding")
    content = store_content(human, config, plan=plan_build(human, config))
    encoders = [FarEncoder("transformer"), FarEncoder("api")]
    jobs = [EncodingJob(spec=encoder.spec, open=lambda encoder=encoder: encoder) for encoder in encoders]
    imported = GeneVectors(
        spec=EncoderSpec(name="mine", kind="foreign", model_id="mine.npy", dim=4),
        gene_ids=np.array([915, 916]),
        vectors=np.eye(2, 4, dtype=np.float32),
    )
    return genekb.open(assemble(content, [*jobs, imported], home=tmp_path_factory.mktemp("far")).folder)


def test_an_encoder_that_cannot_read_a_query_is_skipped_unless_it_is_named(far):
    result = search_genes(far, "insulin")
    reasons = {key.rsplit("-", 1)[0]: reason for key, reason in result.skipped.items()}
    assert "not on this machine" in reasons["far-transformer"]
    assert reasons["far-api"] == "behind a network; name it to ask it"
    assert reasons["mine"] == "imported as vectors of genes, so it cannot read a query"
    assert (result.hits[0].symbol, result.score, result.encoders) == ("INS", "bm25", ())
    for name, reason in (("far-transformer", "not on this machine"), ("mine", "was imported as vectors")):
        with pytest.raises(NotAvailable, match=reason):
            search_genes(far, "insulin", encoders=[name])
    with pytest.raises(NotAvailable, match=r"no encoder of far@.* can read the query \(far-transformer"):
        search_genes(far, "insulin", mode="semantic")


@pytest.mark.parametrize("query", ["", "  ", "?!"])
def test_a_query_without_a_word_is_refused(kb, query):
    with pytest.raises(SourceUnusable, match="is empty; give a few words"):
        search_genes(kb, query)


def test_a_query_of_more_than_2000_characters_is_refused(kb):
    assert search_genes(kb, "insulin".ljust(2_000)).hits
    with pytest.raises(ValueError, match="the query has 2,001 characters, at most 2,000 are searched; shorten it"):
        search_genes(kb, "x" * 2_001)


def test_a_keyword_search_takes_no_encoder(kb, far):
    assert search_genes(far, "insulin", mode="keyword").skipped == {}
    with pytest.raises(ValueError, match="a keyword search uses no encoder"):
        search_genes(kb, "insulin", mode="keyword", encoders=["wcp-16"])


def test_words_of_sql_and_quotes_are_plain_text(kb):
    hits = search_genes(kb, "insulin'; drop table genes; --", mode="keyword").hits
    assert {"INS", "Ins1", "Ins2"} <= {hit.symbol for hit in hits}
    assert all("insulin" in hit.matched_words or "genes" in hit.matched_words for hit in hits)
