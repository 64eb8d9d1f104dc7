"""Encoders of annotations and mixes: against plain TF-IDF and cosines, in a store, and where they may not answer."""

import gzip

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfTransformer

import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.builder.update import add_encoders
from genekb.core.errors import EncoderFailed, NotAvailable, SourceUnusable
from genekb.encoders import load_encoder
from genekb.encoders.imported.terms import fit_terms, mix_vectors, parse_mix, with_best
from genekb.encoders.kinds import stored_name
from genekb.query.tasks.scores import compare_tasks
from genekb.sources.gene_terms import add_gene_terms, find_term_files
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.sources.open import add_knowledge
from genekb.sources.table import read_demo_table
from tests.support.in_process import call, call_json

GENES = (915, 916, 917, 931, 4069)  # CD3D, CD3E, CD3G, MS4A1, LYZ
GENE2GO = "#tax_id\tGeneID\tGO_ID\tEvidence\tQualifier\tGO_term\tPubMed\tCategory\n" + "".join(
    f"9606\t{gene}\t{term}\tIDA\t{qualifier}\tx\t-\tProcess\n"
    for gene, term, qualifier in (
        (915, "GO:0000003", "-"), (916, "GO:0000002", "-"), (931, "GO:0000004", "-"), (917, "GO:0000003", "NOT"),
    )
)  # fmt: skip
OBO = """format-version: 1.2

[Term]
id: GO:0000001
name: root

[Term]
id: GO:0000002
is_a: GO:0000001 ! root

[Term]
id: GO:0000003
relationship: part_of GO:0000002 ! parent
relationship: regulates GO:0000004 ! not an ancestor

[Term]
id: GO:0000004
is_a: GO:0000001 ! root
"""
PUBMED = "#tax_id\tGeneID\tPubMed_ID\n" + "".join(
    f"9606\t{gene}\t{paper}\n" for gene, paper in ((915, 1), (916, 1), (917, 1), (917, 1), (931, 2), (999999999, 2))
)
FILES = {
    "gene2go.gz": GENE2GO,
    "go-basic.obo": OBO,
    "gene2pubmed.gz": PUBMED,
    "links_human.tsv": "gene_id_a\tgene_id_b\tsources\n915\t916\tx\nCD3G\tCD3D\ty\n931\t931\tself\n",
    "sets.gmt": "SET_A\thttp\tCD3D\tCD3E\tNOPE\nSET_B\thttp\tMS4A1\tLYZ\n",
}


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        packed = gzip.compress(content.encode()) if name.endswith(".gz") else content.encode()
        (tmp_path / name).write_bytes(packed)
    return tmp_path


def pairs_of(table):
    return set(zip(table["gene_id"].to_pylist(), table["term"].to_pylist(), strict=True))


def test_terms_are_read_with_ancestors_and_without_what_says_nothing(folder):
    terms = add_gene_terms(read_demo_table(), find_term_files(folder)).terms
    assert pairs_of(terms["go"]) == {
        *((915, f"GO:000000{number}") for number in (1, 2, 3)),
        *((916, f"GO:000000{number}") for number in (1, 2)),
        *((931, f"GO:000000{number}") for number in (1, 4)),
    }
    assert pairs_of(terms["pubmed"]) == {(915, "1"), (916, "1"), (917, "1")}  # the second is of one known gene
    assert pairs_of(terms["links"]) == {
        (915, "916"), (916, "915"), (917, "915"), (915, "917"), (915, "915"), (916, "916"), (917, "917"),
    }  # fmt: skip
    assert pairs_of(terms["sets"]) == {(915, "SET_A"), (916, "SET_A"), (931, "SET_B"), (4069, "SET_B")}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("links.tsv", "one\nCD3D\n", "has the column 'one' alone; give gene2pubmed"),
        ("links.tsv", "a\tb\nNOPE\tCD3D\n", "none of 1 rows has genes"),
        ("x.gmt", "A\tB\tNOPE\n", "none of 1 rows has genes"),
        ("go-basic.obo", "format-version: 1.2\n", "has no .Term. with an id of GO"),
        ("gene2pubmed.gz", "#tax_id\tGeneID\tPubMed_ID\n", "damaged"),
    ],
)
def test_files_that_are_no_terms_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceUnusable, match=message):
        add_gene_terms(read_demo_table(), [tmp_path / name])


@given(st.data())
def test_cosines_are_those_of_tf_idf_where_no_direction_is_lost(data):
    n_genes, n_terms = data.draw(st.integers(2, 7)), data.draw(st.integers(1, 6))
    has = data.draw(st.lists(st.booleans(), min_size=n_genes * n_terms, max_size=n_genes * n_terms))
    counts = np.array(has, dtype=float).reshape(n_genes, n_terms)
    counts = counts[:, counts.sum(axis=0) >= 2]
    genes, terms = np.nonzero(np.array(has).reshape(n_genes, n_terms))
    table = pa.table({"gene_id": genes + 1, "term": [f"t{term}" for term in terms]})
    if not counts.size:
        with pytest.raises(NotAvailable, match="no term is of two genes"):
            fit_terms("terms:go", {"go": table}, gene_ids=np.arange(1, n_genes + 1))
        return
    fitted = fit_terms("terms:go", {"go": table}, gene_ids=np.arange(1, n_genes + 1))
    expected = TfidfTransformer().fit_transform(counts).toarray()
    kept = np.flatnonzero(counts.any(axis=1))
    assert fitted.gene_ids.tolist() == (kept + 1).tolist()
    np.testing.assert_allclose(
        fitted.vectors @ fitted.vectors.T, (expected @ expected.T)[np.ix_(kept, kept)], atol=3e-3
    )


def test_a_mix_has_the_weighted_mean_of_the_cosines_and_keeps_genes_that_lack_a_part():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(3, 5)).astype(np.float32)
    genes, vectors = mix_vectors([(np.array([1, 2, 3, 4]), first), (np.array([2, 3, 5]), second)], [0.7, 0.3])
    assert genes.tolist() == [1, 2, 3, 4, 5]
    cosine = lambda rows, i, j: rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])  # noqa: E731
    assert vectors[1] @ vectors[2] == pytest.approx(0.7 * cosine(first, 1, 2) + 0.3 * cosine(second, 0, 1), abs=1e-6)
    assert vectors[0] @ vectors[3] == pytest.approx(cosine(first, 0, 3), abs=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("name", ["mix:wcp", "mix:wcp=1", "mix:wcp=x,a=1", "mix:wcp=0,a=1", "mix:a=1,a=1"])
def test_a_mix_that_is_none_is_refused(name):
    with pytest.raises(EncoderFailed, match="mix"):
        parse_mix(name)


def test_names_in_a_store():
    assert stored_name("terms:go,pubmed") == "terms-go-pubmed"
    assert stored_name("mix:wcp=.5,terms-go=.5") == "mix-wcp-go"
    best = ["wcp", "terms:go", "terms:links", "mix:wcp=0.5,terms-go=0.25,terms-links=0.1"]
    assert with_best(["best"], ["links", "go"]) == with_best(["auto"], ["links", "go"]) == best
    assert with_best(["best", "auto", "minilm"], ["groups"]) == ["wcp", "auto", "minilm"]


@pytest.fixture
def kb(folder):
    source = add_knowledge(read_demo_table(), texts=[], annotations=[folder])
    models = ("hash-32", "terms:go", "terms:pubmed,links", "mix:hash-32=.5,terms-go=.5")
    return genekb.open(build(source, BuildConfig(name="t", models=models), home=folder / "home").folder)


def test_a_store_holds_them_and_takes_the_mix_for_genes_and_the_text_for_queries(kb, folder):
    names = [kb.manifest.recipe(each)["name"] for each in kb.encoder_ids]
    assert names == ["hash-32", "terms-go", "terms-pubmed-links", "mix-hash-32-go"]
    assert kb.gene_encoder_id() == kb.encoder_ids[3]
    assert kb.encoder_id() == kb.encoder_ids[0]
    mixed, text, go = (
        kb.vectors([915, 916], encoder=name).vectors for name in ("mix-hash-32-go", "hash-32", "terms-go")
    )
    cosines = [float(rows[0] @ rows[1] / np.prod(np.linalg.norm(rows, axis=1))) for rows in (mixed, text, go)]
    assert cosines[0] == pytest.approx((cosines[1] + cosines[2]) / 2, abs=2e-3)
    assert kb.search("T cell receptor").hits[0].symbol
    with pytest.raises(NotAvailable, match="has no encoder that reads a text"):
        kb.encoder("terms-go")
    again = add_encoders(kb, ["mix:hash-32=.2,terms-pubmed-links=.8"], load=load_encoder, home=folder / "home")
    assert genekb.open(again.folder).vectors([915], encoder="mix-hash-32-pubmed-links").has_vector.all()
    with pytest.raises(NotAvailable, match="needs terms 'groups', which the source lacks"):
        add_encoders(kb, ["terms:groups"], load=load_encoder, home=folder / "home")
    with pytest.raises(NotAvailable, match="needs 'wcp', which the store has not"):
        add_encoders(kb, ["mix:wcp=.5,terms-go=.5"], load=load_encoder, home=folder / "home")


def test_go_annotations_do_not_answer_tasks_of_go(kb, tmp_path):
    rows = [
        f"GO:0000003\t{gene}\t{gene < 920:d}\t{'test' if gene % 2 else 'fold1'}\n"
        for gene in (915, 916, 917, 931, 4069, 972, 973, 3122)
    ]
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "go.tsv").write_text("term\tgene_id\tlabel\tsplit\n" + "".join(rows))
    (tmp_path / "tasks" / "other.tsv").write_text(
        "".join(["term\tgene_id\tlabel\tsplit\n", *rows]).replace("GO:", "X:")
    )
    found = compare_tasks([kb], tmp_path / "tasks", knowledge=["real"])
    scored = {(row.task, row.encoder.rpartition("-")[0]) for row in found.rows}
    assert ("go", "hash-32") in scored
    assert not scored & {("go", "terms-go"), ("go", "mix-hash-32-go")}
    assert ("other", "mix-hash-32-go") in scored
    assert any("made of GO annotations" in note for note in found.left_out)


def test_the_command_builds_the_best_encoders_of_a_source(folder):
    args = ["--annotations", folder, "--name", "b@1", "--home", folder / "home"]
    made = call_json("genekb", "build", "--model", "best", *args)
    kinds = [name.rpartition("-")[0] for name in made["encoders"]]
    assert kinds == ["wcp", "terms-go", "terms-pubmed", "terms-links", "mix-wcp-go-pubmed-links"]
    code, _, err = call("genekb", "build", "--model", "terms:nope", *args)
    assert (code, "needs terms 'nope', which the source lacks (it has go, links, pubmed, sets)" in err) == (4, True)


def test_a_source_without_a_free_license_is_built_and_not_shared_unasked(kb, folder):
    shared = folder / "shared"
    code, _, err = call("genekb", "push", kb.folder, shared)
    assert (code, "'links_human.tsv: no licence stated', which may not be free to share" in err) == (3, True)
    assert "--allow-licence: links_human.tsv" in err
    assert not shared.exists()
    allowed = ["--allow-licence", "links_human.tsv", "--allow-licence", "sets.gmt"]
    assert call_json("genekb", "push", kb.folder, shared, *allowed)["n_bytes_now"] > 0


def test_terms_of_a_mouse_are_those_of_human_orthologs_where_a_file_has_human_genes_alone(folder, ncbi_folder):
    mouse = read_ncbi_folder(ncbi_folder, taxa=["mouse"])
    orthologs = dict(zip(*(mouse.orthologs[name].to_pylist() for name in ("ortholog_gene_id", "gene_id")), strict=True))
    human = add_gene_terms(read_ncbi_folder(ncbi_folder, taxa=["human"]), find_term_files(folder)).terms
    found = add_gene_terms(mouse, find_term_files(folder)).terms
    assert found.keys() == human.keys()
    for kind in ("go", "pubmed", "links"):
        expected = {(orthologs[gene], term) for gene, term in pairs_of(human[kind]) if gene in orthologs}
        assert pairs_of(found[kind]) == expected != set()
