"""Terms of genes for annotation encoders: GO with its ancestors, papers, interactions, gene groups, gene sets."""

import gzip
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from genekb.core.errors import SourceUnusable
from genekb.files.limits import check_gzip
from genekb.genes.resolve import resolve_names
from genekb.schema import integers, numbers, strings
from genekb.sources.base import (
    GO_LICENSE,
    LICENSE,
    NCBI_FILES,
    SourceFile,
    SourceTables,
    damaged,
    describe_file,
    read_header,
    read_ncbi_file,
    read_rows,
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
    or that of the gene sets) a table of ``gene_id`` and ``term``, each pair once. Raises ``SourceUnusable`` if a file
    is none of these, or is damaged.
    """
    found, annotated, parents = dict(tables.terms), [tables.annotations], dict[str, list[str]]()
    files, licences = list(tables.files), dict.fromkeys(tables.licence.split("; "))
    for path in paths:
        if path.name in {file.name for file in files}:
            continue  # gene2go, which the folder of the source has
        kind = _kind_of(path)
        rows, file = _READ[kind](path, tables)
        files.append(file)
        licences[_LICENSES.get(kind, f"{path.name}: no licence stated")] = None
        if kind == "parents":
            parents = rows
        elif kind == "go":
            annotated.append(rows)
        else:
            found[path.name.removesuffix(".gz").removesuffix(".gmt").lower() if kind == "sets" else kind] = rows
    for name, vocabularies in {"go": _GO, "groups": ("gene_group",)}.items():
        kept = [each.filter(pc.is_in(each["vocabulary"], strings(vocabularies))) for each in annotated]
        if sum(map(len, kept)):
            pairs = pa.concat_tables([each.select(["gene_id", "term_id"]).cast(_PAIRS) for each in kept])
            found[name] = _distinct(*_with_ancestors(pairs, parents if name == "go" else {}))
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


def _distinct(gene_ids: Iterable[int], terms: Iterable[str]) -> pa.Table:
    """Pairs of gene and term, each once, in order."""
    pairs = sorted(set(zip(gene_ids, terms, strict=True)))
    return pa.table({"gene_id": integers([gene for gene, _ in pairs]), "term": strings([term for _, term in pairs])})


def _of_current_genes(path: Path, name: str, tables: SourceTables) -> tuple[pa.Table, SourceFile]:
    gene = NCBI_FILES[name].columns[1]
    known = tables.genes["gene_id"].cast(pa.string()).combine_chunks()
    rows, file = read_ncbi_file(path, name, lambda block: block.filter(pc.is_in(block[gene], known)))
    return rows, replace(file, n_rows_kept=rows.num_rows)


def _read_go(path: Path, tables: SourceTables) -> tuple[pa.Table, SourceFile]:
    """GO terms of genes in columns of annotations, without negated ones."""
    rows, file = _of_current_genes(path, "gene2go", tables)
    negated = pc.fill_null(pc.starts_with(rows["Qualifier"], "NOT"), fill_value=False)
    kept = rows.filter(pc.and_(pc.invert(negated), pc.is_valid(rows["GO_ID"])))
    vocabulary = pa.repeat(_GO[0], kept.num_rows)
    columns = {"gene_id": kept["GeneID"].cast(pa.int64()), "vocabulary": vocabulary, "term_id": kept["GO_ID"]}
    return pa.table(columns), file


def _read_parents(path: Path, tables: SourceTables) -> tuple[dict[str, list[str]], SourceFile]:
    """Parents of each GO term, by ``is_a`` and ``part_of``, from an .obo."""
    del tables
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as stream:
            stanzas = stream.read().split("\n[Term]\n")[1:]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise damaged(path, str(error)[:100]) from error
    parents = {stanza[4:14]: _ANCESTORS.findall(stanza) for stanza in stanzas if stanza.startswith("id: GO:")}
    if not parents:
        raise SourceUnusable(f"{path} has no [Term] with an id of GO; give go-basic.obo")
    return parents, describe_file(path, n_rows_read=len(stanzas), n_rows_kept=len(parents))


def _with_ancestors(pairs: pa.Table, parents: Mapping[str, Sequence[str]]) -> tuple[list[int], list[str]]:
    """Give each gene the ancestors of its terms, too."""
    closures: dict[str, frozenset[str]] = {}

    def closure(term: str) -> frozenset[str]:
        if term not in closures:
            closures[term] = frozenset([term]).union(*map(closure, parents.get(term, ())))
        return closures[term]

    own = zip(pairs["gene_id"].to_pylist(), pairs["term_id"].to_pylist(), strict=True)
    listed = [(gene_id, each) for gene_id, term in own for each in closure(term)]
    return [gene_id for gene_id, _ in listed], [term for _, term in listed]


def _read_papers(path: Path, tables: SourceTables) -> tuple[pa.Table, SourceFile]:
    rows, file = _of_current_genes(path, "gene2pubmed", tables)
    rows = rows.group_by(["GeneID", "PubMed_ID"]).aggregate([])
    counts = rows["PubMed_ID"].value_counts()
    n_genes = counts.field("counts")
    papers = counts.field("values").filter(
        pc.and_(pc.greater_equal(n_genes, PAPER_GENES[0]), pc.less_equal(n_genes, PAPER_GENES[1]))
    )
    kept = rows.filter(pc.is_in(rows["PubMed_ID"], papers))
    gene_ids = kept["GeneID"].cast(pa.int64()).to_pylist()
    return _distinct(gene_ids, kept["PubMed_ID"].to_pylist()), replace(file, n_rows_kept=kept.num_rows)


def _read_links(path: Path, tables: SourceTables) -> tuple[pa.Table, SourceFile]:
    """Each gene has those that it interacts with as terms, and itself."""
    columns = read_header(path)
    if len(columns) < 2:  # noqa: PLR2004 - a pair
        raise SourceUnusable(
            f"{path} has the column {columns[0][:40]!r} alone; give gene2pubmed, gene2go, go-basic.obo, a .gmt, or "
            "pairs of genes, .tsv with a header and two columns"
        )
    rows, file = read_rows(path, columns)
    left, right = (_as_gene_ids(rows[column].to_pylist(), tables) for column in columns[:2])
    pairs = [(one, other) for one, other in zip(left, right, strict=True) if one and other and one != other]
    if not pairs:
        raise SourceUnusable(f"{path}: none of {rows.num_rows} pairs is of two genes of the source; is it its species?")
    both = [*pairs, *((other, one) for one, other in pairs), *((gene, gene) for pair in pairs for gene in pair)]
    table = _distinct([gene for gene, _ in both], [str(other) for _, other in both])
    return table, replace(file, n_rows_kept=len(pairs))


def _read_gmt(path: Path, tables: SourceTables) -> tuple[pa.Table, SourceFile]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as stream:
            sets = [line.rstrip("\r\n").split("\t") for line in stream if line.strip()]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise damaged(path, str(error)[:100]) from error
    listed = [(name, gene) for name, _, *genes in (each for each in sets if len(each) > 2) for gene in genes]  # noqa: PLR2004
    gene_ids = _as_gene_ids([gene for _, gene in listed], tables)
    pairs = [(gene_id, name) for gene_id, (name, _) in zip(gene_ids, listed, strict=True) if gene_id]
    if not pairs:
        raise SourceUnusable(f"{path}: none of {len(sets)} sets has a gene of the source; is it its species?")
    table = _distinct([gene for gene, _ in pairs], [name for _, name in pairs])
    return table, describe_file(path, n_rows_read=len(sets), n_rows_kept=len(set(table["term"].to_pylist())))


def _as_gene_ids(names: Sequence[str], tables: SourceTables) -> list[int]:
    """GeneIDs among those of the source, of numbers or names; 0 where there is none."""
    known = set(tables.genes["gene_id"].to_pylist())
    distinct = sorted({name for name in names if name and not name.isdecimal()})
    resolution = resolve_names(distinct, name_table=tables.names, gene_ids=tables.genes["gene_id"])
    by_name = dict(zip(distinct, numbers(resolution.gene_ids).tolist(), strict=True))
    ids = (int(name) if name.isdecimal() else by_name[name] for name in map(str, names))
    return [gene_id if gene_id in known else 0 for gene_id in ids]


_READ: Final[Mapping[str, Callable[[Path, SourceTables], tuple[Any, SourceFile]]]] = {
    "parents": _read_parents,
    "go": _read_go,
    "pubmed": _read_papers,
    "links": _read_links,
    "sets": _read_gmt,
}
