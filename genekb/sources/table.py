"""A table of genes in one TSV file, and the small demo table that is written in this form.

Columns ``gene_id``, ``tax_id``, ``symbol``, ``name`` and ``summary`` are needed; ``type``, ``chromosome``,
``map_location``, ``aliases``, ``ensembl`` and ``hgnc`` are read where present. Lists are separated by ``|``.
"""

from importlib.resources import files
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from genekb import schema
from genekb.errors import NotAvailable, SourceUnusable
from genekb.sources.tables import SourceTables, describe_file, explode

NEEDED: Final = ("gene_id", "tax_id", "symbol", "name", "summary")
OPTIONAL: Final = ("type", "chromosome", "map_location", "aliases", "ensembl", "hgnc")
DEMO_FILE: Final = "demo_genes.tsv"


def read_gene_table(path: Path, *, release: str, licence: str = "as stated by the table's author") -> SourceTables:
    """Read gene records from one TSV file.

    Raises
    ------
    SourceUnusable
        If the file is missing, a needed column is absent, an identifier is no number or occurs twice.
    """
    rows = _read_rows(path)
    gene_id = _integers(rows, "gene_id", path)
    repeated = len(gene_id) - len(gene_id.unique())
    if repeated:
        raise SourceUnusable(f"{path}: {repeated} gene_id values occur twice; one row a gene is needed")
    genes = pa.table(
        {
            "gene_id": gene_id,
            "tax_id": _integers(rows, "tax_id", path).cast(pa.int32()),
            "symbol": rows["symbol"],
            "name": rows["name"],
            "type": rows["type"],
            "chromosome": rows["chromosome"],
            "map_location": rows["map_location"],
            "summary": rows["summary"],
            "designations": pa.nulls(rows.num_rows, pa.list_(pa.string())),
            "aliases": pc.split_pattern(rows["aliases"], "|"),
            "status": pa.nulls(rows.num_rows, pa.string()),
            "modified": pa.nulls(rows.num_rows, pa.string()),
        }
    )
    kinds = {"symbol": "symbol", "aliases": "alias", "ensembl": "ensembl", "hgnc": "hgnc"}
    names = [explode(gene_id, pc.split_pattern(rows[column], "|"), kind) for column, kind in kinds.items()]
    table = pa.concat_tables(names).sort_by([("name", "ascending"), ("gene_id", "ascending"), ("kind", "ascending")])
    return SourceTables(
        genes=genes.sort_by("gene_id").cast(schema.GENES),
        names=table.cast(schema.NAMES),
        files=(describe_file(path, n_rows_read=rows.num_rows, n_rows_kept=rows.num_rows),),
        release=release,
        licence=licence,
        dropped={},
    )


def read_demo_table() -> SourceTables:
    """Read the demo table that comes with this package.

    Raises
    ------
    NotAvailable
        If the installation lacks the table.
    """
    path = Path(str(files("genekb.sources").joinpath(DEMO_FILE)))
    if not path.is_file():
        raise NotAvailable(f"the demo table {DEMO_FILE} is not in this installation; install the package again")
    licence = "identifiers and names: NCBI Gene, public domain; summaries: this project, BSD-3-Clause"
    return read_gene_table(path, release="1", licence=licence)


def _read_rows(path: Path) -> pa.Table:
    if not path.is_file():
        raise SourceUnusable(f"{path} does not exist; give a TSV file with the columns {', '.join(NEEDED)}")
    every = dict.fromkeys((*NEEDED, *OPTIONAL), pa.string())
    try:
        rows = pacsv.read_csv(
            path,
            parse_options=pacsv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=pacsv.ConvertOptions(column_types=every, null_values=["", "-"], strings_can_be_null=True),
        )
    except pa.ArrowInvalid as error:
        raise SourceUnusable(f"{path} is no tab-separated table: {str(error).splitlines()[0]}") from error
    missing = [name for name in NEEDED if name not in rows.column_names]
    if missing:
        raise SourceUnusable(f"{path} lacks the column {missing[0]!r}; needed are {', '.join(NEEDED)}")
    for name in OPTIONAL:
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.nulls(rows.num_rows, pa.string()))
    return rows


def _integers(rows: pa.Table, column: str, path: Path) -> pa.ChunkedArray:
    try:
        return rows[column].cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise SourceUnusable(f"{path}: column {column} holds a value that is no number ({error})") from error
