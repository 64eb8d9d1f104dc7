"""Files of gene sets and names: what is read of each format, and what is refused."""

import gzip

import pytest

from genekb.core.errors import SourceUnusable
from genekb.query.gene_sets import read_gene_sets, read_universe, read_vocabulary, shared_phrases

GMT = "HALLMARK_APOPTOSIS\thttp\tCASP3\tBAX\nHALLMARK_DNA_REPAIR\thttp\tXPC\n"


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("mine.txt", "CD3D\n\n# no gene\nCD3E\r\n", {"mine": ("CD3D", "CD3E")}),
        ("mine.gmt", GMT, {"HALLMARK_APOPTOSIS": ("CASP3", "BAX"), "HALLMARK_DNA_REPAIR": ("XPC",)}),
        ("mine.tsv", "gene\tset\tscore\nCD3D\ta\t1\nINS\tb\t2\nCD3D\ta\t1\n", {"a": ("CD3D",), "b": ("INS",)}),
        ("mine.csv", "cluster,gene\n0,CD3D\n0,CD3E\n", {"0": ("CD3D", "CD3E")}),
        ("semi.csv", "cluster;gene\n0;CD3D\n0;CD3E\n", {"0": ("CD3D", "CD3E")}),
        ("lists.csv", "B,MS4A1,CD79A\nT,CD3D,,CD3E\n", {"B": ("MS4A1", "CD79A"), "T": ("CD3D", "CD3E")}),
        ("lists.txt", "# mine, by hand\nB\tMS4A1\nT\tCD3D\tCD3E\n", {"B": ("MS4A1",), "T": ("CD3D", "CD3E")}),
        ("commented.txt", "# CD3, and others\nCD3D\n", {"commented": ("CD3D",)}),
    ],
)
def test_sets_of_each_format(tmp_path, name, content, found):
    (tmp_path / name).write_text(content)
    assert read_gene_sets(tmp_path / name) == found
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
    assert read_gene_sets(tmp_path / f"{name}.gz") == found


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "\n", "holds no gene; give one symbol"),
        ("a.txt", "CD3D\tCD3E\n", "several columns .* a table is named .tsv or .csv"),
        ("a.txt", "\x00\udcff", "cannot be read as gene sets"),
        ("a.gmt", "NAME\n", "line 1 of .* has 1 columns"),
        ("a.gmt", "A\tx\tCD3D\nA\tx\tINS\n", "line 2 of .* names 'A' again"),
        ("a.gmt", "", "holds no set"),
        ("a.tsv", "gene\nCD3D\n", "has the columns gene; taken are .gmt; a table with the columns set"),
        ("a.tsv", "set\tgene\n", "holds 0 genes"),
        ("a.csv", "group,symbols\n0,CD3D\n0,CD3E\n", "a set a line, its name and then its genes"),
    ],
)
def test_files_that_hold_no_set_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(SourceUnusable, match=message):
        read_gene_sets(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("names.txt", "DNA repair\nDNA repair\n\nT cell activation\n", ["DNA repair", "T cell activation"]),
        ("names.tsv", "set_id\tname\nGO:1\tDNA repair\nGO:2\t\n", ["DNA repair"]),
        ("names.csv", 'name,id\n"repair, of DNA",7\n', ["repair, of DNA"]),
        ("names.gmt", GMT, ["HALLMARK_APOPTOSIS", "HALLMARK_DNA_REPAIR"]),
    ],
)
def test_names_of_each_format(tmp_path, name, content, found):
    (tmp_path / name).write_text(content)
    assert [one.name for one in read_vocabulary(tmp_path / name)] == found


def test_identifiers_of_names_are_kept_and_codes_are_read_as_words(tmp_path):
    (tmp_path / "names.tsv").write_text("id\tname\nGO:1\tDNA repair\n")
    (tmp_path / "sets.gmt").write_text(GMT)
    assert read_vocabulary(tmp_path / "names.tsv")[0].name_id == "GO:1"
    assert [one.text for one in read_vocabulary(tmp_path / "sets.gmt")] == ["APOPTOSIS", "DNA REPAIR"]


@pytest.mark.parametrize(
    ("content", "message"), [("a\tb\n1\t2\n", "no column 'name' .a, b."), ("name\n--\n", "no name")]
)
def test_tables_without_a_name_are_refused(tmp_path, content, message):
    (tmp_path / "names.tsv").write_text(content)
    with pytest.raises(SourceUnusable, match=message):
        read_vocabulary(tmp_path / "names.tsv")


def test_a_universe_has_genes_and_perhaps_their_expression(tmp_path):
    path = tmp_path / "all.tsv"
    path.write_text("gene\texpression\nCD3D\t1.5\nINS\t0\n")
    assert read_universe(path) == (("CD3D", "INS"), (1.5, 0.0))
    path.write_text("symbol\nCD3D\n")
    assert read_universe(path) == (("CD3D",), None)
    for content, message in (("x\nCD3D\n", "no column 'gene'"), ("gene\texpression\nINS\tnan\n", "not finite")):
        path.write_text(content)
        with pytest.raises(SourceUnusable, match=message):
            read_universe(path)


def test_a_phrase_replaces_its_parts_and_shared_boilerplate_is_left_out():
    text = "This gene is on chromosome 6. It encodes a receptor of natural killer cells."
    phrases = shared_phrases([text, text], left_out=frozenset(["This gene is on chromosome 6."]))
    assert phrases == ["natural killer cell", "receptor of natural killer"]
    text = "The HLA class II genes are dispersed in the genome, and polymorphisms specifying beta are used for typing."
    assert shared_phrases([text, text]) == ["beta", "hla class ii"]
