import gzip
import shutil

import pyarrow.compute as pc
import pytest

from genekb.core.errors import SourceUnusable
from genekb.genes.taxa import find_taxon
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.sources.open import read_source


def records(tables):
    return {row["gene_id"]: row for row in tables.genes.to_pylist()}


def names_of(tables, gene_id, kind):
    rows = tables.names.filter(
        pc.and_(pc.equal(tables.names["gene_id"], gene_id), pc.equal(tables.names["kind"], kind))
    )
    return rows["name"].to_pylist()


def test_a_record_holds_what_the_file_says(ncbi_folder):
    tables = read_ncbi_folder(ncbi_folder, taxa=["human"])
    cd3d = records(tables)[915]
    assert (cd3d["symbol"], cd3d["type"], cd3d["chromosome"]) == ("CD3D", "protein-coding", "11")
    assert cd3d["aliases"] == ["CD3-DELTA", "CD3DELTA", "IMD19", "T3D"]
    assert cd3d["summary"] == "Signalling subunit of the T cell receptor complex on T lymphocytes."
    assert names_of(tables, 915, "ensembl") == ["ENSG00000167286"]
    assert names_of(tables, 915, "hgnc") == ["HGNC:1673"]
    assert tables.release == "2022-11"


def test_empty_fields_are_null_and_never_a_dash(ncbi_folder):
    tables = read_ncbi_folder(ncbi_folder, taxa=["human", "mouse"])
    for column in ("name", "map_location", "summary"):
        assert "-" not in tables.genes[column].to_pylist()
    assert records(tables)[7795]["aliases"] is None
    assert "-" not in tables.names["name"].to_pylist()


def test_rows_that_are_no_genes_of_the_species_are_counted(ncbi_folder):
    tables = read_ncbi_folder(ncbi_folder, taxa=["human"])
    assert tables.dropped == {"other taxon or subspecies": 1, "biological-region": 2, "NEWENTRY": 1}
    assert tables.files[0].n_rows_read == tables.genes.num_rows + 4
    assert set(tables.genes["tax_id"].to_pylist()) == {9606}


def test_every_gene_has_a_name(ncbi_folder):
    for taxa in (["human"], ["human", "mouse"]):  # which is why a store looks for GeneIDs among its names
        tables = read_ncbi_folder(ncbi_folder, taxa=taxa)
        assert set(tables.names["gene_id"].to_pylist()) == set(tables.genes["gene_id"].to_pylist())


def test_two_species_in_one_read(ncbi_folder):
    tables = read_ncbi_folder(ncbi_folder, taxa=["human", "10090"])
    assert set(tables.genes["tax_id"].to_pylist()) == {9606, 10090}


def test_symbol_of_the_nomenclature_authority_is_a_name_of_its_own_kind(ncbi_folder):
    tables = read_ncbi_folder(ncbi_folder, taxa=["human"])
    assert names_of(tables, 4537, "symbol") == ["ND3"]
    assert names_of(tables, 4537, "authority_symbol") == ["MT-ND3"]


def test_mouse_genes_get_their_human_orthologues(ncbi_folder):
    tables = read_ncbi_folder(ncbi_folder, taxa=["mouse"])
    pairs = {(row["gene_id"], row["ortholog_symbol"]) for row in tables.orthologs.to_pylist()}
    assert (12500, "CD3D") in pairs
    assert (16333, "INS") in pairs
    assert names_of(tables, 12500, "ortholog") == ["CD3D"]
    assert tables.genes.filter(pc.equal(tables.genes["tax_id"], 9606)).num_rows == 0


def test_a_plain_and_a_gzipped_file_give_the_same_tables(ncbi_folder, tmp_path):
    for path in ncbi_folder.iterdir():
        (tmp_path / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    plain = read_ncbi_folder(tmp_path, taxa=["human"], release="2022-11")
    packed = read_ncbi_folder(ncbi_folder, taxa=["human"])
    assert plain.genes.equals(packed.genes)
    assert plain.names.equals(packed.names)


def test_zeros_behind_the_end_of_a_gzipped_file_are_padding(ncbi_folder, tmp_path):
    for path in ncbi_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes() + bytes(512))
    padded = read_ncbi_folder(tmp_path, taxa=["human"], release="2022-11")
    assert padded.genes.equals(read_ncbi_folder(ncbi_folder, taxa=["human"]).genes)


@pytest.fixture
def broken_folder(ncbi_folder, tmp_path):
    return shutil.copytree(ncbi_folder, tmp_path / "broken")


def test_a_truncated_file_is_refused(broken_folder):
    path = broken_folder / "Homo_sapiens.gene_info.gz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SourceUnusable, match=r"gene_info\.gz is damaged .* download it again"):
        read_ncbi_folder(broken_folder, taxa=["human"])


def test_a_file_with_other_columns_is_refused(broken_folder):
    with gzip.open(broken_folder / "gene_summary.gz", "wt") as stream:
        stream.write("#tax_id\tGeneID\tSummary\n9606\t1\ttext\n")
    with pytest.raises(SourceUnusable, match=r"gene_summary\.gz lacks the column 'Source'"):
        read_ncbi_folder(broken_folder, taxa=["human"])


def test_a_row_with_missing_columns_is_refused(broken_folder):
    path = broken_folder / "Homo_sapiens.gene_info.gz"
    text = gzip.decompress(path.read_bytes()) + b"9606\t5\tBROKEN\n"
    path.write_bytes(gzip.compress(text))
    with pytest.raises(SourceUnusable, match="line 29 has 3 fields, 16 are needed"):
        read_ncbi_folder(broken_folder, taxa=["human"])


@pytest.mark.parametrize(
    ("taxon", "message"),
    [("rat", "no gene of rat"), ("unicorn", "taxon 'unicorn' is not known by name"), ("7955", "no gene of zebrafish")],
)
def test_a_species_that_is_not_there_is_refused(ncbi_folder, taxon, message):
    with pytest.raises(SourceUnusable, match=message):
        read_ncbi_folder(ncbi_folder, taxa=[taxon])


def test_a_folder_without_gene_info_is_refused(tmp_path):
    with pytest.raises(SourceUnusable, match="holds no gene_info file"):
        read_ncbi_folder(tmp_path, taxa=["human"])
    with pytest.raises(SourceUnusable, match="is not a folder"):
        read_ncbi_folder(tmp_path / "absent", taxa=["human"])


def test_a_file_that_is_there_plain_and_gzipped_is_read_once(ncbi_folder, broken_folder):
    path = broken_folder / "Homo_sapiens.gene_info.gz"
    (broken_folder / "Homo_sapiens.gene_info").write_bytes(gzip.decompress(path.read_bytes()))
    found = read_ncbi_folder(broken_folder, taxa=["human"], release="2022-11")
    expected = read_ncbi_folder(ncbi_folder, taxa=["human"])
    assert found.genes.equals(expected.genes)
    assert (found.dropped, found.files) == (expected.dropped, expected.files)


def test_a_gene_in_the_file_of_its_species_and_of_its_group_is_kept_once(ncbi_folder, broken_folder):
    shutil.copy(broken_folder / "Homo_sapiens.gene_info.gz", broken_folder / "All_Mammalia.gene_info.gz")
    found = read_ncbi_folder(broken_folder, taxa=["all"])
    expected = read_ncbi_folder(ncbi_folder, taxa=["all"])
    assert found.genes.equals(expected.genes)
    assert found.names.equals(expected.names)
    human = next(file for file in expected.files if file.name == "Homo_sapiens.gene_info.gz")
    assert found.dropped["repeated GeneID"] == human.n_rows_kept


def test_every_species_of_a_file_keeps_its_orthologues(ncbi_folder):
    every = read_ncbi_folder(ncbi_folder, taxa=["all"])
    assert every.orthologs.equals(read_ncbi_folder(ncbi_folder, taxa=["mouse"]).orthologs)
    assert every.orthologs.num_rows > 0


def test_a_species_that_is_named_twice_is_read_once(ncbi_folder):
    twice = read_ncbi_folder(ncbi_folder, taxa=["human", "9606", "Homo sapiens"])
    assert twice.dropped == read_ncbi_folder(ncbi_folder, taxa=["human"]).dropped
    with pytest.raises(ValueError, match="no species is named; give at least one, or 'all'"):
        read_ncbi_folder(ncbi_folder, taxa=[])


@pytest.mark.parametrize(
    ("number", "told"), [("X1", "GeneID 'X1' is no positive number"), ("-", "GeneID '-' is no positive number")]
)
def test_a_gene_id_that_is_no_number_is_refused(broken_folder, number, told):
    path = broken_folder / "Homo_sapiens.gene_info.gz"
    row = "\t".join(["9606", number, *["a"] * 14]) + "\n"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + row.encode()))
    with pytest.raises(SourceUnusable, match=rf"gene_info\.gz is damaged \({told}"):
        read_ncbi_folder(broken_folder, taxa=["human"])


def test_orthologues_without_a_row_are_none(broken_folder):
    with gzip.open(broken_folder / "gene_orthologs.gz", "wt") as stream:
        stream.write("#tax_id\tGeneID\trelationship\tOther_tax_id\tOther_GeneID\n")
    assert read_ncbi_folder(broken_folder, taxa=["mouse"]).orthologs.num_rows == 0


def test_gene_info_goes_before_answers_that_lie_beside_it(ncbi_folder, broken_folder):
    (broken_folder / "esummary_1.xml").write_text("<eSummaryResult/>")
    source = read_source(broken_folder, taxa=["human"], release="2022-11")
    assert source.genes.equals(read_ncbi_folder(ncbi_folder, taxa=["human"]).genes)


@pytest.mark.parametrize(
    "content", [b"broken\n", b"9606\t|\tHomo\n", b"x\t|\tHomo\t|\t\t|\tsynonym\t|\n", b"\xff\xfe\n"]
)
def test_names_of_species_that_are_damaged_are_refused(tmp_path, content):
    (tmp_path / "names.dmp").write_bytes(content)
    with pytest.raises(SourceUnusable, match=r"names\.dmp .*; download it again"):
        find_taxon("Some species", tmp_path)


def test_real_release_has_the_counts_of_an_independent_reading(real_data):
    folder = real_data / "ncbi" / "2022-11"
    kept = 0
    with gzip.open(folder / "Homo_sapiens.gene_info.gz", "rt") as stream:
        next(stream)
        for line in stream:
            fields = line.split("\t")
            kept += fields[0] == "9606" and fields[9] != "biological-region" and fields[2] != "NEWENTRY"
    tables = read_ncbi_folder(folder, taxa=["human"])
    assert tables.genes.num_rows == kept
