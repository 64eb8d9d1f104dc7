"""SQL over a store reads its tables and does nothing else: every statement is tried, the files compared afterwards."""

import json
import os
import shutil
import signal
import threading
from dataclasses import replace

import pytest

import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.core.errors import SourceUnusable
from genekb.files.atomic import sha256_file
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.store import sql
from genekb.store.manifest import read_manifest
from tests.support.in_process import call_here

ANSWERS = "a store answers one SELECT, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN"
STATEMENTS = (
    "copy (select 1) to '{store}/x.parquet'",
    "copy genes to '{store}/genes.parquet'",
    "export database '{store}/x'",
    "import database '{store}'",
    "attach '{store}/x.db'",
    "attach ':memory:' as other",
    "install httpfs",
    "load httpfs",
    "load '{store}/x.duckdb_extension'",
    "update extensions",
    "pragma enable_profiling",
    "pragma database_list",
    "call enable_logging(storage='file')",
    "set enable_external_access = true",
    "set memory_limit = '1TB'",
    "set allowed_paths = ['/etc/passwd']",
    "reset lock_configuration",
    "create table t (a int)",
    "create or replace view genes as select 1",
    "create macro m() as 1",
    "create secret (type s3)",
    "drop view genes",
    "insert into genes select * from genes",
    "prepare p as select 1",
    "execute p",
    "vacuum",
    "checkpoint",
    "begin",
    "use memory",
    "explain analyze copy (select 1) to '{store}/x.parquet'",
    "explain copy (select 1) to '{store}/x.parquet'",
    "explain (analyze, format json) create table t as select 1",
    "/* first */ explain copy (select 1) to '{store}/x.parquet'",
    "COPY (SELECT 1) TO '{store}/x.parquet'",
    "\u00a0copy (select 1) to '{store}/x.parquet'",
)
READS_OUTSIDE = (
    "with x as (copy (select 1) to '{store}/x.parquet' (use_tmp_file false)) from x",
    "with x as (copy (select 1) to '{store}/genes.parquet' (use_tmp_file false)) from x",
    "with x as (copy (select 1) to '{outside}/x.parquet' (use_tmp_file false)) from x",
    "with x as (copy (select 1) to 'store://genes.parquet' (use_tmp_file false)) from x",
    "with x as (copy (select 1) to 'store://x.parquet' (use_tmp_file false)) from x",
    "with x as (copy (select 1) to 'file:///{outside}/x.csv' (use_tmp_file false)) from x",
    "with x as (insert into genes select * from genes returning *) from x",
    "from read_csv('/etc/passwd')",
    "from '/etc/passwd'",
    "from read_text('/proc/self/environ')",
    "from read_text('{outside}/secret.csv')",
    "from read_text('file://{outside}/secret.csv')",
    "from read_text('{store}/../../current')",
    "from read_text('{store}/manifest.json')",
    "from read_text('store://manifest.json')",
    "from read_text('store://../current')",
    "from read_text('store:///etc/passwd')",
    "from read_text('STORE://genes.parquet/../../../current')",
    "from read_blob('{outside}/link')",
    "from glob('/*')",
    "from glob('store://*')",
    "from sniff_csv('{outside}/secret.csv')",
    "from parquet_metadata('{outside}/secret.csv')",
    "from read_json('http://127.0.0.1:9/x.json')",
    "from 's3://bucket/x.parquet'",
    "from read_duckdb('{outside}/x.db')",
    "select getenv('HOME')",
    "from query('copy (select 1) to ''{store}/x.parquet''')",
    "from enable_logging(storage = 'file', storage_config = {{'path': '{store}/log'}})",
    "from local_variable",
    "from statements",
)
MANY = ("", ";", "-- only a comment", "select 1; select 2", "select 1; copy (select 1) to '{store}/x.parquet'")
NO_TEXT = ("select 1 \0; copy (select 1) to '{store}/x.parquet'", "select '\ud83d'")


@pytest.fixture(scope="module")
def folder(ncbi_folder, tmp_path_factory):
    source = read_ncbi_folder(ncbi_folder, taxa=["human"])
    return build(source, BuildConfig(name="human", models=("hash-8",)), home=tmp_path_factory.mktemp("home")).folder


@pytest.fixture(scope="module")
def kb(folder):
    return genekb.open(folder)


@pytest.fixture(scope="module")
def outside(tmp_path_factory, folder):
    place = tmp_path_factory.mktemp("outside")
    (place / "secret.csv").write_text("a\n1\n")
    (place / "link").symlink_to(folder / "genes.parquet")
    return place


@pytest.fixture
def unchanged(folder, outside, tmp_path, monkeypatch):
    """Compares every file of the home, of a folder outside and of the working folder with those before the test."""
    monkeypatch.chdir(tmp_path)
    places = (folder.parents[2], outside, tmp_path)

    def files():
        return {path: sha256_file(path) for place in places for path in place.rglob("*") if path.is_file()}

    before = files()
    yield
    assert files() == before


@pytest.mark.parametrize("query", STATEMENTS)
def test_a_statement_that_does_more_than_read_is_refused_before_it_runs(kb, folder, unchanged, query):
    with pytest.raises(SourceUnusable, match=r"^the query failed: ") as caught:
        kb.sql(query.format(store=folder))
    assert str(caught.value).endswith(ANSWERS) or "Parser Error" in str(caught.value)


@pytest.mark.parametrize("query", READS_OUTSIDE)
def test_a_select_reaches_no_file_but_the_tables_and_writes_none(kb, folder, outside, unchanged, query):
    local_variable = kb.table("genes")  # a name that DuckDB would look for in the program
    with pytest.raises(SourceUnusable, match=r"^the query failed: [^\n]*$"):
        kb.sql(query.format(store=folder, outside=outside))
    assert local_variable.num_rows == kb.sql("select count(*) as n from genes")["n"][0].as_py()


@pytest.mark.parametrize("query", MANY)
def test_a_query_is_one_statement(kb, folder, unchanged, query):
    with pytest.raises(SourceUnusable, match=r"it holds [02] statements; a store answers one SELECT"):
        kb.sql(query.format(store=folder))


@pytest.mark.parametrize("query", NO_TEXT)
def test_a_query_is_text(kb, folder, unchanged, query):
    with pytest.raises(SourceUnusable, match="holds characters that are no text"):
        kb.sql(query.format(store=folder))


@pytest.mark.parametrize(
    "query",
    [
        "select symbol from genes where gene_id = 915;",
        "from genes select symbol",
        "with t as (select 1 as a) select * from t join genes on a = gene_id",
        "describe genes",
        "show tables",
        "summarize texts",
        "explain select * from genes",
        "explain analyze select * from genes",
        "explain (analyze, format json) select * from genes",
        "explain (select 1)",
        "pivot names on kind in ('symbol', 'alias') using count(*)",
        "values (1)",
        "from 'store://genes.parquet'",
    ],
)
def test_what_reads_is_answered(kb, unchanged, query):
    assert kb.sql(query).num_columns >= 1


def test_every_table_and_encoder_is_a_view(kb):
    shown = kb.sql("show tables")["name"].to_pylist()
    assert shown == ["annotations", "genes", "names", "orthologs", "texts", "vectors", "vectors_hash-8", "words"]
    n = kb.sql('select count(*) as n, sum(len(vector)) as d from "vectors_hash-8"').to_pylist()
    assert n == [{"n": kb.manifest.n_unique_texts, "d": 8 * kb.manifest.n_unique_texts}]
    found = kb.sql("select vector from vectors where symbol = 'CD3D' and encoder = 'hash-8'")["vector"].to_pylist()
    assert found == [kb.vectors(["CD3D"]).vectors[0].tolist()]
    with pytest.raises(SourceUnusable, match="with name gene does not exist; there are annotations, genes, names"):
        kb.sql("select * from gene")


def test_dates_that_python_has_none_for_are_printed_as_duckdb_prints_them(folder, capsys, monkeypatch):
    query = (
        "select 'infinity'::date as d, timestamp '0044-03-15 (BC) 00:00:00' as d, [date '10000-01-01'] as l, "
        """1 as "n""m", date '2022-11-01' as e"""
    )
    shown = ["infinity", "0044-03-15 (BC) 00:00:00", "[10000-01-01]", 1, "2022-11-01"]
    asked = ("genekb", "sql", "--kb", folder, query)
    assert call_here(asked, capsys, monkeypatch).out.splitlines() == [
        'd\td\tl\tn"m\te',
        "\t".join(map(str, shown)),
    ]
    assert json.loads(call_here((*asked, "--json"), capsys, monkeypatch).out)["rows"] == [shown]
    every = call_here(("genekb", "sql", "--kb", folder, "from test_all_types()"), capsys, monkeypatch)
    assert (every.code, every.err) == (0, "")


def test_two_encoders_of_one_name_are_views_by_their_ids(folder, tmp_path):
    manifest = read_manifest(folder)
    (key,) = manifest.encoders
    parts = [file for file in manifest.files if file.path.startswith(f"embeddings/{key}/")]
    other = tuple(replace(file, path=file.path.replace(key, "hash-8-other")) for file in parts)
    store = shutil.copytree(folder, tmp_path / "store")
    shutil.copytree(store / "embeddings" / key, store / "embeddings" / "hash-8-other")
    encoders = {**manifest.encoders, "hash-8-other": manifest.encoders[key]}
    changed = replace(manifest, encoders=encoders, files=(*manifest.files, *other))
    (store / "manifest.json").write_text(changed.to_json())
    shown = genekb.open(store).sql("show tables")["name"].to_pylist()
    assert [name for name in shown if name.startswith("vectors_")] == [f"vectors_{key}", "vectors_hash-8-other"]


def test_what_a_query_may_use_is_bounded_and_cannot_be_set(kb):
    settings = dict(zip(*kb.sql("select name, value from duckdb_settings()").to_pydict().values(), strict=True))
    assert settings["memory_limit"] == "3.7 GiB"  # 4 GB
    assert int(settings["threads"]) <= sql.MAX_THREADS
    assert (settings["temp_directory"], settings["lock_configuration"]) == ("", "true")
    assert settings["enable_external_access"] == "false"


def test_a_result_that_is_too_large_is_stopped(kb, monkeypatch):
    monkeypatch.setattr(sql, "MAX_RESULT_BYTES", 1 << 20)
    with pytest.raises(SourceUnusable, match=r"it gives more than 1 MB; add `limit`"):
        kb.sql("from range(10_000_000_000)")


def test_a_query_without_end_is_interrupted(kb):
    endless = "select count(*) from range(100_000_000) a, range(100_000_000) b where a.range + b.range = 7"
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        kb.sql(endless)
    assert kb.sql("select 1 as one")["one"].to_pylist() == [1]
