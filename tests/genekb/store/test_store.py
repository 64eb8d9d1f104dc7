import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genekb
from genekb.builder.assemble import plan_shards
from genekb.builder.plan import BuildConfig, build, plan_build
from genekb.core.errors import NotAvailable, SchemaMismatch, SourceUnusable, StoreBusy, StoreCorrupt
from genekb.genes.words import split_texts
from genekb.sources.table import read_gene_table
from genekb.store.home import find_store, list_store_folders
from genekb.store.manifest import read_manifest
from genekb.store.verify import verify_store
from genekb.store.writer import commit, describe_file, locked, write_table

ROOT = Path(__file__).parents[3]
CONFIG = BuildConfig(name="human", models=("hash-32", "wcp-16"))


@pytest.fixture(scope="module")
def built(human, tmp_path_factory):
    return build(human, CONFIG, home=tmp_path_factory.mktemp("home"))


@pytest.fixture
def kb(built):
    return genekb.open(built.folder, home=built.folder.parents[2])


@pytest.fixture
def copied(built, tmp_path):
    """A store that a test may damage."""
    return Path(shutil.copytree(built.folder, tmp_path / built.folder.name))


def test_a_built_store_is_whole_and_found_by_name_release_digest_and_path(built):
    home = built.folder.parents[2]
    assert verify_store(built.folder).faults == ()
    for reference in ("human", "human@2022-11", built.manifest.digest[:10], built.manifest.digest, built.folder):
        assert find_store(reference, home) == built.folder
    assert list_store_folders(home) == [built.folder]
    assert built.folder.name == built.manifest.digest


def test_the_newest_release_is_taken_where_none_is_named(human, tmp_path):
    config = replace(CONFIG, models=("hash-8",))
    newest = build(human, replace(config, name="human@2023-01"), home=tmp_path)
    build(human, replace(config, name="human@2021-07"), home=tmp_path)
    build(human, replace(config, name="human@mine"), home=tmp_path)
    assert find_store("human", tmp_path) == newest.folder


def test_vectors_come_back_as_they_were_encoded(kb, built):
    from genekb.encoders import load_encoder

    texts = kb.texts([915, 916, 4069])
    encoded = load_encoder("hash-32").encode(texts).vectors
    stored = kb.vectors([915, 916, 4069], encoder="hash-32")
    assert stored.has_vector.all()
    np.testing.assert_allclose(stored.vectors, encoded, atol=1e-3)


def test_genes_without_text_have_no_vector_and_order_is_kept(kb):
    by_name = kb.vectors(["CD3E", "no such gene", "T3D"])  # the last an alias
    assert by_name.has_vector.tolist() == [True, False, True]
    np.testing.assert_array_equal(by_name.vectors, kb.vectors([916, 0, 915]).vectors)
    selection = kb.vectors([916, 999_999, 915, 0])
    assert selection.has_vector.tolist() == [True, False, True, False]
    assert (selection.vectors[1] == 0).all()
    np.testing.assert_array_equal(selection.vectors[2], kb.vectors([915]).vectors[0])


@pytest.mark.parametrize(
    ("on_missing", "n_rows", "is_warned"), [("warn", 3, True), ("zero", 3, False), ("drop", 2, False)]
)
def test_a_name_without_a_vector_is_never_a_silent_row_of_zeros(kb, caplog, on_missing, n_rows, is_warned):
    found = kb.vectors(["CD3E", "no such gene", "T3D"], on_missing=on_missing)
    assert found.missing == {"no such gene": "unknown"}
    assert found.vectors.shape[0] == len(found.symbols) == len(found.to_frame()) == n_rows
    assert found.to_frame().loc["T3D"].tolist() == kb.vectors([915]).vectors[0].tolist()
    assert ("for 1 of 3 genes: no such gene (unknown)" in caplog.text) == is_warned
    assert "missing: no such gene" in repr(found)
    with pytest.raises(SourceUnusable, match=r"no vector in .* for 1 of 3 genes: no such gene \(unknown\)"):
        kb.vectors(["CD3E", "no such gene", "T3D"], on_missing="raise")


def test_each_text_is_encoded_once(kb):
    table = kb.vector_table("hash-32")
    unique = len(set(kb.table("texts")["text_id"].to_pylist()))
    assert table.vectors.shape == (unique, 32)
    assert len(table.gene_ids) == kb.table("texts").num_rows


def test_search_ranks_by_meaning(kb):
    hits = kb.search("T cell receptor complex of T lymphocytes", mode="semantic", encoder="wcp-16", limit=3)
    assert {"CD3D", "CD3E"} <= {hit.symbol for hit in hits}
    assert (hits.score, hits.encoders) == ("cosine", (kb.encoder_id("wcp-16"),))
    assert hits[0].score >= hits[1].score >= hits[2].score
    with pytest.raises(SourceUnusable, match="is empty"):
        kb.search("  ")


def test_search_by_a_stored_vector_finds_its_gene_and_opens_no_encoder(kb, monkeypatch):
    vectors = kb.vectors([916], encoder="wcp-16").vectors
    encoded = kb.search(kb.texts([916])[0], mode="semantic", encoder="wcp-16", limit=5)
    monkeypatch.delattr(type(kb), "encoder")
    found = kb.search(vectors[0], encoder="wcp-16", limit=5)
    assert found[0].gene_id == 916
    assert found[0].score == pytest.approx(1, abs=1e-3)
    assert [hit.gene_id for hit in found] == [hit.gene_id for hit in encoded]
    with pytest.raises(ValueError, match=r"the query has shape \(1, 16\), .* 16 values"):
        kb.search(vectors, encoder="wcp-16")


def test_sql_reads_the_store_and_nothing_else(kb, tmp_path):
    counted = kb.sql("select count(*) as n from genes where symbol = 'CD3D'")
    assert counted["n"].to_pylist() == [1]
    vectors = kb.sql('select array_cosine_similarity(vector, vector) as s from "vectors_hash-32" limit 1')
    assert vectors["s"].to_pylist()[0] == pytest.approx(1.0)
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    for query in (
        f"select * from read_csv('{secret}')",
        f"copy (select 1) to '{tmp_path / 'out.csv'}'",
        "set enable_external_access = true",
        "install httpfs",
        f"attach '{tmp_path / 'x.db'}'",
        "select nonsense",
    ):
        with pytest.raises(SourceUnusable, match="the query failed"):
            kb.sql(query)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret.csv"]


def test_an_encoder_that_is_not_there_names_those_that_are(kb):
    with pytest.raises(NotAvailable, match=r"has no encoder 'minilm' \(it has: hash-32-.*, wcp-16-.*\)"):
        kb.vectors([915], encoder="minilm")


def test_a_store_that_is_not_there_names_those_that_are(built):
    with pytest.raises(NotAvailable, match=r"no store 'mouse' in .* \(there: human@2022-11\)"):
        find_store("mouse", built.folder.parents[2])


@pytest.mark.parametrize("name", ["../evil", "a b", "", "x@y@z", "/tmp/x"])
def test_a_name_that_is_no_name_is_refused(human, name, tmp_path):
    with pytest.raises(SourceUnusable, match="is not NAME or NAME@RELEASE"):
        plan_build(human, replace(CONFIG, name=name))


def test_same_input_same_digest_in_another_home(human, built, tmp_path):
    again = build(human, CONFIG, home=tmp_path)
    assert again.manifest.digest == built.manifest.digest
    for file in again.manifest.files:
        assert (again.folder / file.path).read_bytes() == (built.folder / file.path).read_bytes()


def test_building_twice_leaves_one_store_and_no_rest(human, tmp_path):
    first = build(human, CONFIG, home=tmp_path)
    second = build(human, CONFIG, home=tmp_path)
    assert first.folder == second.folder
    names = {path.name for path in first.folder.parent.iterdir()}
    assert names == {first.manifest.digest, "current", ".lock"}


def test_another_recipe_is_another_store_and_the_old_one_stays(human, tmp_path):
    first = build(human, replace(CONFIG, models=("hash-8",)), home=tmp_path)
    second = build(human, replace(CONFIG, models=("hash-16",)), home=tmp_path)
    assert find_store("human", tmp_path) == second.folder
    assert find_store(first.manifest.digest, tmp_path) == first.folder


def test_selection_limits_texts_and_keeps_all_names(human, tmp_path):
    config = replace(CONFIG, models=("hash-8",), genes="protein-coding", only_names=("CD3D", "MALAT1", "MARCH1", "nix"))
    kb = genekb.open(build(human, config, home=tmp_path).folder)
    assert kb.table("texts")["gene_id"].to_pylist() == [915, 55016]
    assert kb.resolve(["MALAT1"]).gene_ids[0] == 378938
    with pytest.raises(SourceUnusable, match="no gene has the type 'poem'; the source has"):
        plan_build(human, replace(config, genes="poem"))
    with pytest.raises(SourceUnusable, match="none of 1 names of `only_genes`"):
        plan_build(human, replace(config, only_names=("nix",)))


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=40, unique=True), st.randoms())
def test_shards_hold_every_text_once_whatever_its_order(texts, random):
    import pyarrow as pa

    ids = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]
    order = list(range(len(texts)))
    random.shuffle(order)
    table = pa.table({"text_id": ids, "text": [f"t{number}" for number in range(len(ids))]})
    shuffled = table.take(order)
    assert plan_shards(table) == plan_shards(shuffled)
    found = [key for shard in plan_shards(table) for key in shard]
    assert sorted(found) == sorted(ids)


def test_every_flipped_byte_is_found(copied, built):
    for file in built.manifest.files:
        path = copied / file.path
        original = path.read_bytes()
        position = len(original) // 2
        path.write_bytes(original[:position] + bytes([original[position] ^ 1]) + original[position + 1 :])
        faults = verify_store(copied).faults
        assert faults == (f"{file.path} has other bytes than its manifest says",)
        path.write_bytes(original)
    assert verify_store(copied).faults == ()


def test_a_truncated_or_missing_file_is_refused_at_open(copied):
    victim = copied / "texts.parquet"
    victim.write_bytes(victim.read_bytes()[:-10])
    with pytest.raises(StoreCorrupt, match=r"texts\.parquet is missing or not \d+ bytes long"):
        genekb.open(copied)
    victim.unlink()
    with pytest.raises(StoreCorrupt, match=r"texts\.parquet is missing"):
        genekb.open(copied)


def edit_manifest(folder, change, *, mend_digest=False):
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    (folder / "manifest.json").write_text(json.dumps(content))
    if mend_digest:
        with pytest.raises(StoreCorrupt) as error:
            read_manifest(folder)
        found = str(error.value).split("has digest ")[1][:12]
        content["digest"] = next(digest for digest in [_digest(content)] if digest.startswith(found))
        (folder / "manifest.json").write_text(json.dumps(content))


def _digest(content):
    plain = {key: value for key, value in content.items() if key not in ("digest", "created_at", "created_by")}
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def test_a_changed_manifest_is_refused(copied):
    edit_manifest(copied, lambda content: content.update(n_genes=7))
    with pytest.raises(StoreCorrupt, match="its content has digest"):
        genekb.open(copied)


@pytest.mark.parametrize("path", ["../outside.parquet", "/etc/passwd", "a\\..\\b"])
def test_a_manifest_that_names_a_path_outside_is_refused(copied, path):
    edit_manifest(copied, lambda content: content["files"][0].update(path=path), mend_digest=True)
    with pytest.raises(StoreCorrupt, match="which is no plain path below the store"):
        genekb.open(copied)


def test_another_schema_version_is_named_before_anything_else_is_read(copied):
    edit_manifest(copied, lambda content: (content.update(schema_version=99), content.pop("files")))
    with pytest.raises(SchemaMismatch, match="has schema version 99, this genekb reads 2; update genekb"):
        genekb.open(copied)


@pytest.mark.parametrize("text", ["", "not json", "[]", "{}", '{"schema_version": 1}'])
def test_a_damaged_manifest_is_refused(copied, text):
    (copied / "manifest.json").write_text(text)
    with pytest.raises(StoreCorrupt, match="is damaged"):
        genekb.open(copied)


@pytest.mark.parametrize("name", ["vectors.npy", "rows.npy", "gene_ids.npy", "stamps.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_spoilt_cache_is_made_again_and_never_gives_a_wrong_vector(built, tmp_path, name, harm):
    home = Path(shutil.copytree(built.folder.parent, tmp_path / "human@2022-11"))
    folder = home / built.folder.name
    right = genekb.open(folder, home=tmp_path).vectors([915, 916]).vectors.copy()
    cache = next((home / ".cache").rglob(name))
    raw = bytearray(cache.read_bytes())
    raw[-1] ^= 1
    cache.write_bytes(bytes(raw if harm == "flip" else raw[: len(raw) // 2]))
    if harm == "remove":
        cache.unlink()
    np.testing.assert_array_equal(genekb.open(folder, home=tmp_path).vectors([915, 916]).vectors, right)
    assert verify_store(folder).faults == ()


def test_a_cache_that_was_changed_behind_its_stamp_is_found_by_verify(built, tmp_path):
    home = Path(shutil.copytree(built.folder.parent, tmp_path / "human@2022-11"))
    folder = home / built.folder.name
    genekb.open(folder, home=tmp_path).vectors([915])
    cache = next((home / ".cache").rglob("vectors.npy"))
    status = cache.stat()
    raw = bytearray(cache.read_bytes())
    raw[-1] ^= 1
    cache.write_bytes(bytes(raw))
    os.utime(cache, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert any("delete the folder .cache" in fault for fault in verify_store(folder).faults)


def test_vectors_of_all_genes_are_a_view_of_the_mapped_file(kb):
    table = kb.vector_table("hash-32")
    alone = np.flatnonzero(np.bincount(table.rows)[table.rows] == 1)  # genes that share their text with no other
    run = table.gene_ids[alone[:5]] if np.array_equal(np.diff(alone[:5]), np.ones(4)) else table.gene_ids[:1]
    selection = kb.vectors(run, encoder="hash-32")
    assert np.shares_memory(selection.vectors, table.vectors)
    assert not selection.vectors.flags.writeable
    copied = kb.vectors(run[::-1], encoder="hash-32")
    np.testing.assert_array_equal(copied.vectors[::-1], selection.vectors)


def test_a_store_in_a_folder_that_cannot_be_written_still_gives_vectors(built, kb, monkeypatch):
    before = kb.vectors([915], encoder="wcp-16").vectors
    shutil.rmtree(built.folder.parent / ".cache")
    (built.folder.parent / ".cache").write_text("a file where the cache would be")
    try:
        again = genekb.open(built.folder, home=built.folder.parents[2]).vectors([915], encoder="wcp-16").vectors
        np.testing.assert_array_equal(again, before)
    finally:
        (built.folder.parent / ".cache").unlink()


def test_a_store_outside_of_the_home_is_read_and_verified_and_nothing_is_written_beside_it(built, kb, tmp_path):
    ignored = shutil.ignore_patterns(".cache")
    shutil.copytree(built.folder.parents[1], tmp_path / "stores", ignore=ignored)  # as a home, but not that of the call
    folder, before = tmp_path / "stores" / "human@2022-11" / built.folder.name, set(tmp_path.rglob("*"))
    table = genekb.open(folder, home=built.folder.parents[2]).vector_table()
    np.testing.assert_array_equal(table.vectors, kb.vector_table().vectors)
    assert not table.vectors.flags.writeable
    assert verify_store(folder).faults == ()
    assert set(tmp_path.rglob("*")) == before


def test_two_builders_at_once_are_kept_apart(human, tmp_path):
    with locked(tmp_path / "stores" / "human@2022-11"), pytest.raises(StoreBusy, match="another process is writing"):
        build(human, CONFIG, home=tmp_path)


def test_a_home_that_cannot_be_written_is_one_clear_error(human, tmp_path):
    (tmp_path / "stores").write_text("a file in the way")
    with pytest.raises(NotAvailable, match=r"cannot write to .*human@2022-11: .*another `home`"):
        build(human, CONFIG, home=tmp_path)


def run_build(home, folder, *, shard_size, limit=None):
    code = f"""
import resource, sys
limit = {limit!r}
if limit:
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from pathlib import Path
import genekb.builder.plan as builder, genekb.builder.assemble as encoding
encoding.SHARD_SIZE = {shard_size}
from genekb.genes.words import split_texts
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.sources.table import read_gene_table
source = read_ncbi_folder(Path({str(folder)!r}), taxa=["human"])
config = builder.BuildConfig(name="human", models=("hash-32",))
result = builder.build(source, config, home=Path({str(home)!r}),
                       progress=lambda *step: print("step", *step, flush=True))
print("done", result.manifest.digest, result.n_kept, flush=True)
"""
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )  # fmt: skip


def finish(process):
    out, err = process.communicate(timeout=120)
    last = out.strip().splitlines()[-1].split() if out.strip() else []
    return process.returncode, last, err


@pytest.mark.slow
def test_a_build_killed_at_any_shard_resumes_and_ends_with_the_same_digest(ncbi_folder, tmp_path):
    code, whole, err = finish(run_build(tmp_path / "whole", ncbi_folder, shard_size=4))
    assert code == 0, err
    for kill_after in (1, 3):
        home = tmp_path / f"killed-{kill_after}"
        process = run_build(home, ncbi_folder, shard_size=4)
        for _ in range(kill_after):
            assert process.stdout.readline().startswith("step")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            assert list_store_folders(home) == []
        code, last, err = finish(run_build(home, ncbi_folder, shard_size=4))
        assert code == 0, err
        assert last[:2] == ["done", whole[1]]
        folder = find_store("human", home)
        assert verify_store(folder).faults == ()
        assert not list(folder.parent.glob(".building-*"))


@pytest.mark.slow
def test_a_killed_build_keeps_its_finished_shards(ncbi_folder, tmp_path):
    process = run_build(tmp_path, ncbi_folder, shard_size=1)
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 30
    while not list(tmp_path.rglob("part-*.parquet")) and time.monotonic() < deadline:
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, last, err = finish(run_build(tmp_path, ncbi_folder, shard_size=1))
    assert code == 0, err
    assert int(last[2]) >= 1


@pytest.mark.slow
def test_a_full_disk_ends_in_one_clear_error_and_the_build_can_go_on(ncbi_folder, tmp_path):
    code, _, err = finish(run_build(tmp_path, ncbi_folder, shard_size=4, limit=2000))
    assert code == 1
    assert "NotAvailable: cannot write to" in err
    assert "File too large" in err
    assert not list(tmp_path.rglob("*.part"))
    code, _, err = finish(run_build(tmp_path, ncbi_folder, shard_size=4))
    assert code == 0, err
    assert verify_store(find_store("human", tmp_path)).faults == ()


@pytest.mark.parametrize(
    ("dtype", "stored", "encoding"), [("float16", "halffloat", "PLAIN"), ("float32", "float", "BYTE_STREAM_SPLIT")]
)
def test_vectors_are_stored_without_dictionary_and_duckdb_reads_them(human, tmp_path, dtype, stored, encoding):
    config = replace(CONFIG, models=("hash-32",), vector_dtype=dtype)
    folder = build(human, config, home=tmp_path).folder
    path = next((folder / "embeddings").rglob("part-*.parquet"))
    column = pq.read_metadata(path).row_group(0).column(3)
    assert encoding in column.encodings
    assert not any("DICTIONARY" in name for name in column.encodings)
    assert stored in str(pq.read_schema(path).field("vector").type)
    norms = genekb.open(folder).sql('select sqrt(list_sum([x * x for x in vector])) as n from "vectors_hash-32"')
    assert norms["n"].to_pylist() == pytest.approx([1.0] * len(norms), abs=2e-3)


def test_words_of_stored_and_of_other_texts_are_those_that_are_split_now(kb):
    assert kb.table("words")["gene_id"].equals(kb.table("texts")["gene_id"])
    texts = kb.table("texts")["text"].to_pylist()[3:9]
    for given_texts in (texts, [*texts, "A text of no gene. It has T cells"], [], texts[:1] * 3):
        found, wanted = kb.words(given_texts), split_texts(given_texts)
        assert [found.vocabulary[word] for word in found.words] == [wanted.vocabulary[word] for word in wanted.words]
        assert found.starts_clause.tolist() == wanted.starts_clause.tolist()
        assert found.sentences.tolist() == wanted.sentences.tolist()
        assert found.texts.tolist() == wanted.texts.tolist()


def test_words_of_other_texts_are_found_by_verify(built, kb, tmp_path):
    words = kb.table("words")
    wrong = words.set_column(
        2, words.schema.field("word"), [words["word"].combine_chunks().take([1, 0, *range(2, words.num_rows)])]
    )
    manifest = read_manifest(built.folder)
    staging = Path(shutil.copytree(built.folder, tmp_path / "stores" / manifest.full_name / "new"))
    write_table(wrong, staging / "words.parquet")
    described = describe_file(staging / "words.parquet", folder=staging)
    files = tuple(described if file.path == described.path else file for file in manifest.files)
    folder = commit(staging, replace(manifest, files=files))
    assert verify_store(folder).faults == ("words.parquet does not hold the words of the texts",)


def test_a_name_with_a_date_is_the_newest_release_up_to_it(tmp_path):
    table = tmp_path / "genes.tsv"
    table.write_text("gene_id\tsymbol\tname\n1\tA1\talpha\n")
    made = {}
    for release in ("2020-01", "2021-07", "2022-11", "draft"):
        source = read_gene_table(table, release=release, taxon="human")
        made[release] = build(source, BuildConfig(name="h", models=()), home=tmp_path).folder
    for until, release in {"2020-01": "2020-01", "2021": "2021-07", "2022-10": "2021-07", "2030": "2022-11"}.items():
        assert find_store(f"h@..{until}", tmp_path) == made[release]
    with pytest.raises(NotAvailable, match=r"no release of h up to 2019 .*h@2020-01, "):
        find_store("h@..2019", tmp_path)
