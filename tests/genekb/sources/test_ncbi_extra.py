"""NCBI's optional files beside gene_info: what is counted, which evidence stands, what is refused."""

import gzip
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genekb.core.errors import SourceUnusable
from genekb.sources.base import NCBI_FILES
from genekb.sources.ncbi_bulk import EVIDENCE, read_ncbi_folder


def write(folder, stem, rows, *, is_packed=True):
    text = "".join(
        "\t".join(row) + "\n" for row in (["#" + NCBI_FILES[stem].columns[0], *NCBI_FILES[stem].columns[1:]], *rows)
    )
    (folder / stem).with_suffix(".gz" if is_packed else "").write_bytes(
        gzip.compress(text.encode()) if is_packed else text.encode()
    )


@pytest.fixture
def folder(ncbi_folder, tmp_path):
    return shutil.copytree(ncbi_folder, tmp_path / "2022-11")


def test_retired_ids_that_lead_nowhere_are_counted_for_the_species_alone(folder):
    rows = [
        ("9606", "915", "777001", "OLD1", "20200101"),
        ("9606", "-", "777002", "OLD2", "20200101"),
        ("9606", "777001", "777003", "OLD3", "20200101"),
        ("10090", "-", "777004", "OLD4", "20200101"),
        ("10090", "12500", "777005", "OLD5", "20200101"),
    ]
    write(folder, "gene_history", rows)
    source = read_ncbi_folder(folder, taxa=["human"])
    counts = {reason: n for reason, n in source.dropped.items() if reason.startswith("gene_history")}
    assert counts == {"gene_history: gone, no gene took its place": 1, "gene_history: of no current gene": 1}
    file = next(file for file in source.files if file.name == "gene_history.gz")
    assert (file.n_rows_read, file.n_rows_kept) == (5, 1)


def go_row(evidence, *, gene="915", term="GO:0006955", category="Process"):
    return ("9606", gene, term, evidence, "involved_in", f"name of {term}", "1", category)


@given(codes=st.permutations(["IEA", "TAS", "IDA", "IBA", "ND", "XYZ"]))
def test_the_strongest_evidence_of_a_term_stands_whatever_the_order_of_rows(ncbi_folder, tmp_path_factory, codes):
    folder = tmp_path_factory.mktemp("go")
    for path in ncbi_folder.iterdir():
        (folder / path.name).symlink_to(path)
    write(folder, "gene2go", [go_row(code) for code in codes])
    source = read_ncbi_folder(folder, taxa=["human"])
    assert source.annotations["evidence"].to_pylist() == ["IDA"]
    assert min(codes, key=lambda code: (*EVIDENCE, code).index(code)) == "IDA"


def test_rows_without_a_term_of_go_are_counted(folder):
    rows = [go_row("IDA"), go_row("IDA", category="Other"), go_row("IDA", term="-"), go_row("IDA", gene="424242")]
    write(folder, "gene2go", rows)
    source = read_ncbi_folder(folder, taxa=["human"])
    assert source.annotations["term_id"].to_pylist() == ["GO:0006955"]
    assert source.dropped["gene2go: without a term of a known category"] == 2
    assert source.dropped["gene2go: of no current gene"] == 1


def test_terms_of_several_species_are_kept_with_their_genes(folder):
    mouse = ("10090", "12500", "GO:0006955", "IEA", "involved_in", "immune response", "-", "Process")
    write(folder, "gene2go", [go_row("IDA"), mouse])
    both = read_ncbi_folder(folder, taxa=["human", "mouse"]).annotations
    assert both["gene_id"].to_pylist() == [915, 12500]
    assert both.equals(read_ncbi_folder(folder, taxa=["all"]).annotations)
    assert read_ncbi_folder(folder, taxa=["mouse"]).annotations["gene_id"].to_pylist() == [12500]


def test_a_plain_file_gives_what_a_gzipped_one_gives(folder, tmp_path):
    rows = {
        "gene_history": [("9606", "915", "777001", "OLD1", "20200101")],
        "gene2ensembl": [("9606", "915", "ENSG00000999999", "-", "-", "-", "-")],
        "gene2go": [go_row("IDA")],
        "generifs_basic": [("9606", "915", "12,13", "2020-01-01 00:00", 'Said to be "central".')],
    }
    plain = shutil.copytree(folder, tmp_path / "plain")
    for stem, found in rows.items():
        write(folder, stem, found)
        write(plain, stem, found, is_packed=False)
    first, second = (read_ncbi_folder(where, taxa=["human"]) for where in (folder, plain))
    assert first.annotations.equals(second.annotations)
    assert first.names.equals(second.names)
    assert ("12", 'Said to be "central".') in {(row["term_id"], row["term"]) for row in first.annotations.to_pylist()}


@pytest.mark.parametrize("stem", ["gene_history", "gene2ensembl", "gene2go", "generifs_basic"])
def test_a_file_that_is_cut_off_is_refused(folder, stem):
    rows = [("9606", str(number), *["x"] * (len(NCBI_FILES[stem].columns) - 2)) for number in range(1, 2000)]
    write(folder, stem, rows)
    path = folder / f"{stem}.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceUnusable, match=rf"{stem}\.gz is damaged .* download it again"):
        read_ncbi_folder(folder, taxa=["human"])
