import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.builder.update import import_vectors
from genekb.encoders.imported.vectors import read_foreign
from genekb.files.atomic import sha256_file
from genekb.schema import TABLES
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.sources.table import read_demo_table, read_gene_table
from genekb.store.card import describe_store, encoder_terms, source_terms, store_card, store_licence, without_header
from genekb.store.manifest import MANIFEST, read_manifest
from genekb.store.verify import verify_store

MODELS = ("hash-32", "wcp-16", "random-8")


@pytest.fixture(scope="module")
def source(ncbi_folder):
    return read_ncbi_folder(ncbi_folder, taxa=["human", "mouse"])


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    """A store of two species with three encoders of texts and vectors that were made elsewhere."""
    home = tmp_path_factory.mktemp("home")
    first = build(source, BuildConfig(name="both", models=MODELS), home=home)
    foreign = home / "made elsewhere.csv"
    foreign.write_text("symbol,a,b\nCD3D,1,2\nINS,3,4\n")
    kb = genekb.open(first.folder)
    return import_vectors(kb, read_foreign(foreign), name="mine", home=home).build


@pytest.fixture(scope="module")
def kb(built):
    return genekb.open(built.folder)


def header(folder):
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def patterns(folder):
    return {config["config_name"]: config["data_files"] for config in header(folder)["configs"]}


def stored(folder, name):
    """The Parquet rows behind a configuration."""
    files = sorted(folder.glob(patterns(folder)[name]))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_the_header_has_a_configuration_for_every_table_and_encoder_and_each_finds_its_files(built):
    found = {name: sorted(built.folder.glob(pattern)) for name, pattern in patterns(built.folder).items()}
    assert set(found) == {*TABLES, *built.manifest.encoders}
    assert all(found.values())
    parts = [path for paths in found.values() for path in paths]
    assert sorted(parts) == sorted(built.folder.rglob("*.parquet"))


def test_the_card_tells_sizes_sources_and_the_terms_of_each_part(built):
    text = (built.folder / "README.md").read_text()
    assert header(built.folder)["size_categories"] == ["n<1K"]
    for row in built.manifest.sources:
        assert f"| {row['name']} | {row['n_rows_read']:,} | {row['n_rows_kept']:,} | `{row['sha256'][:16]}…` |" in text
    assert "| NCBI Gene | public domain (US government work) |" in text
    for encoder_id, entry in built.manifest.encoders.items():
        assert f"| `{encoder_id}` | " in text
        assert encoder_terms(entry["recipe"]).stated in text
    assert f"{built.manifest.n_ortholog_texts:,} texts are those of an orthologue" in text
    assert without_header(text).startswith("# both@2022-11\n")


def test_the_license_of_the_whole_is_the_strictest_of_the_sources(built):
    def licence(*stated, encoders=()):
        kept = {key: built.manifest.encoders[key] for key in built.manifest.encoders if key.startswith(encoders)}
        return store_licence(replace(built.manifest, licences=stated, encoders=kept if encoders else {})).hub_id

    gene, go, hgnc = "NCBI Gene: public domain (US government work)", "Gene Ontology: CC BY 4.0", "HGNC: CC0"
    assert licence(f"{gene}; {hgnc}; {go}", encoders=("hash", "wcp", "random")) == "cc-by-4.0"
    assert licence(f"{gene}; {hgnc}") == "cc0-1.0"
    assert licence(gene, go) == "cc-by-4.0"
    assert licence(gene) == "other"  # the Hub has no name for a work of the US government
    assert licence(f"{go}; MGI: as stated by MGI") == "other"
    assert licence(go, encoders=("mine",)) == "other"
    assert licence("X: all public domain but the summaries") == "other"
    assert licence("GO: CC BY-NC 4.0") == "other"


def test_terms_of_encoders_come_from_the_registry_by_name_of_their_model():
    recipe = {"kind": "transformer", "model_id": "sentence-transformers/all-MiniLM-L6-v2", "name": "minilm"}
    assert encoder_terms(recipe).stated == "Apache-2.0"
    assert encoder_terms(recipe | {"model_id": "folder:mine"}).rank == -1
    assert encoder_terms(recipe | {"kind": "api", "model_id": "text-embedding-9"}).stated == "the vendor's terms"


def test_the_demo_store_states_the_terms_of_names_and_of_summaries(tmp_path):
    manifest = build(read_demo_table(), BuildConfig(name="demo", models=("hash-8",)), home=tmp_path).manifest
    assert [(terms.part, terms.rank >= 0) for terms in source_terms(manifest)] == [
        ("identifiers and names", True),
        ("summaries", True),
    ]
    assert store_licence(manifest).hub_id == "bsd-3-clause"


def test_two_builds_in_two_places_have_the_same_bytes(source, built, tmp_path):
    config = BuildConfig(name="both", models=MODELS)
    one, two = (build(source, config, home=tmp_path / name) for name in ("one", "another place"))
    assert one.manifest.digest == two.manifest.digest == built.manifest.parent
    for name in ("README.md", "croissant.json"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()


def test_metadata_that_an_interrupted_build_left_does_not_get_into_the_store(source, built, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    config = BuildConfig(name="both", models=MODELS)
    with pytest.raises(KeyboardInterrupt):
        build(source, config, home=tmp_path, progress=stop)
    staging = next((tmp_path / "stores/both@2022-11").glob(".building-*"))
    (staging / "croissant.json").write_text("{}")
    (staging / "README.md").write_text("half")
    assert build(source, config, home=tmp_path).manifest.digest == built.manifest.parent


@pytest.mark.parametrize("model", ["/home/me/models/tiny-bert", "folder:tiny-bert", r"C:\Users\me\tiny-bert"])
def test_metadata_name_no_path_and_no_time(built, model):
    encoder_id, entry = next(iter(built.manifest.encoders.items()))
    recipe = entry["recipe"] | {"kind": "transformer", "model_id": model}
    manifest = replace(built.manifest, encoders={encoder_id: entry | {"recipe": recipe}})
    for text in (store_card(manifest), json.dumps(describe_store(manifest))):
        assert "tiny-bert" in text
        assert "/me/" not in text
        assert "\\me\\" not in text
        assert not re.search(r"(?<![\w:/.@])/(home|tmp|work|root|Users)\b", text)
        assert str(built.folder.parents[2]) not in text
        assert built.manifest.created_at[:10] not in text


def test_names_of_files_cannot_break_out_of_the_card(tmp_path):
    table = tmp_path / "a|b\n---\nlicense: mit\n<script>.csv"
    table.write_text("symbol,gene_id,tax_id,summary\nCD3D,915,9606,T cell receptor\n")
    source = read_gene_table(table, release="1", licence="mine: do | as\n---\nlicense: mit")
    folder = build(source, BuildConfig(name="odd", models=("hash-8",)), home=tmp_path).folder
    text = (folder / "README.md").read_text()
    assert header(folder)["license"] == "other"
    assert text.count("\n---\n") == 1
    assert "<script>" not in text
    assert "| a\\|b --- license: mit &lt;script>.csv | 1 | 1 |" in text


def test_croissant_lists_every_other_file_with_its_digest(built):
    content = json.loads((built.folder / "croissant.json").read_text())
    objects = {item["@id"]: item for item in content["distribution"] if item["@type"] == "cr:FileObject"}
    others = {path for path in built.folder.rglob("*") if path.is_file()} - {
        built.folder / "manifest.json",
        built.folder / "croissant.json",
    }
    assert set(objects) == {path.relative_to(built.folder).as_posix() for path in others}
    for path in others:
        item = objects[path.relative_to(built.folder).as_posix()]
        assert item["sha256"] == sha256_file(path)
        assert item["contentSize"] == f"{path.stat().st_size} B"
    assert {item["@id"] for item in content["recordSet"]} == {*TABLES, *built.manifest.encoders}
    assert (content["datePublished"], content["version"]) == ("2022-11-01", "2022.11.0")
    assert "croissant.json" in {file.path for file in built.manifest.files}


def test_fields_of_croissant_are_the_columns_of_the_files(built):
    names = {"cr:Int64": "int64", "cr:Int32": "int32", "cr:Float16": "halffloat", "cr:Float32": "float"}
    for record_set in json.loads((built.folder / "croissant.json").read_text())["recordSet"]:
        path = next(built.folder.glob(patterns(built.folder)[record_set["@id"]]))
        columns = pq.read_schema(path)
        assert [field["name"] for field in record_set["field"]] == columns.names
        for field in record_set["field"]:
            column = columns.field(field["name"]).type
            inner = column.value_type if field.get("isArray") else column
            inner = getattr(inner, "value_type", inner)  # of a dictionary, as which words are stored
            assert str(inner) == names.get(field["dataType"], "string")
            if field["name"] == "vector":
                assert field["arrayShape"] == str(column.list_size)


def test_a_release_that_is_no_date_gives_no_date_of_publication(source, tmp_path):
    folder = build(source, BuildConfig(name="human@mine", models=("hash-8",)), home=tmp_path).folder
    content = json.loads((folder / "croissant.json").read_text())
    assert "datePublished" not in content
    assert "version" not in content
    assert content["url"] == "https://www.ncbi.nlm.nih.gov/gene"


def test_duckdb_reads_every_configuration_by_path_and_runs_the_query_of_the_card(built, monkeypatch):
    for name, pattern in patterns(built.folder).items():
        rows = duckdb.sql(f"select * from '{built.folder / pattern}'").to_arrow_table().to_pylist()
        expected = stored(built.folder, name)
        assert len(rows) == len(expected)
        assert [list(row) for row in rows[:1]] == [list(row) for row in expected[:1]]
    query = re.search(r"```sql\n(.*?)\n```", (built.folder / "README.md").read_text(), re.DOTALL)[1]
    monkeypatch.chdir(built.folder)
    found = dict(duckdb.sql(query).fetchall())
    kb = genekb.open(built.folder)
    symbol = kb.table("genes")["symbol"].to_pylist()
    vectors = kb.vectors(kb.table("genes")["gene_id"].to_numpy())
    known = [name for name, has in zip(symbol, vectors.has_vector, strict=True) if has]
    assert set(found) == set(known)
    np.testing.assert_array_equal(found["CD3D"], vectors.vectors[symbol.index("CD3D")])


def test_stores_without_metadata_for_programs_are_read_and_verified_as_before(built, tmp_path):
    older = Path(shutil.copytree(built.folder, tmp_path / "older"))
    (older / "croissant.json").unlink()
    manifest = read_manifest(older)
    manifest = replace(manifest, files=tuple(file for file in manifest.files if file.path != "croissant.json"))
    (older / MANIFEST).write_text(manifest.to_json())
    assert verify_store(older).faults == ()
    assert genekb.open(older).resolve(["CD3D"]).gene_ids.tolist() == [915]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of rdflib, below mlcroissant
def test_mlcroissant_finds_no_fault_and_reads_what_the_store_gives(built, kb):
    import mlcroissant

    dataset = mlcroissant.Dataset(jsonld=str(built.folder / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    for name in patterns(built.folder):
        rows = [_plain(record, name) for record in dataset.records(name)]
        key = next(iter(rows[0]), None) if rows else None
        expected = sorted(stored(built.folder, name), key=str) if key else []
        assert sorted(rows, key=str) == expected
    gene_ids = [record["genes/gene_id"] for record in dataset.records("genes")]
    assert gene_ids == kb.table("genes")["gene_id"].to_pylist()
    mine = kb.encoder_id("mine")
    vectors = {int(row[f"{mine}/gene_id"]): row[f"{mine}/vector"] for row in dataset.records(mine)}
    np.testing.assert_array_equal(list(vectors.values()), kb.vectors(list(vectors), encoder="mine").vectors)


def _plain(record, name):
    """A record as Parquet gives it: names without the record set, text as str, numbers of Python."""

    def plain(value):
        if isinstance(value, list):
            return [plain(item) for item in value]
        if isinstance(value, bytes):
            return value.decode()
        return value.item() if isinstance(value, np.generic) else value

    return {key.removeprefix(f"{name}/"): plain(value) for key, value in record.items()}


@pytest.mark.slow
def test_datasets_loads_every_configuration_offline(built, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    cache = str(tmp_path / "cache")
    for name in patterns(built.folder):
        expected = stored(built.folder, name)
        if expected:
            loaded = datasets.load_dataset(str(built.folder), name, cache_dir=cache, split="train")
            assert loaded.to_list() == expected
    assert datasets.load_dataset(str(built.folder), cache_dir=cache)["train"].column_names == TABLES["genes"].names
