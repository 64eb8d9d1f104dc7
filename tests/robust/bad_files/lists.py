"""Wrong tables, lists and words of a command line: one small maker per kind of ``data/bad/sources.toml``."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.robust.bad_files.sources import kind


@kind
def table_without_symbol(here, base):
    (here / "genes.tsv").write_text("gene\tsummary\nINS\thormone\n")


@kind
def table_without_text(here, base):
    (here / "genes.tsv").write_text("gene_id\tsymbol\n3630\tINS\n")


@kind
def table_only_header(here, base):
    (here / "genes.tsv").write_text("gene_id\tsymbol\tsummary\n")


@kind
def table_gene_id_repeated(here, base):
    (here / "genes.csv").write_text("gene_id,symbol,summary\n3630,INS,hormone\n3630,INS,again\n")


@kind
def table_dates_as_symbols(here, base):
    (here / "genes.csv").write_text("symbol,summary\n1-Mar,ligase\n2-Sep,filament\n")


@kind
def table_column_twice(here, base):
    (here / "genes.csv").write_text("gene_id,symbol,summary,summary\n3630,INS,hormone,peptide\n")


@kind
def table_latin_1(here, base):
    (here / "genes.csv").write_bytes("gene_id,symbol,summary\n3630,INS,protéine\n".encode("latin-1"))


@kind
def table_is_a_workbook(here, base):
    (here / "genes.csv").write_bytes(b"PK\x03\x04\x14\x00\x06\x00\x08\x00" + bytes(range(256)))


@kind
def table_json_text_is_a_number(here, base):
    (here / "genes.json").write_text('{"INS": 3630}')


@kind
def table_json_text_is_null(here, base):
    (here / "genes.json").write_text('{"INS": null}')


@kind
def table_json_nested(here, base):
    (here / "genes.json").write_text('{"genes": {"INS": "hormone"}}')


@kind
def table_json_a_list(here, base):
    (here / "genes.json").write_text('[{"symbol": "INS", "text": "hormone"}]')


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
def only_genes_none_known(here, base):
    (here / "names.txt").write_text("FOO1\nBAR2\n")


@kind
def only_genes_empty(here, base):
    (here / "names.txt").write_text("\n\n")


@kind
def only_genes_binary(here, base):
    (here / "names.txt").write_bytes(bytes(range(256)))


@kind
def model_name_with_a_typo(here, base):
    pass


@kind
def taxon_with_a_typo(here, base):
    pass


@kind
def store_name_with_a_slash(here, base):
    pass


@kind
def store_name_upwards(here, base):
    pass


@kind
def import_name_in_capitals(here, base):
    (here / "words.txt").write_text("1 2\nINS 1 2\n")


@kind
def kb_path_to_nowhere(here, base):
    pass


@kind
def home_is_a_file(here, base):
    (here / "home").write_text("a file, not a folder\n")


@kind
def kb_name_with_a_typo(here, base):
    pass


@kind
def encoder_name_with_a_typo(here, base):
    pass


@kind
def sql_with_a_typo(here, base):
    pass


@kind
def query_empty(here, base):
    pass


@kind
def cell_query_empty(here, base):
    pass


@kind
def update_by_another_species(here, base):
    pass


@kind
def diff_of_two_species(here, base):
    pass


@kind
def candidates_without_cell_type(here, base):
    (here / "types.csv").write_text("name,genes\nB cell,CD19\n")


@kind
def candidates_empty(here, base):
    (here / "types.txt").write_text("\n \n")


@kind
def candidates_twice(here, base):
    (here / "types.txt").write_text("B cell\nT cell\nB cell\n")


@kind
def candidates_latin_1(here, base):
    (here / "types.txt").write_bytes("cellule épithéliale\n".encode("latin-1"))


@kind
def markers_gene_is_a_list(here, base):
    (here / "panel.json").write_text('{"B cell": [["CD19"], ["MS4A1"]]}')


@kind
def markers_without_gene_column(here, base):
    (here / "panel.tsv").write_text("cell_type\tmarker\nB cell\tCD19\n")


@kind
def markers_row_cut(here, base):
    (here / "panel.csv").write_text("cell_type,gene\nB cell,CD19\nT cell\n")
