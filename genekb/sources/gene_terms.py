"""Terms of genes for annotation encoders: GO with its ancestors, papers, interactions, gene groups, gene sets."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genekb.core.errors import SourceUnusable
from genekb.core.resources import release_unused
from genekb.files.limits import check_gzip
from genekb.genes.taxa import REFERENCE_TAXON, find_taxon
from genekb.schema import integers, strings
from genekb.sources.base import (
    GO_LICENSE,
    LICENSE,
    NCBI_FILES,
    SourceFile,
    SourceTables,
    current_gene_ids,
    damaged,
    describe_file,
    is_negated,
    name_rows,
    open_text,
    read_current_rows,
    read_header,
    read_rows,
    sorted_names,
)

PATTERNS: Final = ("gene2go*", "gene2pubmed*", "go*.obo*", "*links*.tsv*", "*.gmt*")
PAPER_GENES: Final = (2, 100)  # papers of fewer genes link none, of more are screens
_ANCESTORS: Final = re.compile(r"^(?:is_a: |relationship: part_of )(GO:\d+)", re.MULTILINE)
_GO: Final = ("go_process", "go_function", "go_component")
_LICENSES: Final = {"pubmed": LICENSE, "go": GO_LICENSE, "parents": GO_LICENSE}
_PAIRS: Final = pa.schema([("gene_id", pa.int64()), ("term_id", pa.string())])


def find_term_files(folder: Path) -> list[Path]:
    """Find files with terms of genes in a folder, by their names."""
    return sorted({path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()})


def add_gene_terms(tables: SourceTables, paths: Sequence[Path]) -> SourceTables:
    """Add the terms of genes that files hold to a source; encoders ``terms:...`` are fitted on them.

    ``paths``: NCBI's ``gene2pubmed`` and ``gene2go``; ``go-basic.obo``, whose ancestors GO terms then bring along; gene
    sets, ``.gmt``, under the name of the file; pairs of genes that interact, ``.tsv`` with two columns of GeneIDs or
    symbols first. Each may be gzipped. The source gets ``terms``: by name (``go``, ``pubmed``, ``links``, ``groups``,
    or that of the gene sets) a table of ``gene_id`` and ``term``, each pair once. A file without a gene of the species
    gives the terms of orthologs. Raises ``SourceUnusable`` if a file is none of these, or is damaged.
    """
    found, annotated, parents = dict(tables.terms), [tables.annotations], dict[str, list[str]]()
    files, licences = list(tables.files), dict.fromkeys(tables.licence.split("; "))
    for path in paths:
        if path.name in {file.name for file in files}:
            continue  # gene2go, which the folder of the source has
        kind = _kind_of(path)
        rows, file = _READ[kind](path, tables)
        if kind != "parents" and not rows.num_rows and tables.orthologs.num_rows:
            rows, file = _READ[kind](path, _orthologs_of(tables))
            rows = _by_orthologs(rows, tables.orthologs)
        if kind in {"links", "sets"} and not rows.num_rows:
            raise SourceUnusable(f"{path}: none of {file.n_rows_read} rows has genes of the source; is it its species?")
        files.append(file)
        licences[_LICENSES.get(kind, f"{path.name}: no licence stated")] = None
        if kind == "parents":
            parents = rows
        elif kind == "go":
            annotated.append(rows)
        elif rows.num_rows:
            found[path.name.removesuffix(".gz").removesuffix(".gmt").lower() if kind == "sets" else kind] = rows
    for name, vocabularies in {"go": _GO, "groups": ("gene_group",)}.items():
        kept = [each.filter(pc.is_in(each["vocabulary"], strings(vocabularies))) for each in annotated]
        if sum(map(len, kept)):
            pairs = pa.concat_tables([each.select(["gene_id", "term_id"]).cast(_PAIRS) for each in kept])
            found[name] = _with_ancestors(pairs, parents if name == "go" else {})
    release_unused()  # of the rows that were grouped
    return replace(tables, terms=found, files=tuple(files), licence="; ".join(licences))


def _kind_of(path: Path) -> str:
    """Recognize a file by its ending or its header."""
    if not path.is_file():
        raise SourceUnusable(f"{path} does not exist; give a file with terms of genes")
    try:
        check_gzip(path)
    except (OSError, EOFError) as error:
        raise damaged(path, str(error)[:100]) from error
    for ending, kind in ((".obo", "parents"), (".gmt", "sets")):
        if path.name.removesuffix(".gz").endswith(ending):
            return kind
    header = read_header(path)
    kinds = {"gene2pubmed": "pubmed", "gene2go": "go"}
    return next((kind for name, kind in kinds.items() if header == list(NCBI_FILES[name].columns)), "links")


def _orthologs_of(tables: SourceTables) -> SourceTables:
    """Human orthologs of genes as a source of their own."""
    pairs = tables.orthologs
    gene_ids = pairs["ortholog_gene_id"].unique()
    genes = pa.table({"gene_id": gene_ids, "tax_id": pa.repeat(find_taxon(REFERENCE_TAXON).tax_id, len(gene_ids))})
    return replace(
        tables,
        genes=genes,
        names=sorted_names([name_rows(pairs["ortholog_symbol"], pairs["ortholog_gene_id"], "symbol")]),
    )


def _by_orthologs(rows: pa.Table, orthologs: pa.Table) -> pa.Table:
    """Give the rows of human genes to their orthologs."""
    pairs = orthologs.select(["gene_id", "ortholog_gene_id"])
    columns = rows.column_names
    rows = rows.rename_columns(["ortholog_gene_id", *columns[1:]])
    joined = pairs.join(rows, keys="ortholog_gene_id", join_type="inner", use_threads=False).select(columns)
    return _distinct(joined)


def _distinct(rows: pa.Table) -> pa.Table:
    """Rows, each once, in order."""
    columns = rows.column_names
    return rows.group_by(columns, use_threads=False).aggregate([]).sort_by([(name, "ascending") for name in columns])


def _read_go(path: Path, tables: SourceTables) -> tuple[pa.Table, SourceFile]:
    """GO terms of genes in columns of annotations, without negated ones."""
    rows, file, _ = read_current_rows(path, "gene2go", tables.genes)
    kept = rows.filter(pc.and_(pc.invert(is_negated(rows)), pc.is_valid(rows["GO_ID"])))
    vocabulary = pa.repeat(_GO[0], kept.num_rows)
    columns = {"gene_id": kept["GeneID"].cast(pa.int64()), "vocabulary": vocabulary, "term_id": kept["GO_ID"]}
    return pa.table(columns), file


def _read_parents(path: Path, tables: SourceTables) -> tuple[dict[str, list[str]], SourceFile]:
    """Parents of each GO term, by ``is_a`` and ``part_of``, from an .obo."""
    del tables
    try:
        with open_text(path) as stream:
            stanzas = stream.read().split("\n[Term]\n")[1:]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise damaged(path, str(error)[:100]) from error
    parents = {stanza[4:14]: _ANCESTORS.findall(stanza) for stanza in stanzas if stanza.startswith("id: GO:")}
    if not parents:
        raise SourceUnusable(f"{path} has no [Term] with an id of GO; give go-basic.obo")
    return parents, describe_file(path, n_rows_read=len(stanzas), n_rows_kept=len(parents))


def _with_ancestors(pairs: pa.Table, parents: Mapping[str, Sequence[str]]) -> pa.Table:
    """Give each gene its terms and their ancestors, each once."""
    closures: dict[str, frozenset[str]] = {}

    def closure(term: str) -> frozenset[str]:
        if term not in closures:
            closures[term] = frozenset([term]).union(*map(closure, parents.get(term, ())))
        return closures[term]

    spread = [(term, each) for term in pairs["term_id"].unique().to_pylist() for each in closure(term)]
    own, ancestors = (strings([pair[side] for pair in spread]) for side in (0, 1))
    found = pairs.join(pa.table({"term_id": own, "term": ancestors}), "term_id", join_type="inner")
    return _distinct(found.select(["gene_id", "term"]))


def _read_papers(path: Path, tables: SourceTables) -> tuple[pa.Table, SourceFile]:
    rows, file, _ = read_current_rows(path, "gene2pubmed", tables.genes)
    rows = rows.group_by(["GeneID", "PubMed_ID"]).aggregate([])
    counts = rows["PubMed_ID"].value_counts()
    n_genes = counts.field("counts")
    papers = counts.field("values").filter(
        pc.and_(pc.greater_equal(n_genes, PAPER_GENES[0]), pc.less_equal(n_genes, PAPER_GENES[1]))
    )
    kept = rows.filter(pc.is_in(rows["PubMed_ID"], papers))
    found = pa.table({"gene_id": kept["GeneID"].cast(pa.int64()), "term": kept["PubMed_ID"]})
    return _distinct(found), replace(file, n_rows_kept=kept.num_rows)


def _read_links(path: Path, tables: SourceTables) -> tuple[pa.Table, SourceFile]:
    """Each gene has those that it interacts with as terms, and itself."""
    columns = read_header(path)
    if len(columns) < 2:  # noqa: PLR2004 - a pair
        raise SourceUnusable(
            f"{path} has the column {columns[0][:40]!r} alone; give gene2pubmed, gene2go, go-basic.obo, a .gmt, or "
            "pairs of genes, .tsv with a header and two columns"
        )
    rows, file = read_rows(path, columns)
    sides = (current_gene_ids(rows[column].fill_null("").to_pylist(), tables) for column in columns[:2])
    left, right = map(np.array, sides)
    is_pair = (left > 0) & (right > 0) & (left != right)
    left, right = left[is_pair], right[is_pair]
    others = integers(np.concatenate([right, left, left, right])).cast(pa.string())
    pairs = pa.table({"gene_id": integers(np.concatenate([left, right, left, right])), "term": others})
    return _distinct(pairs), replace(file, n_rows_kept=len(left))


def _read_gmt(path: Path, tables: SourceTables) -> tuple[pa.Table, SourceFile]:
    try:
        with open_text(path) as stream:
            sets = [line.rstrip("\r\n").split("\t") for line in stream if line.strip()]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise damaged(path, str(error)[:100]) from error
    listed = [(name, gene) for name, _, *genes in (each for each in sets if len(each) > 2) for gene in genes]  # noqa: PLR2004
    gene_ids = current_gene_ids([gene for _, gene in listed], tables)
    found = pa.table({"gene_id": integers(gene_ids), "term": strings([name for name, _ in listed])})
    table = _distinct(found.filter(pc.greater(found["gene_id"], 0)))
    return table, describe_file(path, n_rows_read=len(sets), n_rows_kept=len(set(table["term"].to_pylist())))


_READ: Final[Mapping[str, Callable[[Path, SourceTables], tuple[Any, SourceFile]]]] = {
    "parents": _read_parents,
    "go": _read_go,
    "pubmed": _read_papers,
    "links": _read_links,
    "sets": _read_gmt,
}
