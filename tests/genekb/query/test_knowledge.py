import numpy as np
import pytest

import genekb
from genekb.builder.update import import_vectors
from genekb.core.errors import NotAvailable
from genekb.encoders.imported.vectors import read_foreign
from genekb.query.knowledge import KNOWLEDGE, knowledge_vectors


@pytest.fixture(scope="module")
def kb(demo_store):
    return demo_store("wcp-32", "hash-16")


@pytest.fixture(scope="module")
def imported(kb, tmp_path_factory):
    """The demo store with vectors made elsewhere, one of them zero."""
    folder = tmp_path_factory.mktemp("imported")
    gene_ids = kb.table("genes")["gene_id"].to_numpy()[:40]
    vectors = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    rows = [f"{gene} {' '.join(map(str, vector))}" for gene, vector in zip(gene_ids, vectors, strict=True)]
    (folder / "made.vec").write_text("\n".join(["40 3", *rows]))
    foreign = read_foreign(folder / "made.vec", keys="gene_id")
    result = import_vectors(kb, foreign, name="made", home=folder, keys="gene_id", min_resolved=0.5)
    return genekb.open(result.build.folder)


@pytest.mark.parametrize("knowledge", KNOWLEDGE)
def test_vectors_have_unit_length_and_the_order_that_was_asked(kb, knowledge):
    whole = knowledge_vectors(kb, "wcp-32", knowledge=knowledge)
    np.testing.assert_allclose(np.linalg.norm(whole.vectors, axis=1), 1, atol=1e-5)
    some = whole.gene_ids[[7, 2, 11, 2]]
    found = knowledge_vectors(kb, "wcp-32", knowledge=knowledge, gene_ids=some)
    assert found.gene_ids.tolist() == some.tolist()
    np.testing.assert_allclose(found.vectors, whole.vectors[[7, 2, 11, 2]], atol=1e-6)
    assert not len(found.missing)


@pytest.mark.parametrize("knowledge", KNOWLEDGE)
def test_genes_without_a_text_are_listed_and_get_no_zeros(kb, knowledge):
    known = knowledge_vectors(kb, "wcp-32").gene_ids[:3]
    found = knowledge_vectors(kb, "wcp-32", knowledge=knowledge, gene_ids=[999_999_999, *known, 0])
    assert found.gene_ids.tolist() == known.tolist()
    assert found.missing.tolist() == [0, 999_999_999]


def test_real_vectors_are_those_of_the_store(kb):
    found = knowledge_vectors(kb, "wcp-32")
    stored = kb.vectors(found.gene_ids, encoder="wcp-32").vectors
    np.testing.assert_allclose(found.vectors, stored / np.linalg.norm(stored, axis=1, keepdims=True), atol=1e-6)


def test_shuffled_vectors_are_the_same_cloud_and_no_gene_keeps_its_own(kb):
    real, shuffled = (knowledge_vectors(kb, "wcp-32", knowledge=kind) for kind in ("real", "shuffled"))
    partners = (shuffled.vectors @ real.vectors.T).argmax(axis=1)
    assert sorted(map(tuple, shuffled.vectors.tolist())) == sorted(map(tuple, real.vectors.tolist()))
    assert (partners != np.arange(len(partners))).mean() > 0.99
    again = knowledge_vectors(kb, "wcp-32", knowledge="shuffled", seed=1)
    assert not np.array_equal(again.vectors, shuffled.vectors)


def test_the_name_is_encoded_alone_by_the_same_encoder(kb):
    found = knowledge_vectors(kb, "wcp-32", knowledge="name", gene_ids=[915])
    name = dict(zip(*(kb.table("genes")[key].to_pylist() for key in ("gene_id", "name")), strict=True))[915]
    np.testing.assert_allclose(found.vectors[0], kb.encoder("wcp-32").encode([name]).vectors[0], atol=1e-6)


def test_symbols_that_share_their_letters_are_near_and_the_encoder_does_not_matter(kb):
    found = knowledge_vectors(kb, "wcp-32", knowledge="symbol")
    symbols = dict(zip(*(kb.table("genes")[key].to_pylist() for key in ("symbol", "gene_id")), strict=True))
    row = {symbol: found.vectors[found.gene_ids.tolist().index(symbols[symbol])] for symbol in ("CD3D", "CD3E", "NKG7")}
    assert row["CD3D"] @ row["CD3E"] > 0.5 > row["CD3D"] @ row["NKG7"]
    np.testing.assert_array_equal(found.vectors, knowledge_vectors(kb, "hash-16", knowledge="symbol").vectors)


def test_imported_vectors_have_no_control_by_name(imported):
    with pytest.raises(NotAvailable, match=r"imported as vectors of genes and reads no new text.*choose other"):
        knowledge_vectors(imported, "made", knowledge="name")
    assert len(knowledge_vectors(imported, "made", knowledge="symbol").gene_ids) == 40


def test_none_is_no_kind_of_vectors(kb):
    with pytest.raises(ValueError, match="'none' has no gene vectors; use one of real"):
        knowledge_vectors(kb, "wcp-32", knowledge="none")
