"""Files that decompress: bombs of Parquet, gzip and JSON end in one line, and before they fill the memory."""

import gzip
import shutil
import struct
import tarfile
import tracemalloc
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.core.errors import SourceUnusable, StoreCorrupt
from genekb.encoders.local.files import read_folder
from genekb.files import limits
from genekb.files.atomic import sha256_file
from genekb.genes.taxa import find_taxon
from genekb.schema import NAMES
from genekb.sources.base import NCBI_FILES, stream_tsv
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.sources.table import read_gene_table
from genekb.store.manifest import StoredFile, read_manifest
from genekb.store.verify import verify_store


@pytest.fixture(scope="module")
def folder(ncbi_folder, tmp_path_factory):
    source = read_ncbi_folder(ncbi_folder, taxa=["human"])
    return build(source, BuildConfig(name="human", models=("wcp-8",)), home=tmp_path_factory.mktemp("home")).folder


@pytest.fixture
def with_file(folder, tmp_path):
    """Makes a store that is whole by its manifest, with one file of another content."""

    def make(name, content, *, n_rows):
        copy = shutil.copytree(folder, tmp_path / "store")
        content.rename(copy / name)
        changed = StoredFile(
            path=name, n_bytes=(copy / name).stat().st_size, n_rows=n_rows, sha256=sha256_file(copy / name)
        )
        manifest = read_manifest(folder)
        files = tuple(changed if file.path == name else file for file in manifest.files)
        (copy / "manifest.json").write_text(replace(manifest, files=files).to_json())
        return copy

    return make


@pytest.fixture
def little(monkeypatch):
    """Lets small files decompress to 1 MB, so that a bomb can be small too."""
    monkeypatch.setattr(limits, "FREE_BYTES", 1 << 20)


def repeated(value, n_rows, path, **options):
    """A table of names in which one long value stands in every row; a dictionary holds it once."""
    names = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), n_rows), [value])
    table = pa.table({"name": names, "gene_id": pa.repeat(1, n_rows), "kind": pa.repeat("symbol", n_rows)})
    pq.write_table(table, path, compression="zstd", store_schema=False, **options)
    return path


def test_a_long_value_in_many_rows_is_refused_before_it_fills_the_memory(with_file, tmp_path):
    bomb = repeated("x" * 1_000_000, 1_000_000, tmp_path / "bomb", dictionary_pagesize_limit=1 << 30)
    assert bomb.stat().st_size < 100_000  # of a terabyte
    store = with_file("names.parquet", bomb, n_rows=1_000_000)
    tracked = pa.total_allocated_bytes()
    with pytest.raises(StoreCorrupt, match=r"names\.parquet is damaged \(it decompresses to more than"):
        genekb.open(store).resolve(["CD3D"])
    assert pa.total_allocated_bytes() - tracked < 64 << 20  # of a batch nothing is kept
    assert any("decompresses to more than" in fault for fault in verify_store(store).faults)


def test_a_value_short_enough_for_a_short_dictionary_is_stopped_on_the_way(with_file, tmp_path, little):
    bomb = repeated("x" * 60_000, 20_000, tmp_path / "bomb")
    store = with_file("names.parquet", bomb, n_rows=20_000)
    with pytest.raises(StoreCorrupt, match="decompresses to more than"):
        genekb.open(store).resolve(["CD3D"])


def test_more_rows_than_bytes_can_hold_are_stopped_on_the_way(with_file, tmp_path, little):
    n_rows = 2_000_000
    same = pa.repeat(pa.scalar(1, pa.int64()), n_rows)
    names = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), n_rows), ["A"])
    pq.write_table(pa.table({"name": names, "gene_id": same, "kind": names}), tmp_path / "bomb", store_schema=False)
    store = with_file("names.parquet", tmp_path / "bomb", n_rows=n_rows)
    with pytest.raises(StoreCorrupt, match="decompresses to more than"):
        genekb.open(store).resolve(["CD3D"])


def test_a_page_that_is_all_one_byte_is_refused(with_file, tmp_path, little):
    table = pa.table({"name": ["x" * 7_000_000], "gene_id": [1], "kind": ["symbol"]})
    pq.write_table(table, tmp_path / "bomb", use_dictionary=False, compression="zstd")
    store = with_file("names.parquet", tmp_path / "bomb", n_rows=1)
    with pytest.raises(StoreCorrupt, match=r"it decompresses to more than"):
        genekb.open(store).resolve(["CD3D"])
    with pytest.raises(StoreCorrupt, match=r"it decompresses to more than"):
        genekb.open(store).sql("select 1")


def test_rows_are_those_of_the_manifest(with_file, tmp_path):
    pq.write_table(NAMES.empty_table(), tmp_path / "short")
    with pytest.raises(StoreCorrupt, match="it has 0 rows, the manifest says 7"):
        genekb.open(with_file("names.parquet", tmp_path / "short", n_rows=7)).resolve(["CD3D"])


def test_a_column_of_another_type_is_refused(with_file, tmp_path):
    pq.write_table(pa.table({"name": [b"CD3D"], "gene_id": [915], "kind": ["symbol"]}), tmp_path / "other")
    with pytest.raises(StoreCorrupt, match="its column 'name' is binary"):
        genekb.open(with_file("names.parquet", tmp_path / "other", n_rows=1)).resolve(["CD3D"])


def test_what_is_read_equals_what_arrow_reads(folder):
    for path in sorted(folder.glob("*.parquet")):
        expected = pq.read_table(path)
        assert limits.read_parquet(path, columns=expected.column_names).equals(expected)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_pages_are_errors_and_nothing_else(tmp_path, seed):
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(500)]}), tmp_path / "t", data_page_size=512)
    content = bytearray((tmp_path / "t").read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(4, len(content) // 2, size=5):
        content[place] = rng.integers(256)
    (tmp_path / "t").write_bytes(content)
    with suppress(ValueError, OSError, pa.ArrowException):  # values may be others, which the digest of a store shows
        limits.read_parquet(tmp_path / "t")


def test_json_is_bounded_in_size_and_nesting(tmp_path):
    (tmp_path / "long.json").write_text('"' + "x" * 100 + '"')
    with pytest.raises(ValueError, match="102 bytes, 50 are allowed"):
        limits.read_json(tmp_path / "long.json", max_bytes=50)
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        limits.read_json(tmp_path / "deep.json")


def test_a_manifest_without_end_is_one_line(folder, tmp_path):
    (tmp_path / "manifest.json").write_text('{"a":' * 100_000)
    with pytest.raises(StoreCorrupt, match=r"manifest\.json is damaged \(nested too deeply\)"):
        read_manifest(tmp_path)
    with (tmp_path / "manifest.json").open("wb") as stream:
        stream.truncate(limits.MAX_JSON_BYTES + 1)  # a hole: takes no room on disk
    with pytest.raises(StoreCorrupt, match=r"67,108,865 bytes, 67,108,864 are allowed"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<Q", 1 << 62),
        struct.pack("<Q", 90)
        + b'{"idf":{"dtype":"F32","shape":[4000000000,4000000000],"data_offsets":[0,64000000000]}}'.ljust(90),
        struct.pack("<Q", 70)
        + b'{"idf":{"dtype":"F32","shape":[1],"data_offsets":[9000000000,9000000004]}}'[:70].ljust(70),
        struct.pack("<Q", 4) + b"null",
        b"\x00" * 3,
    ],
    ids=["length", "shape", "offsets", "null", "short"],
)
def test_a_header_of_safetensors_that_promises_more_than_the_file_holds_is_refused(with_file, folder, tmp_path, header):
    (tmp_path / "state").write_bytes(header)
    name = next(path for path in folder.rglob("wcp.safetensors")).relative_to(folder).as_posix()
    store = with_file(name, tmp_path / "state", n_rows=0)
    with pytest.raises(StoreCorrupt, match=r"the state of wcp-8-.* is damaged"):
        genekb.open(store).search("T cell")


def zeros(path, n_bytes, *, line=b""):
    with gzip.open(path, "wb", compresslevel=9) as stream:
        block = line * (n_bytes // 100 // max(1, len(line))) if line else bytes(n_bytes // 100)
        for _ in range(100):
            stream.write(block)
    return path


def test_a_gzipped_file_of_ncbi_that_decompresses_too_far_stops(tmp_path, little):
    path = zeros(tmp_path / "gene_summary.gz", 40 << 20, line=b"9606\t915\tRefSeq\ttext\n")
    with pytest.raises(
        SourceUnusable, match=r"gene_summary\.gz is damaged \(it decompresses to more than [\d,]+ bytes"
    ):
        sum(block.num_rows for block in stream_tsv(path, NCBI_FILES["gene_summary"].columns))


def test_a_line_without_end_is_not_collected(tmp_path):
    path = zeros(tmp_path / "gene_summary.gz", 64 << 20)
    tracemalloc.start()
    with pytest.raises(SourceUnusable, match=r"is damaged"):
        list(stream_tsv(path, NCBI_FILES["gene_summary"].columns))
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["genes.tsv.gz", "genes.csv.gz", "genes.json.gz"])
def test_a_gzipped_table_that_decompresses_too_far_is_refused_before_it_is_read(tmp_path, little, name):
    with pytest.raises(SourceUnusable, match=r"it decompresses to more than"):
        read_gene_table(zeros(tmp_path / name, 40 << 20), release="1")


def test_a_taxonomy_whose_line_has_no_end_is_read_in_pieces(tmp_path):
    with (tmp_path / "names.dmp").open("wb") as stream:
        stream.truncate(64 << 20)
    with tarfile.open(tmp_path / "taxdump.tar.gz", "w:gz", compresslevel=9) as archive:
        archive.add(tmp_path / "names.dmp", "names.dmp")
    (tmp_path / "names.dmp").unlink()
    with pytest.raises(SourceUnusable, match=r"line 1: no row of NCBI.s taxonomy"):
        find_taxon("some beast", tmp_path)


def test_json_of_a_model_is_bounded(tmp_path):
    with (tmp_path / "modules.json").open("wb") as stream:
        stream.truncate(limits.MAX_JSON_BYTES + 1)
    with pytest.raises(StoreCorrupt, match=r"modules\.json is not valid JSON"):
        read_folder(tmp_path)
