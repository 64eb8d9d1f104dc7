"""New stores from old ones: another release, more encoders, vectors made elsewhere; nothing known is encoded again."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genekb
from genekb.builder.diff import diff_stores, word_diff
from genekb.builder.plan import BuildConfig, build
from genekb.builder.update import add_encoders, import_vectors, plan_update, update
from genekb.core.errors import CoverageTooLow, NotAvailable, SourceUnusable, StoreCorrupt
from genekb.encoders import load_encoder
from genekb.encoders.imported.vectors import read_foreign
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.store.verify import verify_store

CONFIG = BuildConfig(name="human", models=("hash-32", "wcp-16"))


@pytest.fixture(scope="module")
def old_source(old_ncbi_folder):
    return read_ncbi_folder(old_ncbi_folder, taxa=["human"])


@pytest.fixture(scope="module")
def new_source(ncbi_folder):
    return read_ncbi_folder(ncbi_folder, taxa=["human"])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def old(old_source, home):
    return genekb.open(build(old_source, CONFIG, home=home).folder)


@pytest.fixture(scope="module")
def updated(old, new_source, home):
    result = update(old, new_source, plan_update(old, new_source), home=home)
    return result, genekb.open(result.folder)


def text_ids(store):
    return set(store.table("texts")["text_id"].to_pylist())


def test_an_update_encodes_the_texts_that_are_new_and_says_so_before(old, new_source, updated):
    result, kb = updated
    new_texts = len(text_ids(kb) - text_ids(old))
    assert 0 < new_texts < len(text_ids(kb))
    plan = plan_update(old, new_source)
    assert plan.n_to_encode == dict.fromkeys(old.manifest.encoders, new_texts)
    assert result.n_encoded == 2 * new_texts
    assert result.n_reused == 2 * (len(text_ids(kb)) - new_texts)
    assert result.manifest.parent == old.manifest.digest
    assert result.manifest.release == "2022-11"
    assert verify_store(result.folder).faults == ()


def test_vectors_after_an_update_are_those_of_a_build_from_nothing(updated, new_source, tmp_path):
    _, kb = updated
    fresh = genekb.open(build(new_source, replace(CONFIG, models=("hash-32",)), home=tmp_path).folder)
    genes = fresh.vector_table("hash-32").gene_ids
    expected = fresh.vectors(genes, encoder="hash-32").vectors
    np.testing.assert_array_equal(kb.vectors(genes, encoder="hash-32").vectors, expected)


def test_a_fitted_encoder_is_not_fitted_again(old, updated):
    _, kb = updated
    assert list(kb.manifest.encoders) == list(old.manifest.encoders)
    gene = int(kb.table("texts")["gene_id"][0].as_py())
    again = old.encoder("wcp-16").encode(kb.texts([gene])).vectors
    np.testing.assert_allclose(kb.vectors([gene], encoder="wcp-16").vectors, again, atol=1e-3)


def test_an_update_without_new_texts_needs_no_encoder_at_all(old_source, tmp_path, tiny_model):
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    kb = genekb.open(build(old_source, replace(CONFIG, models=(str(model),)), home=tmp_path).folder)
    shutil.rmtree(model)
    plan = plan_update(kb, old_source, name="human@again")
    assert set(plan.n_to_encode.values()) == {0}
    result = update(kb, old_source, plan, home=tmp_path)
    assert (result.n_encoded, result.n_reused) == (0, result.manifest.n_unique_texts)


def test_new_texts_without_their_encoder_end_in_one_clear_error(old_source, new_source, tmp_path, tiny_model):
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    kb = genekb.open(build(old_source, replace(CONFIG, models=(str(model),)), home=tmp_path).folder)
    shutil.rmtree(model)
    with pytest.raises(NotAvailable, match="is not where it was"):
        update(kb, new_source, plan_update(kb, new_source), home=tmp_path)
    assert genekb.open("human", home=tmp_path).manifest.digest == kb.manifest.digest


def test_a_local_model_leaves_no_path_of_this_machine_in_a_store(old_source, tmp_path, tiny_model):
    first = build(old_source, replace(CONFIG, models=(str(tiny_model),)), home=tmp_path / "a")
    elsewhere = Path(shutil.copytree(tiny_model, tmp_path / "other" / tiny_model.name))
    second = build(old_source, replace(CONFIG, models=(str(elsewhere),)), home=tmp_path / "b")
    assert first.manifest.digest == second.manifest.digest
    for path in first.folder.rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes()
    assert genekb.open(first.folder).search("insulin", limit=1)


@settings(deadline=None)
@given(changed=st.sets(st.integers(0, 8)))
def test_exactly_the_changed_texts_are_encoded(changed, old, old_source, tmp_path_factory):
    summaries = old_source.genes["summary"].to_pylist()
    with_text = [row for row, text in enumerate(summaries) if text]
    for row in {with_text[number % len(with_text)] for number in changed}:
        summaries[row] += " It was changed."
    genes = old_source.genes.set_column(
        old_source.genes.column_names.index("summary"), old_source.genes.schema.field("summary"), [summaries]
    )
    source = replace(old_source, genes=genes)
    plan = plan_update(old, source, name="human@changed", encoders=["hash-32"])
    n_changed = len({number % len(with_text) for number in changed})
    assert list(plan.n_to_encode.values()) == [n_changed]
    result = update(old, source, plan, home=tmp_path_factory.mktemp("home"), encoders=["hash-32"])
    assert (result.n_encoded, len(plan.changes.text_changed)) == (n_changed, n_changed)


def test_the_choice_of_genes_is_kept_and_applied_again(old_source, new_source, tmp_path):
    config = replace(CONFIG, models=("hash-8",), only_names=("CD3D", "INS", "MARCH1"))
    kb = genekb.open(build(old_source, config, home=tmp_path).folder)
    result = update(kb, new_source, plan_update(kb, new_source), home=tmp_path)
    new = genekb.open(result.folder)
    assert set(new.table("texts")["gene_id"].to_pylist()) <= set(kb.resolve(["CD3D", "INS", "MARCH1"]).gene_ids)
    assert (new.folder / "only_names.txt").read_text().split() == ["CD3D", "INS", "MARCH1"]


def test_another_species_is_refused_before_anything_is_written(old, ncbi_folder):
    mouse = read_ncbi_folder(ncbi_folder, taxa=["mouse"])
    with pytest.raises(SourceUnusable, match="the source has no gene of taxon 9606"):
        plan_update(old, mouse)


def test_damage_is_not_carried_on_under_a_new_digest(old, new_source, tmp_path):
    folder = Path(shutil.copytree(old.folder, tmp_path / "store" / old.folder.name))
    path = next((folder / "embeddings").rglob("part-*.parquet"))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))
    damaged = genekb.open(folder)
    with pytest.raises(StoreCorrupt, match="has other bytes than its manifest says"):
        update(damaged, new_source, plan_update(damaged, new_source), home=tmp_path)
    with pytest.raises(StoreCorrupt, match="has other bytes than its manifest says"):
        add_encoders(damaged, ["hash-8"], load=load_encoder, home=tmp_path)


def test_an_encoder_is_added_and_the_others_are_kept_byte_by_byte(old, tmp_path):
    result = add_encoders(old, ["hash-16"], load=load_encoder, home=tmp_path)
    assert list(result.manifest.encoders)[:-1] == list(old.manifest.encoders)
    before = {file.path: file.sha256 for file in old.manifest.files if file.path.startswith("embeddings/")}
    after = {file.path: file.sha256 for file in result.manifest.files}
    assert before.items() <= after.items()
    assert verify_store(result.folder).faults == ()
    again = add_encoders(genekb.open(result.folder), ["hash-16"], load=load_encoder, home=tmp_path)
    assert (again.folder, again.n_encoded) == (result.folder, 0)


def test_random_vectors_say_nothing_of_the_text(old, tmp_path):
    kb = genekb.open(add_encoders(old, ["random-64"], load=load_encoder, home=tmp_path).folder)
    vectors = kb.vector_table("random-64").vectors
    cosine = vectors @ vectors.T - np.eye(len(vectors))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    assert np.abs(cosine).max() < 0.6


def test_vectors_made_elsewhere_become_an_encoder_and_survive_an_update(old, new_source, tmp_path):
    (tmp_path / "mine.emb").write_text("3 2\nCD3D 1 2\n3630 3 4\nnothing 5 6\n")
    foreign = read_foreign(tmp_path / "mine.emb")
    result = import_vectors(old, foreign, name="mine", home=tmp_path, keys="gene_id")
    kb = genekb.open(result.build.folder)
    assert result.left_out == (("nothing", "unknown to the store"),)
    assert (result.n_genes, result.resolution.status.tolist().count("unknown")) == (2, 1)
    np.testing.assert_array_equal(kb.vectors([3630, 915, 916], encoder="mine").vectors, [[3, 4], [1, 2], [0, 0]])
    assert kb.sql('select count(*) as n from "vectors_mine"')["n"].to_pylist() == [2]
    assert verify_store(kb.folder).faults == ()
    with pytest.raises(NotAvailable, match=r"was imported as vectors of genes; .* and `encode` need"):
        add_encoders(kb, ["mine"], load=load_encoder, home=tmp_path)
    with pytest.raises(NotAvailable, match="was imported as vectors of genes"):
        kb.search("insulin", encoder="mine")
    with pytest.raises(SourceUnusable, match="has an encoder named 'mine' already"):
        import_vectors(kb, foreign, name="mine", home=tmp_path)
    new = genekb.open(update(kb, new_source, plan_update(kb, new_source), home=tmp_path).folder)
    np.testing.assert_array_equal(new.vectors([3630], encoder="mine").vectors, [[3, 4]])


TABLE = {"gene_id": ["3630", "2641", "4069"], "symbol": ["INS", "GCG", "LYZ"], "v": [[1.0], [2.0], [3.0]]}


def read_table(folder, **columns):
    pq.write_table(pa.table(TABLE | columns), folder / "x.parquet")
    return read_foreign(folder / "x.parquet")


def test_keys_that_are_numbers_are_gene_ids_only_where_somebody_says_so(old, tmp_path):
    (tmp_path / "x.emb").write_text("3 1\n915 1\n916 2\n3630 3\n")  # all of them GeneIDs of the store
    numbered = read_foreign(tmp_path / "x.emb")
    with pytest.raises(SourceUnusable, match=r"3 of 3 keys .* are numbers .* keys=.gene_id. .* names=.FILE"):
        import_vectors(old, numbered, name="mine", home=tmp_path)
    assert import_vectors(old, numbered, name="mine", home=tmp_path, keys="gene_id").n_genes == 3
    assert import_vectors(old, read_table(tmp_path), name="two", home=tmp_path).n_genes == 3  # symbols agree
    shifted = read_table(tmp_path, symbol=["GCG", "LYZ", "INS"])
    with pytest.raises(SourceUnusable, match=r"0\.0% of them are the GeneID of their 'symbol', 95% .* column=.symbol"):
        import_vectors(old, shifted, name="mine", home=tmp_path)


def test_a_few_numbers_among_symbols_are_left_out_with_the_reason(old, tmp_path):
    symbols = [symbol for symbol in old.table("genes")["symbol"].to_pylist() if old.resolve([symbol]).is_resolved[0]]
    (tmp_path / "x.csv").write_text(
        "symbol,a\n" + "".join(f"{name},1\n" for name in [*symbols, "916", symbols[0], "x"])
    )
    result = import_vectors(old, read_foreign(tmp_path / "x.csv"), name="mine", home=tmp_path)
    assert result.n_genes == len(symbols) >= 20
    assert dict(result.left_out) == {
        symbols[0]: "repeated name",
        "916": 'a number, which is a GeneID with keys="gene_id" alone',
        "x": "unknown to the store",
    }


def test_too_few_known_names_are_refused_and_two_names_of_a_gene_count_once(old, tmp_path):
    (tmp_path / "x.csv").write_text("symbol,a\nCD3D,1\nFOO1,2\nFOO2,3\n")
    foreign = read_foreign(tmp_path / "x.csv")
    with pytest.raises(CoverageTooLow, match=r"1 of 3 names \(33\.3%\) .* 50% are needed \(FOO1: unknown to the store"):
        import_vectors(old, foreign, name="mine", home=tmp_path)
    assert import_vectors(old, foreign, name="mine", home=tmp_path, min_resolved=0.3).n_genes == 1
    (tmp_path / "y.csv").write_text("symbol,a\nCD3D,1\nLOC915,2\n")
    twice = import_vectors(old, read_foreign(tmp_path / "y.csv"), name="twice", home=tmp_path)
    assert twice.left_out == (("LOC915", "GeneID 915 has the vector of CD3D"),)
    (tmp_path / "z.csv").write_text("symbol,a\nFOO1,1\n")
    with pytest.raises(CoverageTooLow, match="0 of 1 names"):
        import_vectors(old, read_foreign(tmp_path / "z.csv"), name="mine", home=tmp_path, min_resolved=0)


def test_a_diff_names_what_was_added_retired_renamed_and_rewritten(old, updated):
    _, kb = updated
    diff = diff_stores(old, kb)
    renamed = {(gene.old, gene.new) for gene in diff.changes.renamed}
    assert ("GBA", "GBA1") in renamed
    genes_before = set(old.table("genes")["gene_id"].to_pylist())
    genes_after = set(kb.table("genes")["gene_id"].to_pylist())
    assert set(diff.changes.added) == genes_after - genes_before
    assert {gene.gene_id for gene in diff.changes.retired} == genes_before - genes_after
    gba = next(word for word in diff.words if word.symbol == "GBA1")
    assert gba.words.startswith("[-GBA:-] {+GBA1:+}")
    assert "[-beta.-] {+beta 1.+}" in gba.words
    moved = {move.encoder: move for move in diff.moved}
    assert moved["hash-32"].same_recipe
    assert moved["hash-32"].n_moved == len(diff.changes.text_changed)
    assert diff_stores(kb, kb).moved[0].n_moved == 0


@given(st.lists(st.sampled_from("abcde")), st.lists(st.sampled_from("abcde")))
def test_a_word_diff_holds_both_texts(before, after):
    words = word_diff(" ".join(before), " ".join(after)).split()
    old, new, side = [], [], "both"
    for word in words:
        side = {"[-": "old", "{+": "new"}.get(word[:2], side)
        plain = word.removeprefix("[-").removeprefix("{+").removesuffix("-]").removesuffix("+}")
        if side in {"both", "old"}:
            old.append(plain)
        if side in {"both", "new"}:
            new.append(plain)
        if word.endswith(("-]", "+}")):
            side = "both"
    assert (old, new) == (before, after)


def test_a_builder_of_its_own_may_load_encoders_with_settings(old, tmp_path):
    result = add_encoders(old, ["hash-4"], load=partial(load_encoder, threads=1), home=tmp_path)
    assert "hash-4" in " ".join(result.manifest.encoders)
