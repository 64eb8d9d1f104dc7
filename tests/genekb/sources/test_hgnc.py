"""HGNC's complete set beside a release: for human alone, withdrawn entries once, and the real file against csv."""

import csv
import gzip
import shutil

import pyarrow.compute as pc
import pytest

from genekb.core.errors import SourceUnusable
from genekb.genes.coverage import remedy_of
from genekb.sources.ncbi_bulk import read_ncbi_folder

HEADER = ["hgnc_id", "symbol", "status", "prev_symbol", "alias_symbol", "entrez_id"]


def write(folder, rows, *, header=HEADER):
    text = "".join("\t".join(row) + "\n" for row in (header, *rows))
    (folder / "hgnc_complete_set.txt.gz").write_bytes(gzip.compress(text.encode()))


@pytest.fixture
def folder(ncbi_folder, tmp_path):
    return shutil.copytree(ncbi_folder, tmp_path / "2022-11")


def test_each_row_is_counted_under_one_reason(folder):
    rows = [
        ("HGNC:1673", "CD3D", "Approved", '"OLD1|OLD2"', "", "915"),
        ("HGNC:2", "NONE", "Approved", "OLD3", "", ""),
        ("HGNC:3", "GONE", "Entry Withdrawn", "OLD4", "", ""),
    ]
    write(folder, rows)
    source = read_ncbi_folder(folder, taxa=["human"])
    counts = {reason: n for reason, n in source.dropped.items() if reason.startswith("HGNC")}
    assert counts == {"HGNC: withdrawn": 1, "HGNC: without a current GeneID": 1}
    retired = source.names.filter(pc.equal(source.names["kind"], "retired_symbol"))
    assert retired["name"].to_pylist() == ["OLD1", "OLD2"]
    assert "HGNC: CC0" in source.licence


def test_it_is_read_for_human_alone(folder):
    write(folder, [("HGNC:1673", "CD3D", "Approved", "OLD1", "", "915")])
    mouse = read_ncbi_folder(folder, taxa=["mouse"])
    assert not any(reason.startswith("HGNC") for reason in mouse.dropped)
    assert "HGNC" not in mouse.licence
    both = read_ncbi_folder(folder, taxa=["mouse", "human"])
    assert "OLD1" in both.names["name"].to_pylist()


def test_it_is_named_as_the_remedy_of_ambiguous_names_where_no_former_symbols_are_there(folder):
    for path in folder.glob("gene_history*"):
        path.unlink()
    names = read_ncbi_folder(folder, taxa=["human"]).names
    assert "HGNC's complete set" in remedy_of(names, [9606])
    assert remedy_of(names, [10090]) == ""
    write(folder, [("HGNC:1673", "CD3D", "Approved", "OLD1", "", "915")])
    assert remedy_of(read_ncbi_folder(folder, taxa=["human"]).names, [9606]) == ""


def test_a_file_without_groups_or_aliases_is_read(folder):
    write(folder, [("HGNC:1673", "CD3D", "Approved", "915")], header=["hgnc_id", "symbol", "status", "entrez_id"])
    source = read_ncbi_folder(folder, taxa=["human"])
    assert source.annotations.num_rows == 0
    assert {file.name for file in source.files} >= {"hgnc_complete_set.txt.gz"}


def test_a_row_of_other_width_and_a_missing_column_are_refused(folder):
    write(folder, [("HGNC:1673", "CD3D", "Approved")])
    with pytest.raises(SourceUnusable, match="has 3 fields, 6 are needed"):
        read_ncbi_folder(folder, taxa=["human"])
    write(folder, [("HGNC:1673", "CD3D")], header=["hgnc_id", "symbol"])
    with pytest.raises(SourceUnusable, match=r"lacks the column 'status'; is it HGNC's complete set\?"):
        read_ncbi_folder(folder, taxa=["human"])


@pytest.mark.slow
def test_the_real_file_gives_what_a_csv_reader_finds_in_it(real_data, tmp_path):
    for path in (real_data / "ncbi" / "2022-11").iterdir():
        (tmp_path / path.name).symlink_to(path)
    hgnc = real_data / "ncbi" / "other" / "hgnc_complete_set.txt.gz"
    (tmp_path / hgnc.name).symlink_to(hgnc)
    source = read_ncbi_folder(tmp_path, taxa=["human"])
    current = set(map(str, source.genes["gene_id"].to_pylist()))
    with gzip.open(hgnc, "rt", encoding="utf-8", newline="") as stream:
        entries = list(csv.DictReader(stream, delimiter="\t"))
    known = [entry for entry in entries if entry["status"] == "Approved" and entry["entrez_id"] in current]
    expected = {(name, int(entry["entrez_id"])) for entry in known for name in entry["prev_symbol"].split("|") if name}
    retired = source.names.filter(pc.equal(source.names["kind"], "retired_symbol"))
    assert set(zip(retired["name"].to_pylist(), retired["gene_id"].to_pylist(), strict=True)) == expected
    groups = {(int(entry["entrez_id"]), name) for entry in known for name in entry["gene_group"].split("|") if name}
    columns = (source.annotations["gene_id"].to_pylist(), source.annotations["term"].to_pylist())
    assert set(zip(*columns, strict=True)) == groups
    assert source.dropped["HGNC: without a current GeneID"] == len(entries) - len(known)
