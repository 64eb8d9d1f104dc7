"""Texts with what may hold the answer deleted."""

import numpy as np
import pytest

import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.core.errors import NotAvailable
from genekb.query.knowledge import knowledge_vectors, masked_texts
from genekb.query.tasks.scores import compare_tasks
from genekb.sources.table import read_gene_table

GENES = """gene_id\tsymbol\tname\taliases\tsummary
915\tCD3D\tCD3 delta subunit of T-cell receptor\tT3D\tCD3D binds CD247 (T3D) and the receptors for apoptosis.
919\tCD247\tCD247 molecule\t\tA molecule.
7\tONLY\tonly\t\tOnly ONLY.
8\tREST\trestful factor\t\tFactors rest; REST does not.
"""


@pytest.fixture(scope="module")
def kb(tmp_path_factory):
    home = tmp_path_factory.mktemp("masked")
    (home / "genes.tsv").write_text(GENES)
    source = read_gene_table(home / "genes.tsv", release="1", taxon="human")
    terms = {"models": ("hash-64", "random-8")}
    return genekb.open(build(source, BuildConfig(name="m", **terms), home=home).folder)


def test_symbols_of_all_genes_own_names_and_asked_words_go_and_the_rest_stays(kb):
    masked = masked_texts(kb, [7, 8, 915, 919], words=["Apoptosis"])
    words = [set("".join(char if char.isalnum() else " " for char in text).split()) for text in masked]
    assert words[0] == {"gene"}
    assert words[1] == {"rest", "does", "not"}  # the symbol, not the verb
    assert words[2] == {"binds", "and", "the", "for"}
    assert words[3] == {"A"}


def test_masked_vectors_are_those_of_the_masked_texts_for_genes_in_any_order(kb):
    found = knowledge_vectors(kb, "hash-64", knowledge="masked", gene_ids=[915, 8, 915, 12345])
    expected = kb.encoder("hash-64").encode(masked_texts(kb, [915, 8])).vectors
    assert found.gene_ids.tolist() == [915, 8, 915]
    np.testing.assert_allclose(found.vectors, expected[[0, 1, 0]], rtol=1e-6)
    assert found.missing.tolist() == [12345]


def test_words_of_a_tasks_terms_are_taken_from_their_table(kb, tmp_path):
    genes = (915, 919, 7, 8)
    rows = [
        f"X:{part}\t{gene}\t{number % 2}\t{'test' if number < 2 else 'fold1'}\n"
        for part in (1, 2)
        for number, gene in enumerate(genes)
    ]
    (tmp_path / "own.tsv").write_text("term\tgene_id\tlabel\tsplit\n" + "".join(rows))
    (tmp_path / "terms.tsv").write_text("task\tterm\tname\nown\tX:1\tapoptosis of cells\nother\tX:2\tbinds\n")
    found = compare_tasks([kb], tmp_path, encoders=["hash-64"], knowledge=["real", "masked"])
    assert [row.knowledge for row in found.rows] == ["real", "masked"]
    assert found.left_out == ()


def test_vectors_without_a_text_cannot_be_masked(kb):
    from genekb.builder.update import import_vectors
    from genekb.encoders.imported.vectors import ForeignVectors

    foreign = ForeignVectors(
        names=("CD3D", "REST"), vectors=np.eye(2, dtype=np.float32), file_name="x", sha256="0" * 64, format="npy"
    )
    other = genekb.open(import_vectors(kb, foreign, name="theirs", home=kb.folder.parents[2]).build.folder)
    with pytest.raises(NotAvailable, match="reads no text that could be masked"):
        knowledge_vectors(other, "theirs", knowledge="masked")
