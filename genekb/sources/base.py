"""What every source returns (gene records, names, orthologues, files read), and the parts that readers share."""

import gzip
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import IO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from genekb import schema
from genekb.core.errors import SourceUnusable
from genekb.core.resources import raise_resource_fault, release_unused
from genekb.files.atomic import sha256_file
from genekb.files.limits import bounded, check_footer, check_gzip
from genekb.files.replace import temporary_folder
from genekb.genes.resolve import resolve_names
from genekb.schema import empty, literals

LICENSE: Final = "NCBI Gene: public domain (US government work)"
GO_LICENSE: Final = "Gene Ontology: CC BY 4.0"
PROVENANCE_NOTE: Final = r"\s*\[(?:provided|supplied) by [^\]]*\]\.?\s*$"  # who wrote a summary, and when
_ROWS_A_BATCH: Final = 512
_BLOCK_BYTES: Final = 1 << 21
_HEADER_CHARS: Final = 1 << 16  # a first line without an end is not read to its end
_PADDED: Final = 16  # zeros at the end: checksum and size are eight bytes, before them an empty text has two
_INT32_DIGITS: Final = 9
_INT64_DIGITS: Final = 18
_RAGGED: Final = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")


@dataclass(frozen=True, slots=True)
class NcbiFile:
    """A bulk file of NCBI's."""

    place: str  # from its folder gene/DATA on
    columns: tuple[str, ...] = ()  # names in its first line, of files that are read whole


NCBI_FILES: Final = {
    "gene_info": NcbiFile(
        "gene_info.gz",
        (
            *("tax_id", "GeneID", "Symbol", "LocusTag", "Synonyms", "dbXrefs", "chromosome", "map_location"),
            *("description", "type_of_gene", "Symbol_from_nomenclature_authority"),
            *("Full_name_from_nomenclature_authority", "Nomenclature_status", "Other_designations"),
            *("Modification_date", "Feature_type"),
        ),
    ),
    "gene_summary": NcbiFile("gene_summary.gz", ("tax_id", "GeneID", "Source", "Summary")),
    "gene_orthologs": NcbiFile(
        "gene_orthologs.gz", ("tax_id", "GeneID", "relationship", "Other_tax_id", "Other_GeneID")
    ),
    "gene_history": NcbiFile(
        "gene_history.gz", ("tax_id", "GeneID", "Discontinued_GeneID", "Discontinued_Symbol", "Discontinue_Date")
    ),
    "gene2ensembl": NcbiFile(
        "gene2ensembl.gz",
        (
            *("tax_id", "GeneID", "Ensembl_gene_identifier", "RNA_nucleotide_accession.version"),
            *("Ensembl_rna_identifier", "protein_accession.version", "Ensembl_protein_identifier"),
        ),
    ),
    "gene2go": NcbiFile(
        "gene2go.gz", ("tax_id", "GeneID", "GO_ID", "Evidence", "Qualifier", "GO_term", "PubMed", "Category")
    ),
    "gene2pubmed": NcbiFile("gene2pubmed.gz", ("tax_id", "GeneID", "PubMed_ID")),
    "generifs_basic": NcbiFile(
        "../GeneRIF/generifs_basic.gz",
        ("Tax ID", "Gene ID", "PubMed ID (PMID) list", "last update timestamp", "GeneRIF text"),
    ),
    "taxdump": NcbiFile("../../pub/taxonomy/taxdump.tar.gz"),
    "hgnc_complete_set": NcbiFile("hgnc_complete_set.txt"),  # HGNC's, which a mirror may hold too
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """One file that was read, as it is recorded in the manifest."""

    name: str
    n_bytes: int
    sha256: str
    n_rows_read: int
    n_rows_kept: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceTables:
    """Gene records of one or more species, ready to be written."""

    genes: pa.Table  # genes, names, orthologs, annotations: tables in the schemas of :mod:`genekb.schema`
    names: pa.Table
    orthologs: pa.Table = field(default_factory=lambda: empty(schema.ORTHOLOGS))
    annotations: pa.Table = field(default_factory=lambda: empty(schema.ANNOTATIONS))
    # what encoders ``terms:`` are fitted on, see :func:`genekb.sources.gene_terms.add_gene_terms`
    terms: Mapping[str, pa.Table] = field(default_factory=dict)
    files: tuple[SourceFile, ...]  # what was read
    release: str  # release of the source, e.g. ``2022-11``
    licence: str  # terms of the source, as its publisher states them
    dropped: dict[str, int]  # rows that were left out, counted by reason
    default_genes: str = "all"  # type of the genes that get a text where a build does not say


def describe_file(path: Path, *, n_rows_read: int, n_rows_kept: int) -> SourceFile:
    """Record a file that was read."""
    return SourceFile(
        name=path.name,
        n_bytes=path.stat().st_size,
        sha256=sha256_file(path),
        n_rows_read=n_rows_read,
        n_rows_kept=n_rows_kept,
    )


def without_provenance(summary: str) -> str:
    """Remove the note of who wrote a summary, and when, from its end."""
    return re.sub(PROVENANCE_NOTE, "", summary).strip()


def read_parquet_table(path: Path) -> pa.Table:
    """Read a Parquet file of a user within :mod:`genekb.files.limits`; dictionaries come as their values."""
    check_footer(path)
    with pq.ParquetFile(path) as file:
        batches = list(bounded(path, map(_decoded, file.iter_batches(batch_size=_ROWS_A_BATCH))))
        table = pa.Table.from_batches(batches) if batches else file.schema_arrow.empty_table()
    table.validate(full=True)  # invalid UTF-8 is not seen on reading
    return table


def _decoded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Replace dictionaries by their values before the batch is measured: they are small, what they hold is not."""
    columns = [one.dictionary_decode() if pa.types.is_dictionary(one.type) else one for one in batch.columns]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def explode(keys: pa.ChunkedArray, joined: pa.ChunkedArray, kind: str) -> pa.Table:
    """Split names that are joined by ``|``, one text a gene, into rows of :data:`genekb.schema.NAMES`."""
    names = pa.chunked_array(pc.split_pattern(joined, "|")).combine_chunks()
    return name_rows(pc.list_flatten(names), keys.take(pc.list_parent_indices(names)), kind)


def name_rows(names: pa.ChunkedArray | pa.Array, gene_ids: pa.ChunkedArray, kind: str) -> pa.Table:
    """Rows of :data:`genekb.schema.NAMES` without empty names; a row may be there twice, see :func:`sorted_names`."""
    there = pc.binary_length(names).cast(pa.bool_())  # null where there is no name
    table = pa.Table.from_arrays([names, gene_ids.cast(pa.int64())], names=schema.NAMES.names[:2]).filter(there)
    return table.append_column("kind", literals(kind, table.num_rows)).cast(schema.NAMES)


def sorted_names(tables: Iterable[pa.Table]) -> pa.Table:
    """Join tables of names, each name once, ordered by name, gene and kind."""
    names = pa.concat_tables([table.cast(schema.NAMES) for table in tables])
    return first_rows(names.sort_by([(column, "ascending") for column in schema.NAMES.names]), schema.NAMES.names)


def first_rows(rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Keep the first of adjacent rows with the same keys, which have no gaps."""
    before, after = rows.slice(0, max(rows.num_rows - 1, 0)), rows.slice(1)
    differs = reduce(pc.or_, (pc.not_equal(before[key], after[key]) for key in keys))
    return pa.concat_tables([rows.slice(0, 1), after.filter(differs)])


def names_table(genes: Iterable[tuple[int, Mapping[str, Iterable[str]]]]) -> pa.Table:
    """Sort the names of genes, which are listed by kind, into :data:`genekb.schema.NAMES`, without empty names."""
    rows = {(name, gene, kind) for gene, kinds in genes for kind, names in kinds.items() for name in names if name}
    columns = list(zip(*sorted(rows), strict=True)) or [(), (), ()]
    return pa.Table.from_pydict(dict(zip(schema.NAMES.names, columns, strict=True)), schema=schema.NAMES)


def current_gene_ids(names: Sequence[str], tables: SourceTables) -> list[int]:
    """GeneIDs of numbers and names, see :func:`genekb.genes.resolve.resolve_names`; 0 for none of the source."""
    known = set(tables.genes["gene_id"].to_pylist())
    distinct = sorted({name for name in names if name and not name.isdecimal()})
    resolution = resolve_names(distinct, name_table=tables.names, gene_ids=tables.genes["gene_id"])
    by_name = dict(zip(distinct, resolution.gene_ids.tolist(), strict=True))
    ids = (int(name) if name.isdecimal() else by_name[name] for name in names)
    return [gene_id if gene_id in known else 0 for gene_id in ids]


def open_text(path: Path) -> IO[str]:
    """Open a file of text, gzipped or not, without the mark at the start that some programs write."""
    opened = gzip.open if path.suffix == ".gz" else open
    return opened(path, "rt", encoding="utf-8-sig")


@contextmanager
def without_padding(path: Path) -> Iterator[Path]:
    """Path that Arrow can read: of gzip with zeros behind its end, as from tapes, a decompressed copy.

    Arrow reads ahead in threads and must not get a Python file, which may be closed under them.
    """
    if path.suffix != ".gz" or not _is_padded(path):
        yield path
        return
    check_gzip(path)
    with temporary_folder("genekb-gzip") as folder:
        copy = folder / path.stem
        with gzip.open(path) as packed, copy.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        yield copy


def _is_padded(path: Path) -> bool:
    """Whether the last bytes are zeros, more than checksum and size of gzip can be."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _PADDED))
        return stream.read() == bytes(_PADDED)


def optional_file(folder: Path, *stems: str) -> Path | None:
    """Find the first of some files, gzipped or not, if the folder has any."""
    names = (name for stem in stems for name in (f"{stem}.gz", stem))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_header(path: Path) -> list[str]:
    """Read the column names of the first line, without a ``#`` in front of it."""
    try:
        with open_text(path) as stream:
            line = stream.readline(_HEADER_CHARS)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise_resource_fault(error)
        raise damaged(path, _reason(error)) from error
    return [name.strip().lstrip("#") for name in line.rstrip("\n").split("\t")]


def _check_header(path: Path, columns: Sequence[str]) -> None:
    header = read_header(path)
    if header == list(columns):
        return
    missing = [name for name in columns if name not in header]
    surplus = [name for name in header if name not in columns]
    if header == [""]:
        wrong = "has no first line"
    elif len(missing) == len(columns):
        wrong = f"starts with {' '.join(header)[:60]!r} and not with the columns {' '.join(columns)[:60]!r}"
    elif missing:
        wrong = f"lacks the column {missing[0]!r}"
    elif surplus:
        wrong = f"has a column {surplus[0][:40]!r} that is not NCBI's"
    else:
        wrong = f"has NCBI's columns in another order ({' '.join(header)[:60]!r})"
    raise SourceUnusable(f"{path} {wrong}; is it NCBI's file of that name? Download it again")


def read_ncbi_file(path: Path, name: str, keep: Callable[[pa.Table], pa.Table]) -> tuple[pa.Table, SourceFile]:
    """Read one of :data:`NCBI_FILES`, see :func:`read_rows`; refuses a file whose first line has other columns."""
    columns = NCBI_FILES[name].columns
    _check_header(path, columns)
    return read_rows(path, columns, keep)


def read_current_rows(path: Path, name: str, genes: pa.Table) -> tuple[pa.Table, SourceFile, dict[str, int]]:
    """Read the rows of some genes of one of :data:`NCBI_FILES`, and count those of other genes of their species."""
    species, gene = NCBI_FILES[name].columns[:2]
    taxa = genes["tax_id"].unique().cast(pa.string())
    rows, file = read_ncbi_file(path, name, lambda block: block.filter(pc.is_in(block[species], taxa)))
    current = rows.filter(pc.is_in(rows[gene], genes["gene_id"].cast(pa.string()).combine_chunks()))
    dropped = {
        f"{name}: gone, no gene took its place": rows[gene].null_count,
        f"{name}: of no current gene": rows.num_rows - rows[gene].null_count - current.num_rows,
    }
    return current, replace(file, n_rows_kept=current.num_rows), dropped


def is_negated(rows: pa.Table) -> pa.ChunkedArray:
    """Which rows of gene2go say that a gene has not the term."""
    return pc.fill_null(pc.starts_with(rows["Qualifier"], "NOT"), fill_value=False)


def read_rows(
    path: Path,
    columns: Sequence[str],
    keep: Callable[[pa.Table], pa.Table] = lambda block: block,
    *,
    null_values: Sequence[str] = ("-",),
    quote_char: str | None = None,
) -> tuple[pa.Table, SourceFile]:
    """Read the rows that ``keep`` passes on of each block, see :func:`stream_tsv`, and count all of them."""
    n_read, kept = 0, list[pa.Table]()
    for block in stream_tsv(path, columns, null_values=null_values, quote_char=quote_char):
        n_read += block.num_rows
        kept.append(keep(block))
    release_unused()  # of the blocks
    rows = pa.concat_tables(kept or [empty(pa.schema([(name, pa.string()) for name in columns]))])
    return rows, describe_file(path, n_rows_read=n_read, n_rows_kept=rows.num_rows)


def stream_tsv(
    path: Path, columns: Sequence[str], *, null_values: Sequence[str] = ("-",), quote_char: str | None = None
) -> Iterator[pa.Table]:
    """Yield the rows below the first line in blocks of strings; memory does not grow with the file."""
    options = {
        # one thread: of several, Arrow does not report the line of an error
        "read_options": pacsv.ReadOptions(
            column_names=list(columns), skip_rows=1, block_size=_BLOCK_BYTES, use_threads=False
        ),
        "parse_options": pacsv.ParseOptions(delimiter="\t", quote_char=quote_char or False, escape_char=False),
        "convert_options": pacsv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()), null_values=list(null_values), strings_can_be_null=True
        ),
    }
    try:
        with without_padding(path) as file:
            blocks = bounded(path, pacsv.open_csv(file, **options))
            yield from (pa.Table.from_batches([block]) for block in blocks)
    except (ValueError, OSError, EOFError, zlib.error) as error:  # ValueError: also of Arrow
        raise_resource_fault(error)
        if "Empty CSV file" in str(error):
            return
        raise damaged(path, _reason(error)) from error


def _reason(error: Exception) -> str:
    """Reason why a file cannot be read, in a few words."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if ragged := _RAGGED.search(reason):
        return f"line {ragged[1]} has {ragged[3]} fields, {ragged[2]} are needed"
    if "straddl" in reason:
        return f"a line is longer than {_BLOCK_BYTES >> 20} MB"
    return getattr(error, "strerror", None) or reason


def refuse_nul(rows: pa.Table, path: Path) -> None:
    """Refuse NUL characters in columns of strings."""
    for name in rows.column_names:
        column = rows[name]
        if pa.types.is_string(column.type) and pc.any(pc.match_substring(column, "\0")).as_py():
            value = column.filter(pc.match_substring(column, "\0"))[0].as_py()
            raise damaged(path, f"{name} {ascii(value)[:60]} holds a NUL character")


def max_digits(column: str) -> int:
    """Digits of an identifier that a store can hold: 32 bits for a species, 64 for a gene."""
    return _INT32_DIGITS if column in {"tax_id", "taxId"} else _INT64_DIGITS


def find_non_identifiers(rows: pa.Table, column: str) -> pa.ChunkedArray:
    """Values of a column of strings that are not positive integers, missing ones among them."""
    is_number = pc.match_substring_regex(rows[column], rf"^[1-9][0-9]{{0,{max_digits(column) - 1}}}$")
    return rows[column].filter(pc.or_kleene(pc.is_null(is_number), pc.invert(is_number)))


def with_integers(rows: pa.Table, path: Path, *columns: str) -> pa.Table:
    """Convert columns of strings to identifiers; refuses what is not a positive integer."""
    for column in columns:
        wrong = find_non_identifiers(rows, column)
        if len(wrong):
            raise damaged(
                path,
                f"{column} {wrong[0].as_py() or '-'!r} is no positive number of at most {max_digits(column)} digits",
            )
        rows = rows.set_column(rows.column_names.index(column), column, rows[column].cast(pa.int64()))
    return rows


def damaged(path: Path, reason: str) -> SourceUnusable:
    """Make the error for a file whose bytes cannot be read."""
    return SourceUnusable(f"{path} is damaged ({reason}); download it again and compare its size")
