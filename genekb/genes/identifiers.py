"""Identifiers that a store does not hold, by a table of the user's: UniProt, RefSeq, Ensembl transcripts, array probes.

Any table with a header serves that has a column of GeneIDs, Ensembl genes or symbols: HGNC's complete set, gene2refseq,
gene2ensembl, an export of BioMart, the annotation of a platform from GEO or its maker. Every other column is searched.
"""

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from genekb.core.errors import SourceUnusable
from genekb.core.messages import listed
from genekb.files.tables import read_rows
from genekb.genes.resolve import Resolution

# Columns of genes, in lower case without separators, the surest first
_GENE_COLUMNS: Final = (
    *("geneid", "entrezid", "entrezgeneid", "entrezgene", "entrez", "ncbigeneid", "ncbigeneformerlyentrezgeneid"),
    *("ensemblgeneid", "ensemblgene", "ensembl", "genestableid", "ensemblgeneidentifier"),
    *("symbol", "genesymbol", "hgncsymbol", "approvedsymbol", "genename", "genenamesprimary", "gene", "ilmngene"),
)
_LIST: Final = re.compile(r"\s*(?:///|[|;,])\s*|\s+//\s+")
_VERSION: Final = re.compile(r"^((?:[NX][MRP]_|ENS[A-Z]*[TPG])\d+)\.\d+$|^([A-Z0-9]{6,10})-\d{1,2}$")
_NOTHING: Final = {"", "-", "---", "NA"}


def resolve_by_table(
    names: tuple[str, ...], path: Path | None, *, resolve: Callable[[tuple[str, ...]], Resolution]
) -> Resolution:
    """Resolve names that the store does not know, and numbers, by the genes of a table, with the status ``table``.

    ``path``: no table if None. ``resolve``: resolves genes, and all other names. A name of several genes is ambiguous.
    Versions (``NM_000616.5``, ``P01730-2``) count if the table has them, and are left out else.
    """
    if path is None:
        return resolve(names)
    in_table = read_identifiers(path, names)
    genes = sorted({gene for several in in_table.values() for gene in several})
    of_gene = dict(zip(genes, resolve(tuple(genes)).gene_ids.tolist(), strict=True))
    found = resolve(names)
    gene_ids, status, candidates = found.gene_ids.copy(), found.status.copy(), dict(found.candidates)
    for row, name in enumerate(names):
        if name in in_table and (not found.is_resolved[row] or name.isdigit()):
            known = tuple(sorted({of_gene[gene] for gene in in_table[name]} - {0}))
            candidates.pop(row, None)
            if len(known) > 1:
                candidates[row] = known
            gene_ids[row] = known[0] if len(known) == 1 else 0
            status[row] = ("unknown", "table", "ambiguous")[min(len(known), 2)]
    return Resolution(names=names, gene_ids=gene_ids, status=status, candidates=candidates)


def read_identifiers(path: Path, names: Collection[str]) -> dict[str, set[str]]:
    """Read the genes of those of some names that a table has; raise ``SourceUnusable`` if it has no column of genes."""
    rows = [row for _, row in read_rows(path, "a table of identifiers") if not row[0].startswith(("#", "!", "^"))]
    header = rows[0] if rows else []
    plain = [re.sub(r"[^a-z]", "", column.lower()) for column in header]
    column = next((plain.index(name) for name in _GENE_COLUMNS if name in plain), None)
    if column is None:
        raise SourceUnusable(
            f"{path} has no column of genes (gene_id, ensembl or symbol); it has {listed(header, most=6)}"
        )
    asked = set(names)
    by_stem: dict[str, list[str]] = {}
    for name in names:
        by_stem.setdefault(_stem(name), []).append(name)
    found: dict[str, set[str]] = {}
    for row in rows[1:]:
        genes = _members(row[column]) if column < len(row) else set()
        others = row[:column] + row[column + 1 :] if genes else []
        for name in {name for cell in others for name in _members(cell)}:
            for one in ({name} & asked) or by_stem.get(_stem(name), []):
                found.setdefault(one, set()).update(genes)
    return found


def _stem(name: str) -> str:
    match = _VERSION.match(name)
    return (match[1] or match[2]) if match else name


def _members(cell: str) -> set[str]:
    return set(_LIST.split(cell)) - _NOTHING
