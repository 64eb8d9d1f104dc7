"""Genes in one table of a user's own, and the demo table in this form.

TSV, CSV and Parquet have the columns ``gene_id`` or ``symbol``, at least one of ``name`` and ``summary``, and optional
``tax_id``, ``type``, ``chromosome``, ``map_location``, ``aliases``, ``ensembl`` and ``hgnc``; lists are separated by
``|``. JSON is an object of symbol → text, as GenePT has it. A release of NCBI Gene gives missing GeneIDs.
"""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from genekb import schema
from genekb.core.errors import SourceUnusable
from genekb.core.messages import counted
from genekb.files.limits import check_gzip
from genekb.files.tables import table_format
from genekb.genes.resolve import RANKS, resolve_names
from genekb.genes.taxa import find_taxa, find_taxon
from genekb.sources.base import (
    SourceTables,
    describe_file,
    explode,
    find_non_identifiers,
    open_text,
    read_parquet_table,
    sorted_names,
    with_integers,
    without_padding,
)

TEXT_COLUMNS: Final = ("name", "summary")
COLUMNS: Final = (
    *("gene_id", "tax_id", "symbol", "name", "summary"),
    *("type", "chromosome", "map_location", "aliases", "ensembl", "hgnc"),
)
FORMATS: Final = (".tsv", ".txt", ".csv", ".parquet", ".json")
DEMO: Final = Path(__file__).with_name("demo_genes.tsv")
_ZIP: Final = b"PK\x03\x04"
_STATED: Final = "as stated by the table's author"


def read_gene_table(
    path: Path,
    *,
    release: str,
    licence: str = _STATED,
    taxon: str | None = None,
    taxa: Sequence[str] | None = None,
    names: SourceTables | None = None,
) -> SourceTables:
    """Read gene records from one TSV, CSV, Parquet or JSON file; text may be gzipped.

    ``taxon``: species of all rows, where the table has no ``tax_id``. ``taxa``: species to keep; all if left out.
    ``names``: release of NCBI Gene that resolves symbols, where the table has no ``gene_id``; its records and names are
    used with the table's texts. Symbols of no gene, of several, or of a gene that another row has (current symbols
    first) are counted as dropped.
    """
    rows = _read_rows(path)
    if "gene_id" not in rows.column_names:
        return _on_records_of(rows, names, path=path, release=release, licence=licence)
    if "symbol" not in rows.column_names:
        raise SourceUnusable(f"{path} lacks the column 'symbol'; a gene needs one beside its gene_id")
    n_read = rows.num_rows
    rows = _of_taxa(_with_tax_id(rows, path=path, taxon=taxon), taxa, path)
    columns = _columns(rows, path)
    kinds = {"symbol": "symbol", "aliases": "alias", "ensembl": "ensembl", "hgnc": "hgnc"}
    parts = [explode(rows["gene_id"], columns[column], kind) for column, kind in kinds.items()]
    columns["aliases"] = pc.split_pattern(columns["aliases"], "|")
    genes = pa.table({field.name: columns.get(field.name, pa.nulls(len(rows), field.type)) for field in schema.GENES})
    return SourceTables(
        genes=genes.sort_by("gene_id").cast(schema.GENES),
        names=sorted_names(parts),
        files=(describe_file(path, n_rows_read=n_read, n_rows_kept=rows.num_rows),),
        release=release,
        licence=licence,
        dropped={"other taxon or subspecies": n_read - rows.num_rows} if n_read > rows.num_rows else {},
    )


def _of_taxa(rows: pa.Table, taxa: Sequence[str] | None, path: Path) -> pa.Table:
    """Keep the rows of some species."""
    for column in ("gene_id", "tax_id"):
        wrong = find_non_identifiers(rows, column)
        if wrong.null_count:
            raise SourceUnusable(
                f"{path}: column {column} is empty in {counted(wrong.null_count, 'row')}; each needs a number"
            )
        if len(wrong):
            raise SourceUnusable(
                f"{path}: column {column} holds a value that is no number: {wrong[0].as_py()!r} (1 or more is needed)"
            )
    rows = with_integers(rows, path, "gene_id", "tax_id")
    wanted = [int(taxon.tax_id) for taxon in find_taxa(taxa, path.parent)] if taxa is not None else []
    kept = rows.filter(pc.is_in(rows["tax_id"], pa.array(wanted, pa.int64()))) if wanted else rows
    if not kept.num_rows:
        found = ", ".join(map(str, sorted(rows["tax_id"].unique().to_pylist())[:5]))
        raise SourceUnusable(
            f"{path} holds no gene of {', '.join(taxa or ())}, but genes of tax_id {found}; is the taxon right?"
        )
    return kept


def _columns(rows: pa.Table, path: Path) -> dict[str, pa.ChunkedArray | pa.Array]:
    """Check that each gene has one row and a symbol; give :data:`COLUMNS`, those that are absent without a value."""
    repeated = rows.num_rows - len(rows["gene_id"].unique())
    if repeated:
        raise SourceUnusable(
            f"{path}: {counted(repeated, 'gene_id occurs', plural='gene_ids occur')} twice; one row a gene is needed"
        )
    if rows["symbol"].null_count:
        raise SourceUnusable(
            f"{path}: column symbol is empty in {counted(rows['symbol'].null_count, 'row')}; each gene needs one"
        )
    nothing = pa.nulls(rows.num_rows, pa.string())
    return {name: rows[name] if name in rows.column_names else nothing for name in COLUMNS}


def _with_tax_id(rows: pa.Table, *, path: Path, taxon: str | None) -> pa.Table:
    if "tax_id" in rows.column_names:
        return rows
    if taxon is None:
        raise SourceUnusable(f"{path} lacks the column 'tax_id'; add it, or name the species with `taxon`")
    return rows.append_column("tax_id", pa.repeat(str(find_taxon(taxon).tax_id), rows.num_rows))


def _on_records_of(
    rows: pa.Table, names: SourceTables | None, *, path: Path, release: str, licence: str
) -> SourceTables:
    """Give the texts of symbols to the records of a release."""
    if "symbol" not in rows.column_names:
        raise SourceUnusable(f"{path} has neither a column 'gene_id' nor 'symbol'; it has {rows.column_names[:6]}")
    if names is None:
        raise SourceUnusable(
            f"{path} has symbols and no GeneIDs; give a folder of NCBI's files that has both, with `names`"
        )
    rows = rows.sort_by("symbol")
    resolution = resolve_names(rows["symbol"].to_pylist(), name_table=names.names, gene_ids=names.genes["gene_id"])
    texts: dict[int, dict[str, str | None]] = {}
    dropped = {"symbol unknown": 0, "symbol ambiguous": 0, "gene already has a row": 0, "row without a text": 0}
    found = zip(resolution.status.tolist(), rows.to_pylist(), resolution.gene_ids.tolist(), strict=True)
    # current symbols first
    for status, record, gene_id in sorted(found, key=lambda row: RANKS.get(row[0], len(RANKS))):
        fields = {name: record.get(name) for name in TEXT_COLUMNS if record.get(name)}
        if not gene_id:
            dropped["symbol ambiguous" if status == "ambiguous" else "symbol unknown"] += 1
        elif not fields:
            dropped["row without a text"] += 1
        elif gene_id in texts:
            dropped["gene already has a row"] += 1
        else:
            texts[gene_id] = fields
    if not texts:
        raise SourceUnusable(f"{path}: none of {rows.num_rows} symbols maps to a gene of `names`; is the taxon right?")
    file = describe_file(path, n_rows_read=rows.num_rows, n_rows_kept=len(texts))
    return SourceTables(
        genes=_replaced(names.genes, texts),
        names=names.names,
        annotations=names.annotations,
        files=(file, *names.files),
        release=release,
        licence=f"{licence}; {names.licence}",
        dropped={reason: count for reason, count in dropped.items() if count} | names.dropped,
    )


def _replaced(genes: pa.Table, texts: dict[int, dict[str, str | None]]) -> pa.Table:
    """Replace names and summaries by the given fields; a gene without any loses its own."""
    records = genes.to_pylist()
    for record in records:
        given = texts.get(record["gene_id"])
        own = {"name": None} if given is None else given
        record.update({"summary": None, "designations": None} | own)
    return pa.Table.from_pylist(records, schema=schema.GENES)


def read_demo_table() -> SourceTables:
    """Read the demo table of this package.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.read_demo_table().genes.num_rows
    752
    """
    licence = "identifiers and names: NCBI Gene, public domain; summaries: this project, BSD-3-Clause"
    return read_gene_table(DEMO, release="1", licence=licence)


def _read_rows(path: Path) -> pa.Table:
    if not path.is_file():
        raise SourceUnusable(f"{path} does not exist; give a table ({', '.join(FORMATS)}) of genes")
    kind = table_format(path)
    if kind not in FORMATS:
        raise SourceUnusable(f"{path}: a table ends in {', '.join(FORMATS)}; save it as one of these")
    try:
        check_gzip(path)
        rows = _READ[kind](path)
        _refuse_repeated(rows.column_names, path)
    except (pa.ArrowException, ValueError, RecursionError, OSError, EOFError, zlib.error) as error:
        raise SourceUnusable(f"{path} is no readable {kind[1:]} table: {_reason(error, path)}") from error
    if rows.num_rows == 0:
        raise SourceUnusable(f"{path} holds no row")
    if not set(TEXT_COLUMNS) & set(rows.column_names):
        raise SourceUnusable(f"{path} has no text: it lacks both {' and '.join(TEXT_COLUMNS)}")
    return rows


def _reason(error: Exception, path: Path) -> str:
    """Reason why a table cannot be read, in a few words, with a hint where there is one."""
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    with path.open("rb") as stream:
        is_archive = stream.read(len(_ZIP)) == _ZIP
    if is_archive:
        return "it is a zip archive, as workbooks are; save the sheet as .csv or .tsv"
    if isinstance(error, RecursionError):
        return "it is nested too deeply; an object of symbol and text is needed"
    if "UTF8" in reason or isinstance(error, UnicodeDecodeError):
        return f"{reason}; save it as UTF-8"
    return reason


def _refuse_repeated(columns: Sequence[str], path: Path) -> None:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise SourceUnusable(f"{path} has the column {twice[0]!r} twice; keep one")


def _read_delimited(path: Path) -> pa.Table:
    is_csv = table_format(path) == ".csv"
    every = dict.fromkeys(COLUMNS, pa.string())
    with without_padding(path) as file:
        return pacsv.read_csv(
            file,
            parse_options=pacsv.ParseOptions(
                delimiter="," if is_csv else "\t", quote_char='"' if is_csv else False, newlines_in_values=is_csv
            ),
            convert_options=pacsv.ConvertOptions(column_types=every, null_values=["", "-"], strings_can_be_null=True),
        )


def _read_parquet(path: Path) -> pa.Table:
    _refuse_repeated(pq.read_schema(path).names, path)
    rows = read_parquet_table(path)
    lists = {"aliases", "ensembl", "hgnc"}
    for index, name in enumerate(rows.column_names):
        kind = rows.schema.field(name).type
        if name in lists and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            joined = pa.array(
                ["|".join(map(str, filter(None, value or ()))) or None for value in rows[name].to_pylist()]
            )
            rows = rows.set_column(index, name, joined.cast(pa.string()))
        elif name in COLUMNS:
            if pa.types.is_nested(kind):
                raise ValueError(f"the column {name!r} holds {str(kind)[:40]}, text or numbers are needed")
            rows = rows.set_column(index, name, rows[name].cast(pa.string()))
    return rows


def _read_json(path: Path) -> pa.Table:
    with open_text(path) as stream:
        content = json.load(stream, object_pairs_hook=tuple)  # an object as its pairs: a symbol that is twice is seen
    if not isinstance(content, tuple):
        raise ValueError(f"it holds a {type(content).__name__}, an object of symbol and text is needed")
    for symbol, text in content:
        if not isinstance(text, str):
            raise ValueError(f"the value of {symbol!r} is {_kind(text)}, a text is needed")
    symbols = pa.array([symbol for symbol, _ in content], pa.string())
    return pa.table(
        {"symbol": symbols, "summary": pa.array([text.strip() or None for _, text in content], pa.string())}
    )


def _kind(value: Any) -> str:
    """Say what a value of JSON is."""
    if isinstance(value, tuple):
        return "an object"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return "a list" if isinstance(value, list) else f"the number {str(value)[:20]}"


_READ: Final = {
    ".tsv": _read_delimited,
    ".txt": _read_delimited,
    ".csv": _read_delimited,
    ".parquet": _read_parquet,
    ".json": _read_json,
}
