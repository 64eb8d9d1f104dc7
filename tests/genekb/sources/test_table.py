"""Tables of a user's own: every format gzipped too, whose rows count, and what is refused."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genekb.core.errors import SourceUnusable
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.sources.open import read_source
from genekb.sources.table import read_gene_table


@pytest.fixture(scope="module")
def human(ncbi_folder):
    return read_ncbi_folder(ncbi_folder, taxa=["human"])


def texts_of(source):
    return {row["symbol"]: row["summary"] for row in source.genes.to_pylist() if row["summary"]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "gene_id\tsymbol\tsummary\n915\tCD3D\tOne, two.\n"),
        ("a.txt", "gene_id\tsymbol\tsummary\n915\tCD3D\tOne, two.\n"),
        ("a.csv", 'symbol,summary,gene_id\nCD3D,"One, two.",915\n'),
        ("a.json", '{"CD3D": "One, two."}'),
    ],
)
@pytest.mark.parametrize("is_packed", [False, True])
def test_text_is_read_plain_and_gzipped(tmp_path, human, name, content, is_packed):
    path = tmp_path / (f"{name}.gz" if is_packed else name)
    path.write_bytes(gzip.compress(content.encode(), mtime=0) if is_packed else content.encode())
    source = read_source(path, taxa=["human"], names=human)
    assert texts_of(source) == {"CD3D": "One, two."}
    assert (source.release, source.files[0].n_rows_kept) == ("a", 1)


def test_quoted_fields_of_a_csv_hold_quotes_and_line_ends(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfgene_id,symbol,summary\r\n1,A,"a ""b"",\nc"\r\n')
    assert texts_of(read_source(path, taxa=["human"])) == {"A": 'a "b",\nc'}


SYMBOLS = ["CD3D", "T3D", "INS", "CD3E", "IDDM1", "NOSUCH"]  # T3D and IDDM1 are older names of CD3D and INS


@given(order=st.permutations(SYMBOLS))
def test_the_order_of_symbols_does_not_matter(tmp_path_factory, human, order):
    path = tmp_path_factory.mktemp("texts") / "a.json"
    path.write_text(json.dumps({symbol: f"Text of {symbol}." for symbol in order}))
    source = read_gene_table(path, release="1", names=human)
    assert texts_of(source) == {symbol: f"Text of {symbol}." for symbol in ("CD3D", "INS", "CD3E")}
    assert source.dropped["gene already has a row"] == 2


def test_a_symbol_that_is_twice_in_json_is_counted(tmp_path, human):
    path = tmp_path / "a.json"
    path.write_text('{"INS": "First.", "INS": "Second."}')
    source = read_gene_table(path, release="1", names=human)
    assert texts_of(source) == {"INS": "First."}
    assert source.dropped["gene already has a row"] == 1


MIXED = "gene_id\tsymbol\tname\ttax_id\n915\tCD3D\tone\t9606\n12500\tCd3d\ttwo\t10090\n"


def test_rows_of_other_species_are_counted(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text(MIXED)
    source = read_source(path, taxa=["mouse"])
    assert source.genes["gene_id"].to_pylist() == [12500]
    assert set(source.names["gene_id"].to_pylist()) == {12500}
    assert source.dropped == {"other taxon or subspecies": 1}
    assert (source.files[0].n_rows_read, source.files[0].n_rows_kept) == (2, 1)
    assert read_source(path, taxa=["all"]).genes.num_rows == 2
    with pytest.raises(SourceUnusable, match="no gene of rat, but genes of tax_id 9606, 10090; is the taxon right"):
        read_source(path, taxa=["rat"])


def test_a_table_without_species_needs_one_species(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("gene_id\tsymbol\tname\n915\tCD3D\tone\n")
    for taxa in (["human", "mouse"], ["all"]):
        with pytest.raises(SourceUnusable, match="lacks the column 'tax_id'; add it, or name the species"):
            read_source(path, taxa=taxa)


def test_lists_of_a_parquet_file_are_names(tmp_path):
    aliases = pa.array([["T3D", None], []], pa.large_list(pa.large_string()))
    table = pa.table({"gene_id": [915, 916], "symbol": ["CD3D", "CD3E"], "name": ["a", "b"], "aliases": aliases})
    pq.write_table(table, tmp_path / "a.parquet")
    source = read_source(tmp_path / "a.parquet", taxa=["human"])
    found = {(row["name"], row["gene_id"]) for row in source.names.to_pylist() if row["kind"] == "alias"}
    assert found == {("T3D", 915)}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.tsv", b"gene_id\tsymbol\tname\n1\t\tn\n", "column symbol is empty in 1 row;"),
        ("a.tsv", b"gene_id\tsymbol\tname\n0\tA\tn\n", "gene_id holds a value that is no number: '0'"),
        ("a.tsv", b"gene_id\tsymbol\tname\n9.0\tA\tn\n", r"gene_id holds a value that is no number: '9\.0'"),
        ("a.tsv", b"gene_id\tsymbol\tname\ttax_id\n1\tA\tn\t9999999999\n", "tax_id holds a value that is no number"),
        ("a.csv", "gene_id,symbol,name\n1,A,n\n".encode("utf-16"), "is no readable csv table"),
        ("a.json", b'{"CD3D": null}', "the value of 'CD3D' is null, a text is needed"),
        ("a.json", b'{"CD3D": {"a": "b"}}', "the value of 'CD3D' is an object, a text is needed"),
        ("a.json.gz", gzip.compress(b'{"CD3D": "a"}', mtime=0)[:-6], "is no readable json table"),
        ("a.json.gz", b"no gzip", "is no readable json table"),
        ("a.csv.gz", gzip.compress(b"gene_id,symbol,name\n1,A,n\n", mtime=0)[:-6], "csv table: Compressed file ended"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(tmp_path, human, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceUnusable, match=told) as caught:
        read_source(tmp_path / name, taxa=["human"], names=human)
    assert "\n" not in str(caught.value)


def test_a_parquet_file_with_a_column_twice_is_refused(tmp_path):
    columns = [pa.array([1]), pa.array(["A"]), pa.array(["B"]), pa.array(["n"])]
    table = pa.Table.from_arrays(columns, names=["gene_id", "symbol", "symbol", "name"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(SourceUnusable, match="has the column 'symbol' twice; keep one"):
        read_source(tmp_path / "a.parquet", taxa=["human"])
