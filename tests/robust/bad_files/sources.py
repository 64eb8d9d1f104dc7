"""Wrong files of NCBI, tables and lists of users: one small maker per kind of ``data/bad/sources.toml``."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
def report_without_gene_id(here, base):
    (here / "data_report.jsonl").write_text(json.dumps({**REPORT, "geneId": None}) + "\n")


@kind
def report_gene_id_of_31_digits(here, base):
    (here / "data_report.jsonl").write_text(json.dumps({**REPORT, "geneId": "1" + "0" * 30}) + "\n")


@kind
def report_empty(here, base):
    (here / "data_report.jsonl").write_bytes(b"")


@kind
def table_latin_1(here, base):
    (here / "genes.csv").write_bytes("gene_id,symbol,summary\n3630,INS,protéine\n".encode("latin-1"))


@kind
def table_is_a_workbook(here, base):
    (here / "genes.csv").write_bytes(b"PK\x03\x04\x14\x00\x06\x00\x08\x00" + bytes(range(256)))


@kind
def table_json_deep(here, base):
    (here / "genes.json").write_text("[" * 100_000)


@kind
def table_parquet_text_is_a_struct(here, base):
    rows_ = pa.table({"gene_id": [3630], "symbol": ["INS"], "summary": [{"text": "hormone"}]})
    pq.write_table(rows_, here / "genes.parquet")


@kind
def table_parquet_of_a_gigabyte(here, base):
    write_repeated(here / "genes.parquet", store_schema=False)


@kind
def table_parquet_of_a_gigabyte_by_numbers(here, base):
    write_repeated(here / "genes.parquet", store_schema=True)


def write_repeated(path, *, store_schema):
    """Write 100,000 rows with one text of 10 kB, which stands in the file once."""
    numbers = pa.array(np.arange(1, 100_001))
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), ["x" * 10_000])
    symbol = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), ["INS"])
    table = pa.table({"gene_id": numbers, "symbol": symbol, "summary": text})
    pq.write_table(table, path, compression="zstd", store_schema=store_schema, use_dictionary=["symbol", "summary"])


@kind
def table_parquet_numbers_as_names(here, base):
    pq.write_table(pa.table({"gene_id": ["INS"], "symbol": ["INS"], "summary": ["hormone"]}), here / "genes.parquet")


@kind
def only_genes_binary(here, base):
    (here / "names.txt").write_bytes(bytes(range(256)))


@kind
def candidates_latin_1(here, base):
    (here / "types.txt").write_bytes("cellule épithéliale\n".encode("latin-1"))
