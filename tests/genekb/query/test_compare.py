import json
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genekb
from genekb import schema
from genekb.builder.plan import BuildConfig, build
from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.genes.texts import find_template
from genekb.query.compare import (
    GeneTerms,
    compare,
    linear_cka,
    name_families,
    nearest_rows,
    neighbor_overlap,
    read_gene_terms,
    score_gene_task,
)

MODELS = ("wcp-32", "hash-32", "random-32")


def annotated_demo():
    """The demo table with two made-up vocabularies: families of names, and genes at random."""
    source = genekb.read_demo_table()
    families = name_families(source.genes)
    rows = [
        {"gene_id": int(gene), "vocabulary": "gene_group", "term_id": f"G:{term}", "term": str(term), "evidence": None}
        for gene, term in zip(families.gene_ids, families.terms, strict=True)
    ]
    drawn = np.random.default_rng(0).permutation(source.genes["gene_id"].to_numpy())[:200]
    rows += [
        {"gene_id": int(gene), "vocabulary": "go_process", "term_id": f"GO:{number % 10}", "term": "x", "evidence": ""}
        for number, gene in enumerate(drawn)
    ]
    return replace(source, annotations=pa.Table.from_pylist(rows, schema=schema.ANNOTATIONS))


@pytest.fixture(scope="module")
def kb(tmp_path_factory):
    config = BuildConfig(name="demo", models=MODELS)
    return genekb.open(build(annotated_demo(), config, home=tmp_path_factory.mktemp("home")).folder)


@pytest.fixture(scope="module")
def comparison(kb):
    return compare(kb)


def points(n, dim, seed):
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def test_nearest_rows_are_those_of_the_full_table_of_cosines(monkeypatch):
    monkeypatch.setattr("genekb.query.compare.BLOCK", 97)  # several blocks, the last one short
    vectors = points(40, 6, 0)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = nearest_rows(vectors, n_neighbors=5)
    for row in range(40):
        others = sorted((j for j in range(40) if j != row), key=lambda j: -float(unit[row] @ unit[j]))
        assert set(found[row].tolist()) == set(others[:5])


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.1, 10))
def test_cka_does_not_see_rotation_scale_or_shift(seed, scale):
    first = points(30, 5, seed)
    rotation = np.linalg.qr(points(5, 5, seed + 1))[0]
    turned = (scale * first @ rotation + 3).astype(np.float32)
    assert linear_cka(first, turned) == pytest.approx(1, abs=1e-4)
    other = points(30, 7, seed + 2)
    assert linear_cka(first, other) == pytest.approx(linear_cka(other, turned), abs=1e-4)


def test_cka_is_the_alignment_of_the_centered_kernels():
    first, second = points(25, 4, 0).astype(np.float64), points(25, 6, 1).astype(np.float64)
    center = np.eye(25) - 1 / 25
    k, l = center @ first @ first.T @ center, center @ second @ second.T @ center  # noqa: E741 - as in the paper
    expected = np.sum(k * l) / np.sqrt(np.sum(k * k) * np.sum(l * l))
    assert linear_cka(first.astype(np.float32), second.astype(np.float32)) == pytest.approx(expected, rel=1e-5)


def test_overlap_counts_common_neighbors():
    first, second = np.array([[1, 2, 3], [0, 2, 3]]), np.array([[3, 4, 1], [4, 5, 6]])
    assert neighbor_overlap(first, second) == pytest.approx((2 / 3 + 0) / 2)
    assert neighbor_overlap(first, first) == 1


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("solute carrier family 2 member 1", "solute carrier family 2"),
        ("zinc finger protein 12", "zinc finger protein"),
        ("ribosomal protein L13a", "ribosomal protein"),
        ("interleukin 2 receptor subunit alpha", "interleukin 2 receptor"),
        ("ATP binding cassette subfamily A member 1", "ATP binding cassette subfamily A"),
        ("heat shock protein family A (Hsp70) member 14", "heat shock protein family A (Hsp70)"),
        ("claudin 3 (putative)", "claudin"),
        ("insulin", None),
        ("tumor protein p53", None),
    ],
)
def test_a_family_is_the_name_without_its_member(name, family):
    genes = pa.Table.from_pylist([{"gene_id": 7, "name": name}, {"gene_id": 8, "name": None}])
    assert name_families(genes).terms.tolist() == ([family] if family else [])


def clusters(n_terms, size, spread):
    """Genes of each term around a point of its own; ids with gaps."""
    term = np.repeat(np.arange(n_terms), size)
    vectors = points(n_terms, 16, 0)[term] + spread * points(len(term), 16, 1)
    gene_ids = np.arange(len(term)) * 3 + 1
    return vectors.astype(np.float32), gene_ids, GeneTerms(
        vocabulary="gene_group", gene_ids=gene_ids, terms=np.array([f"t{number}" for number in term])
    )  # fmt: skip


def test_genes_that_lie_with_their_kind_score_one_and_dealt_out_anew_score_chance():
    vectors, gene_ids, terms = clusters(8, 20, 0.01)
    score = score_gene_task(vectors, gene_ids, terms, n_neighbors=10, rng=np.random.default_rng(0))
    assert (score.knn_share, score.knn_accuracy) == (1, 1)
    assert score.chance == pytest.approx(19 / 159)
    assert score.shuffled == pytest.approx(score.chance, abs=0.04)
    assert score.gain == pytest.approx(1 - score.shuffled)
    assert score.gain_low < score.gain < score.gain_high


def test_the_shuffled_control_is_what_shuffled_vectors_score():
    vectors, gene_ids, terms = clusters(6, 12, 0.5)
    score = score_gene_task(vectors, gene_ids, terms, n_neighbors=4, rng=np.random.default_rng(5))
    dealt = vectors[np.random.default_rng(5).permutation(len(vectors))]
    again = score_gene_task(dealt, gene_ids, terms, n_neighbors=4, rng=np.random.default_rng(1))
    assert again.knn_share == pytest.approx(score.shuffled)
    assert again.knn_accuracy == pytest.approx(score.knn_accuracy_shuffled)


def test_shares_and_chance_of_overlapping_terms_are_those_of_loops():
    rng = np.random.default_rng(3)
    gene_ids = np.arange(60)
    held = {gene: set(rng.choice(6, size=rng.integers(1, 4), replace=False).tolist()) for gene in range(60)}
    pairs = [(gene, f"t{term}") for gene, terms in held.items() for term in terms]
    terms = GeneTerms(
        vocabulary="go_process", gene_ids=np.array([g for g, _ in pairs]), terms=np.array([t for _, t in pairs])
    )
    vectors = points(60, 8, 4)
    score = score_gene_task(vectors, gene_ids, terms, n_neighbors=7, rng=rng)
    near = nearest_rows(vectors, n_neighbors=7)
    assert score.knn_share == pytest.approx(
        np.mean([[bool(held[gene] & held[other]) for other in near[gene]] for gene in range(60)])
    )
    all_pairs = [bool(held[a] & held[b]) for a in range(60) for b in range(60) if a != b]
    assert score.chance == pytest.approx(np.mean(all_pairs))


def test_terms_of_too_few_or_too_many_genes_do_not_count():
    vectors, gene_ids, terms = clusters(4, 20, 0.1)
    rare = replace(terms, terms=np.where(np.arange(80) < 4, "rare", terms.terms))
    score = score_gene_task(vectors, gene_ids, rare, n_neighbors=5, rng=np.random.default_rng(0))
    assert (score.n_genes, score.n_terms) == (76, 4)
    alone = replace(terms, terms=np.arange(80).astype(str))
    assert score_gene_task(vectors, gene_ids, alone, n_neighbors=5, rng=np.random.default_rng(0)) is None


def test_text_knows_families_and_random_vectors_do_not(comparison):
    scores = {(task.encoder.rsplit("-", 1)[0], task.vocabulary): task.score for task in comparison.tasks}
    assert scores["wcp-32", "name_family"].gain_low > 0.2
    assert scores["hash-32", "gene_group"].gain_low > 0.1
    drawn = scores["random-32", "name_family"]
    assert drawn.gain_low < 0.05
    assert drawn.knn_share == pytest.approx(drawn.chance, abs=0.05)
    assert abs(scores["wcp-32", "go_process"].gain) < 0.06  # terms given at random are not to be known


def test_families_of_names_are_marked_where_the_text_holds_the_name(comparison, kb, tmp_path):
    held_out = {task.vocabulary: task.held_out for task in comparison.tasks}
    assert held_out == {"name_family": False, "go_process": True, "gene_group": True}
    config = BuildConfig(name="symbols", models=("hash-32",), template=find_template("symbol"))
    symbols = genekb.open(build(genekb.read_demo_table(), config, home=tmp_path).folder)
    assert [task.held_out for task in compare(symbols).tasks] == [True]
    go = BuildConfig(name="go", models=("hash-32",), template=find_template("go"))
    with_terms = compare(genekb.open(build(annotated_demo(), go, home=tmp_path).folder))
    assert {task.vocabulary: task.held_out for task in with_terms.tasks}["go_process"] is False


def test_pairs_say_how_far_encoders_agree(comparison, kb):
    pairs = {(p.first.rsplit("-", 1)[0], p.second.rsplit("-", 1)[0]): p for p in comparison.pairs}
    assert list(pairs) == [("wcp-32", "hash-32"), ("wcp-32", "random-32"), ("hash-32", "random-32")]
    assert pairs["wcp-32", "hash-32"].neighbor_overlap > 3 * comparison.chance_overlap
    assert pairs["wcp-32", "random-32"].neighbor_overlap == pytest.approx(comparison.chance_overlap, abs=0.01)
    assert comparison.n_genes == 752
    ids = kb.vector_table("wcp-32").gene_ids
    expected = linear_cka(kb.vectors(ids, encoder="wcp-32").vectors, kb.vectors(ids, encoder="hash-32").vectors)
    assert pairs["wcp-32", "hash-32"].cka == pytest.approx(expected)


def test_a_comparison_repeats_itself_and_depends_on_the_seed(kb, comparison):
    assert compare(kb) == comparison
    sampled = compare(kb, genes=300, vocabulary=["go_process"])
    assert sampled.n_genes == 300
    assert sampled == compare(kb, genes=300, vocabulary=["go_process"])
    assert sampled.pairs != compare(kb, genes=300, vocabulary=["go_process"], random_state=1).pairs
    assert json.loads(json.dumps(asdict(sampled)))["tasks"][0]["vocabulary"] == "go_process"


def test_genes_with_equal_texts_are_compared_once(tmp_path):
    source = genekb.read_demo_table()
    summaries = [f"Protein number {number // 2}." for number in range(source.genes.num_rows)]
    column = source.genes.column_names.index("summary")
    genes = source.genes.set_column(column, source.genes.schema.field("summary"), pa.array(summaries))
    config = BuildConfig(name="twins", models=("random-16",), template=find_template("summary-only"))
    kb = genekb.open(build(replace(source, genes=genes), config, home=tmp_path).folder)
    result = compare(kb)
    assert (result.n_genes, result.n_equal_texts) == (376, 376)


def test_what_cannot_be_compared_is_said(kb):
    with pytest.raises(SourceUnusable, match="has no vocabulary 'tissue'; it has name_family, go_process, gene_group"):
        compare(kb, vocabulary=["tissue"])
    with pytest.raises(NotAvailable, match="no encoder 'nix'"):
        compare(kb, encoder=["nix"])
    with pytest.raises(SourceUnusable, match="more than 1000 are needed"):
        compare(kb, neighbors=1000)
    with pytest.raises(ValueError, match="neighbors must be >= 1 and < genes, got 10 and 10"):
        compare(kb, genes=10)
    few = compare(kb, genes=12, vocabulary=["gene_group"])
    assert (few.tasks, few.skipped) == ((), ("gene_group",))


def test_vocabularies_are_read_from_the_store(kb):
    found = {terms.vocabulary: terms for terms in read_gene_terms(kb)}
    assert set(found) == {"name_family", "go_process", "gene_group"}
    assert len(found["go_process"].gene_ids) == 200
    assert set(found["gene_group"].gene_ids.tolist()) == set(found["name_family"].gene_ids.tolist())
