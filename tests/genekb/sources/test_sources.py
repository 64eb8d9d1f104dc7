"""Sources beside gene_info: optional files of NCBI, HGNC, Datasets reports, a user's tables, species by any name."""

import gzip
import json
import shutil
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genekb.core.errors import SourceUnusable
from genekb.genes.resolve import resolve_names
from genekb.genes.taxa import find_taxon
from genekb.genes.texts import TEMPLATES, build_texts, find_template
from genekb.sources.base import NCBI_FILES
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.sources.open import read_source
from genekb.sources.table import read_gene_table

HGNC = ["hgnc_id", "symbol", "status", "prev_symbol", "alias_symbol", "gene_group", "gene_group_id", "entrez_id"]


def write_gz(path, header, rows):
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.write("\t".join(header) + "\n")
        stream.writelines("\t".join(row) + "\n" for row in rows)


@pytest.fixture
def folder(ncbi_folder, tmp_path):
    """A release of one's own, to put optional files into."""
    return shutil.copytree(ncbi_folder, tmp_path / "2022-11")


@pytest.fixture(scope="module")
def human(ncbi_folder):
    return read_ncbi_folder(ncbi_folder, taxa=["human"])


def header(name):
    first, *others = NCBI_FILES[name].columns
    return [f"#{first}", *others]


def resolved(source, names):
    return resolve_names(names, name_table=source.names, gene_ids=source.genes["gene_id"])


def test_retired_ids_and_symbols_lead_to_the_gene_that_took_their_place(folder):
    rows = [
        ("9606", "915", "777001", "OLDCD3D", "20200101"),
        ("9606", "-", "777002", "GONE", "20200101"),
        ("9606", "777001", "777003", "OLDER", "20190101"),
        ("9606", "916", "777004", "CD3D", "20200101"),
    ]
    write_gz(folder / "gene_history.gz", header("gene_history"), rows)
    source = read_ncbi_folder(folder, taxa=["human"])
    found = resolved(source, ["777001", "OLDCD3D", "777002", "777003", "CD3D"])
    assert found.gene_ids.tolist() == [915, 915, 0, 0, 915]  # one hop, and a current symbol stays its own
    assert found.status.tolist() == ["retired_id", "retired_symbol", "unknown", "unknown", "symbol"]


def test_ensembl_ids_of_gene2ensembl_are_names(folder):
    row = ("9606", "915", "ENSG00000999999", "NM_1.2", "ENST00000000001.3", "NP_1.1", "ENSP1")
    write_gz(folder / "gene2ensembl.gz", header("gene2ensembl"), [row, row])
    source = read_ncbi_folder(folder, taxa=["human"])
    assert resolved(source, ["ENSG00000999999.12"]).gene_ids.tolist() == [915]
    assert {file.name for file in source.files} >= {"gene2ensembl.gz"}


def test_go_terms_are_annotations_and_text_without_those_that_are_denied(folder):
    rows = [
        ("9606", "915", "GO:0006955", "IDA", "involved_in", "immune response", "1", "Process"),
        ("9606", "915", "GO:0006955", "IEA", "involved_in", "immune response", "2", "Process"),
        ("9606", "915", "GO:0005524", "IDA", "NOT|enables", "ATP binding", "3", "Function"),
        ("9606", "915", "GO:0005886", "IDA", "located_in", "plasma membrane", "4", "Component"),
        ("7227", "915", "GO:0000001", "IDA", "involved_in", "of another gene", "5", "Process"),
    ]
    rows[-1] = ("7227", "43852", *rows[-1][2:])
    write_gz(folder / "gene2go.gz", header("gene2go"), rows)
    source = read_ncbi_folder(folder, taxa=["human"])
    terms = [(row["vocabulary"], row["term"], row["evidence"]) for row in source.annotations.to_pylist()]
    assert terms == [("go_component", "plasma membrane", "IDA"), ("go_process", "immune response", "IDA")]
    assert source.dropped["gene2go: NOT"] == 1
    assert "CC BY 4.0" in source.licence
    texts = build_texts(
        source.genes, source.orthologs, annotations=source.annotations, template=find_template("go"), selected={915}
    )
    assert texts["text"].to_pylist()[0].endswith("GO: immune response; plasma membrane.")


def test_the_newest_generifs_of_a_gene_are_kept(folder):
    rows = [
        ("9606", "915", f"{number},9", f"2020-01-{number:02d} 00:00", f"Finding {number}") for number in range(1, 15)
    ]
    rows += [("9606", "915", "77", "2019-01-01 00:00", "Finding 3"), ("9606", "915", "78", "2021-01-01 00:00", "-")]
    write_gz(folder / "generifs_basic.gz", header("generifs_basic"), rows)
    source = read_ncbi_folder(folder, taxa=["human"])
    kept = {row["term"]: row["term_id"] for row in source.annotations.to_pylist()}
    assert kept == {f"Finding {number}": str(number) for number in range(5, 15)}
    template = find_template("generif")
    text = build_texts(
        source.genes, source.orthologs, annotations=source.annotations, template=template, selected={915}
    )
    assert "Finding 14." in text["text"].to_pylist()[0]


def test_hgnc_adds_previous_symbols_and_groups_whatever_the_order_of_its_columns(folder):
    rows = [
        ("HGNC:1", "CD3D", "Approved", '"OLD1|OLD2"', "T3D", '"CD molecules|Receptors"', '"471|9"', "915"),
        ("HGNC:2", "GHOST", "Approved", "GHOST1", "", "", "", "424242"),
        ("HGNC:3", "GONE", "Entry Withdrawn", "CD3D", "", "", "", "916"),
    ]
    write_gz(folder / "hgnc_complete_set.txt.gz", HGNC[::-1], [row[::-1] for row in rows])
    source = read_ncbi_folder(folder, taxa=["human"])
    found = resolved(source, ["OLD1", "OLD2", "CD3D", "GHOST1"])
    assert found.gene_ids.tolist() == [915, 915, 915, 0]
    groups = [(row["term_id"], row["term"]) for row in source.annotations.to_pylist()]
    assert groups == [("HGNC.group:471", "CD molecules"), ("HGNC.group:9", "Receptors")]
    assert source.dropped["HGNC: withdrawn"] == source.dropped["HGNC: without a current GeneID"] == 1


@pytest.mark.parametrize("name", ["gene_history.gz", "gene2go.gz", "hgnc_complete_set.txt.gz"])
def test_an_optional_file_that_is_cut_off_or_another_is_refused(folder, name):
    write_gz(folder / name, ["some", "columns"], [("1", "2")])
    with pytest.raises(SourceUnusable, match=r"and not with the columns|lacks the column"):
        read_ncbi_folder(folder, taxa=["human"])
    write_gz(folder / name, header("gene2go"), [("9606",) * 8] * 5000)
    (folder / name).write_bytes((folder / name).read_bytes()[:-20])
    with pytest.raises(SourceUnusable):
        read_ncbi_folder(folder, taxa=["human"])


def report(**changes):
    return {
        "geneId": "915", "symbol": "CD3D", "taxId": "9606", "description": "CD3 delta", "type": "PROTEIN_CODING",
        "synonyms": ["T3D"], "ensemblGeneIds": ["ENSG00000167286"], "chromosomes": ["11"],
        "nomenclatureAuthority": {"authority": "HGNC", "identifier": "HGNC:1673"},
        "summary": [{"description": "A subunit. [provided by RefSeq, Feb 2009]", "source": "RefSeq"}],
    } | changes  # fmt: skip


def test_a_datasets_report_gives_what_its_lines_say(tmp_path):
    path = tmp_path / "ncbi_dataset" / "data" / "data_report.jsonl"
    path.parent.mkdir(parents=True)
    snake = {"gene_id": 12500, "symbol": "Cd3d", "tax_id": 10090, "type": "PSEUDO"}
    lines = [report(), {"gene": snake}, {"reports": [{"gene": report(geneId="916", symbol="CD3E")}]}, report()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = read_source(tmp_path, taxa=["human", "mouse"])
    rows = {row["gene_id"]: row for row in source.genes.to_pylist()}
    assert rows[915]["summary"] == "A subunit."
    assert (rows[915]["type"], rows[12500]["type"], set(rows)) == ("protein-coding", "pseudo", {915, 916, 12500})
    assert resolved(source, ["T3D", "ENSG00000167286.4", "HGNC:1673"]).gene_ids.tolist()[1:] == [
        0,
        0,
    ]  # two genes share it
    assert source.dropped["repeated GeneID"] == 1
    path.write_text(json.dumps(report()) + "\n{broken\n")
    with pytest.raises(SourceUnusable, match="line 2: no JSON"):
        read_source(path, taxa=["human"])
    path.write_text('{"symbol": "X"}\n')
    with pytest.raises(SourceUnusable, match="line 1: no gene report"):
        read_source(path, taxa=["human"])


def write_table(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return
    separator = "," if path.suffix == ".csv" else "\t"
    quote = '"' if path.suffix == ".csv" else ""
    lines = [separator.join(rows[0])]
    lines += [separator.join(f"{quote}{value}{quote}" for value in row.values()) for row in rows]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".parquet"])
def test_a_table_reads_the_same_in_every_format(tmp_path, suffix):
    rows = [
        {"gene_id": 915, "symbol": "CD3D", "summary": "A subunit, of a receptor.", "aliases": "T3D|OKT3"},
        {"gene_id": 3630, "symbol": "INS", "summary": "A hormone.", "aliases": ""},
    ]
    path = tmp_path / f"genes{suffix}"
    write_table(path, rows)
    source = read_source(path, taxa=["human"])
    assert source.genes["summary"].to_pylist() == ["A subunit, of a receptor.", "A hormone."]
    assert source.genes["tax_id"].to_pylist() == [9606, 9606]
    assert resolved(source, ["OKT3", "INS"]).gene_ids.tolist() == [915, 3630]


def test_texts_by_symbol_hang_on_the_genes_of_a_release(tmp_path, human):
    path = tmp_path / "GenePT.json"
    texts = {
        "CD3D": "My text of CD3D.",
        "IDDM1": "Alias.",
        "GLUC": "Of two.",
        "NOSUCH": "?",
        "INS": "Symbol.",
        "TCRE": " ",
    }
    path.write_text(json.dumps(texts))
    source = read_gene_table(path, release="mine", names=human)
    summaries = {row["symbol"]: row["summary"] for row in source.genes.to_pylist() if row["summary"]}
    assert summaries == {"CD3D": "My text of CD3D.", "INS": "Symbol."}
    dropped = {
        key: source.dropped[key]
        for key in ("symbol unknown", "symbol ambiguous", "gene already has a row", "row without a text")
    }
    assert set(dropped.values()) == {1}
    written = build_texts(source.genes, source.orthologs, template=TEMPLATES[0])
    assert written.num_rows == 2
    assert source.genes.num_rows == human.genes.num_rows
    with pytest.raises(SourceUnusable, match="give a folder of NCBI's files that has both, with `names`"):
        read_gene_table(path, release="mine")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", "[1, 2]", "it holds a list, an object of symbol and text is needed"),
        ("a.json", '{"CD3D": [0.1]}', "the value of 'CD3D' is a list, a text is needed"),
        ("a.json", "{", "is no readable json table"),
        ("a.csv", "", "is no readable csv table"),
        ("a.csv", "gene_id,symbol,name\n", "holds no row"),
        ("a.csv", "gene_id,symbol\n1,A\n", "has no text: it lacks both name and summary"),
        ("a.csv", "gene_id,symbol,name\nx,A,n\n", "holds a value that is no number"),
        ("a.csv", "gene_id,symbol,name\n,A,n\n", "is empty in 1 row;"),
        ("a.csv", "gene_id,symbol,name\n1,A,n\n1,B,n\n", "occurs twice"),
        ("a.csv", "gene_id,symbol,symbol,name\n1,A,A,n\n", "has the column 'symbol' twice"),
        ("a.csv", "gene_id,name\n1,n\n", "lacks the column 'symbol'"),
        ("a.parquet", "no parquet", "is no readable parquet table"),
        ("a.xlsx", "PK", "is of no known kind; give a folder of NCBI's"),
        ("a.tsv", b"gene_id\tsymbol\tname\n1\t\xff\xfe\tn\n", "is no readable tsv table"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_line(tmp_path, name, content, told):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SourceUnusable, match=told) as caught:
        read_source(path, taxa=["human"])
    assert "\n" not in str(caught.value)


def test_a_place_without_a_source_says_what_can_be_given(tmp_path):
    with pytest.raises(SourceUnusable, match="does not exist; give a folder of NCBI's"):
        read_source(tmp_path / "nothing", taxa=["human"])
    with pytest.raises(SourceUnusable, match="holds no gene_info file"):
        read_source(tmp_path, taxa=["human"])


NAMES_DMP = (
    "9606\t|\tHomo sapiens\t|\t\t|\tscientific name\t|\n"
    "69293\t|\tGasterosteus aculeatus\t|\t\t|\tscientific name\t|\n"
    "69293\t|\tthree-spined stickleback\t|\t\t|\tgenbank common name\t|\n"
)


@pytest.mark.parametrize("packed", [False, True])
def test_any_species_is_found_by_name_where_ncbis_names_are_there(tmp_path, packed):
    (tmp_path / "names.dmp").write_text(NAMES_DMP)
    if packed:
        with tarfile.open(tmp_path / "taxdump.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "names.dmp", arcname="names.dmp")
        (tmp_path / "names.dmp").unlink()
    for name in ("Gasterosteus aculeatus", "three-spined stickleback", "gasterosteus_aculeatus"):
        assert find_taxon(name, tmp_path).tax_id == 69293
    assert find_taxon("Sus scrofa").name == find_taxon("9823").name == "pig"


def test_an_unknown_species_gets_a_suggestion():
    with pytest.raises(SourceUnusable, match="did you mean 'mouse'"):
        find_taxon("muose")
    assert find_taxon("123456").tax_id == 123456


def test_all_species_of_a_file_can_be_kept(ncbi_folder):
    source = read_ncbi_folder(ncbi_folder, taxa=["all"])
    assert {9606, 10090} <= set(source.genes["tax_id"].unique().to_pylist())
    assert source.dropped["other taxon or subspecies"] == 0


@pytest.mark.slow
def test_three_species_of_a_real_release_in_one_store(real_data):
    source = read_ncbi_folder(real_data / "ncbi" / "2021-07", taxa=["human", "mouse", "Drosophila melanogaster"])
    assert set(source.genes["tax_id"].unique().to_pylist()) == {9606, 10090, 7227}
    found = resolved(source, ["CD3D", "Cd3d", "FBgn0000008"])
    assert found.is_resolved.all()


@pytest.mark.slow
def test_no_current_symbol_changes_its_gene_when_hgnc_is_read(real_data, tmp_path):
    for path in (real_data / "ncbi" / "2022-11").iterdir():
        (tmp_path / path.name).symlink_to(path)
    hgnc = real_data / "ncbi" / "other" / "hgnc_complete_set.txt.gz"
    (tmp_path / hgnc.name).symlink_to(hgnc)
    source = read_ncbi_folder(tmp_path, taxa=["human"])
    symbols, genes = source.genes["symbol"].to_pylist(), source.genes["gene_id"].to_pylist()
    found = resolved(source, symbols)
    wrong = [row for row in range(len(genes)) if found.gene_ids[row] not in {0, genes[row]}]
    assert wrong == []
    unresolved = [symbols[row] for row in range(len(genes)) if found.gene_ids[row] == 0]
    assert all(symbols.count(symbol) > 1 for symbol in unresolved)
    assert source.annotations.num_rows > 30_000
