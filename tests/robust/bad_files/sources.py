"""Wrong files of NCBI that a user can hand over: one small maker per kind of ``data/bad/sources.toml``."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parents[2] / "data"
HUMAN = DATA / "ncbi" / "human_gene_info_2022-11.tsv"
REPORT = {"geneId": "3630", "symbol": "INS", "taxId": "9606", "description": "insulin", "type": "PROTEIN_CODING"}
LINE_BYTES = 50_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """Good things beside which a kind puts its bad one: NCBI's files, stores of two species, cells, a saved model."""

    ncbi: Path
    base_home: Path
    store: Path
    mouse: Path
    cells: Path
    model: Path


Maker = Callable[[Path, Base], None]
MAKERS: dict[str, Maker] = {}


def kind(maker: Maker) -> Maker:
    """Note a maker under the id of its kind."""
    MAKERS[maker.__name__.replace("_", "-")] = maker
    return maker


def rows() -> list[list[str]]:
    """Lines of a good gene_info, each as its fields; the header first."""
    return [line.split("\t") for line in HUMAN.read_text(encoding="utf-8").splitlines()]


def joined(lines: list[list[str]], *, end: str = "\n") -> bytes:
    return "".join("\t".join(line) + end for line in lines).encode()


def gene_info(here: Path, content: bytes) -> None:
    (here / "Homo_sapiens.gene_info").write_bytes(content)


def with_field(row: int, column: int, value: str) -> bytes:
    """A good gene_info with one field replaced."""
    lines = rows()
    lines[row][column] = value
    return joined(lines)


def beside_gene_info(here: Path, name: str, content: str) -> None:
    """A good gene_info and another of NCBI's files."""
    gene_info(here, joined(rows()))
    (here / name).write_text(content, encoding="utf-8")


@kind
def gene_info_column_missing(here, base):
    gene_info(here, joined([line[:4] + line[5:] for line in rows()]))


@kind
def gene_info_columns_shuffled(here, base):
    gene_info(here, joined([[line[2], *line[:2], *line[3:]] for line in rows()]))


@kind
def gene_info_no_header(here, base):
    gene_info(here, joined(rows()[1:]))


@kind
def gene_info_gzip_truncated(here, base):
    packed = gzip.compress(joined(rows()), mtime=0)
    (here / "Homo_sapiens.gene_info.gz").write_bytes(packed[: len(packed) // 2])


@kind
def gene_info_not_gzip(here, base):
    (here / "Homo_sapiens.gene_info.gz").write_bytes(joined(rows()))


@kind
def gene_info_gzip_damaged(here, base):
    packed = bytearray(gzip.compress(joined(rows()), mtime=0))
    packed[len(packed) // 2] ^= 0xFF
    (here / "Homo_sapiens.gene_info.gz").write_bytes(packed)


@kind
def gene_info_empty(here, base):
    gene_info(here, b"")


@kind
def gene_info_only_header(here, base):
    gene_info(here, joined(rows()[:1]))


@kind
def gene_info_other_species(here, base):
    (here / "gene_info").write_bytes((DATA / "ncbi" / "mouse_gene_info_2022-11.tsv").read_bytes())


@kind
def gene_id_no_number(here, base):
    gene_info(here, with_field(2, 1, "9I6"))


@kind
def gene_id_repeated(here, base):
    lines = rows()
    gene_info(here, joined([*lines, *lines[1:4]]))


@kind
def gene_info_nul_byte(here, base):
    gene_info(here, with_field(2, 2, "CD\x003E"))


@kind
def gene_info_latin_1(here, base):
    gene_info(here, joined(rows()).replace(b"CD3 delta subunit", b"CD3 d\xe9lta subunit", 1))


@kind
def gene_info_line_of_50_megabytes(here, base):
    gene_info(here, with_field(2, 8, "x" * LINE_BYTES))


@kind
def gene_info_header_of_50_megabytes(here, base):
    gene_info(here, b"#tax_id\t" + b"x" * LINE_BYTES)


@kind
def gene_info_is_a_folder(here, base):
    (here / "Homo_sapiens.gene_info").mkdir()
    (here / "Homo_sapiens.gene_info" / "data.tsv").write_bytes(joined(rows()))


@kind
def source_does_not_exist(here, base):
    pass


@kind
def generifs_line_cut(here, base):
    header = "#Tax ID\tGene ID\tPubMed ID (PMID) list\tlast update timestamp\tGeneRIF text\n"
    beside_gene_info(here, "generifs_basic", f"{header}9606\t3630\t1234\n")


@kind
def hgnc_is_a_web_page(here, base):
    beside_gene_info(here, "hgnc_complete_set.txt", "<html><body>404: no such file</body></html>\n")


@kind
def names_dmp_damaged(here, base):
    beside_gene_info(here, "names.dmp", "9606\t|\tHomo sapiens\n")


@kind
def report_line_no_json(here, base):
    (here / "data_report.jsonl").write_text(json.dumps(REPORT) + '\n{"geneId": "1", "symb\n')


@kind
def report_line_a_list(here, base):
    (here / "data_report.jsonl").write_text('["3630", "INS"]\n')


@kind
def report_without_gene_id(here, base):
    (here / "data_report.jsonl").write_text(json.dumps({**REPORT, "geneId": None}) + "\n")


@kind
def report_gene_id_of_31_digits(here, base):
    (here / "data_report.jsonl").write_text(json.dumps({**REPORT, "geneId": "1" + "0" * 30}) + "\n")


@kind
def report_empty(here, base):
    (here / "data_report.jsonl").write_bytes(b"")
