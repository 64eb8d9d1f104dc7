"""A store as people meet it in Python: what it shows of itself, and how genes are asked for."""

import numpy as np
import pytest

import genekb
from genekb.core.errors import NotAvailable, SourceUnusable


@pytest.fixture(scope="module")
def kb(demo_store):
    return demo_store("wcp-32", "hash-16")


def test_a_store_shows_what_it_holds(kb):
    shown = repr(kb)
    assert shown.startswith(f"Store {kb.store_id}\n")
    assert "wcp-32 (32 dimensions), hash-16 (16 dimensions)" in shown
    assert f"{len(kb):,}, {kb.manifest.n_texts:,} with a text" in shown
    assert kb._repr_html_().startswith("<table>")
    assert "<script" not in kb._repr_html_()


def test_what_a_store_answers_fits_a_line(kb):
    names = [*kb.table("genes")["symbol"].to_pylist()[:500], "NOSUCH"]
    shown = repr(kb.resolve(names))
    assert shown.startswith("Resolution of 501 names: ")
    assert " symbol" in shown
    assert shown.endswith("not resolved: NOSUCH")
    vectors = repr(kb.vectors(names))
    assert vectors == "Vectors of 501 genes: 500 with a vector of 32 dimensions\n    missing: NOSUCH"


def test_a_gene_is_in_a_store_by_any_of_its_names(kb):
    assert "CD3D" in kb
    assert "T3D" in kb
    assert 915 in kb
    assert np.int64(915) in kb
    assert "CD3DD" not in kb
    assert 1 << 40 not in kb
    assert None not in kb


def test_search_has_the_default_of_the_command(kb, capsys, monkeypatch):
    import json

    from tests.support.in_process import call_here

    query = "enzyme that cuts bacterial cell walls"
    line = ["genekb", "search", "--kb", kb.folder, query, "--json"]
    printed = json.loads(call_here(line, capsys, monkeypatch).out)
    found = kb.search(query)
    assert [hit["symbol"] for hit in printed["hits"]] == [hit.symbol for hit in found]
    assert printed["score"] == found.score == "fused"


def test_what_was_found_is_a_sequence_a_table_and_html(kb):
    found = kb.search("class II", limit=3)
    assert len(found) == len(list(found)) == len(found[:3]) == 3
    table = found.to_frame()
    assert table["symbol"].tolist() == [hit.symbol for hit in found]
    assert "HLA-D" in repr(found)
    assert found._repr_html_().count("<tr>") == 4


def test_neighbors_are_the_nearest_texts_without_the_gene_itself(kb):
    table = kb.vector_table("wcp-32")
    own = kb.vectors(["CD3D"], encoder="wcp-32").vectors[0].astype(np.float64)
    every = table.vectors[table.rows].astype(np.float64)
    cosines = every @ own / (np.linalg.norm(every, axis=1) * np.linalg.norm(own))
    order = [gene for gene in table.gene_ids[np.argsort(-cosines, kind="stable")] if gene != 915][:5]
    near = kb.neighbors("CD3D", encoder="wcp-32", limit=5)
    assert sorted(hit.gene_id for hit in near) == sorted(order)
    assert [hit.score for hit in near] == pytest.approx(sorted(np.sort(cosines)[-6:-1], reverse=True), abs=1e-5)
    assert kb.neighbors(915, limit=5).hits == kb.neighbors("CD3D", limit=5).hits


def test_an_unknown_gene_an_unknown_argument_and_a_lone_name_say_what_was_meant(kb):
    with pytest.raises(SourceUnusable, match="has no gene 'CD3DD'; did you mean 'CD3"):
        kb.neighbors("CD3DD")
    with pytest.raises(TypeError, match="unexpected keyword argument 'limt'; did you mean 'limit'"):
        kb.search("insulin", limt=3)
    with pytest.raises(ValueError, match=r"a list of names or of GeneIDs, such as \['CD3D'\], not 'INS'"):
        kb.vectors("INS")


def test_frames_hold_genes_with_texts_or_vectors_of_names(kb):
    genes = kb.to_frame()
    assert len(genes) == len(kb)
    assert genes["text"].notna().sum() == kb.manifest.n_texts
    assert genes.loc[915, "text"] == kb.texts([915])[0]
    found = kb.vectors(["CD3D", "CD3E"], encoder="hash-16")
    np.testing.assert_array_equal(found.to_frame().loc["CD3D"], found.vectors[0])


def test_a_build_by_options_is_that_of_the_command(ncbi_folder, tmp_path, capsys, monkeypatch):
    from tests.support.in_process import call_here

    made = genekb.build(ncbi_folder, taxon="human", model="hash-8", name="human@x", home=tmp_path / "a")
    line = ["genekb", "build", "--source", ncbi_folder, "--taxon", "human", "--model", "hash-8", "--name", "human@x"]
    assert call_here([*line, "--home", tmp_path / "b"], capsys, monkeypatch).code == 0
    assert made.manifest.digest == genekb.open("human", home=tmp_path / "b").manifest.digest
    assert genekb.list_stores(home=tmp_path / "a") == ["human@x"]


def test_functions_take_names_folders_and_open_stores(kb, tmp_path):
    home = kb.folder.parents[2]
    assert genekb.open(kb) is kb
    assert genekb.verify("demo", home=home).store_id == kb.store_id
    assert genekb.path("demo", home=home) == kb.folder
    written = genekb.export(kb.folder, tmp_path / "v.npz", encoder="hash-16", genes=["CD3D", "LYZ"])
    assert np.load(tmp_path / "v.npz")["symbols"].tolist() == ["CD3D", "LYZ"]
    assert written.n_genes == 2
    pulled = genekb.pull(genekb.push(kb, str(tmp_path / "shared")).url, home=tmp_path / "other")
    assert pulled.manifest.digest == kb.manifest.digest
    with pytest.raises(NotAvailable, match="make it with `genekb build`"):
        genekb.open("absent", home=home)
