"""Resolve gene names of mixed kinds to GeneIDs.

The order is fixed: GeneID, Ensembl or database identifier, current official symbol, the nomenclature authority's
symbol where NCBI has another, retired GeneID or symbol, alias (if one gene alone has it), and, on request, the symbol
of an orthologue. A current symbol is never an alias of another gene, there is one hop only, case matters, and a name
of several genes is ambiguous. Only unknown names are repaired (:mod:`genekb.genes.repair_names`), as their status says.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from genekb.core.errors import SchemaMismatch
from genekb.genes.repair_names import propose_repairs
from genekb.schema import IntArray, StrArray

RANKS: Final = {
    "gene_id": 0,
    "ensembl": 1,
    "hgnc": 1,
    "mgi": 1,
    "flybase": 1,
    "rgd": 1,
    "zfin": 1,
    "symbol": 2,
    "authority_symbol": 3,
    "retired_id": 4,
    "retired_symbol": 5,
    "locus_tag": 6,
    "alias": 7,
    "ortholog": 8,
    "mitochondrial": 9,
    "date": 10,
    "mangled": 11,
}
# A version, the release of a lift-over and the mark of a gene on both sex chromosomes, as Ensembl and GENCODE add them
_ENSEMBL_VERSION: Final = re.compile(r"^(ENS[A-Z]*G\d{11})(?:\.\d+)?(?:_\d+)?(?:_PAR_Y)?$")
_ENSEMBL_PAR_Y: Final = re.compile(r"^ENSGR(\d{10})(?:\.\d+)?$")  # the same mark in GENCODE before release 25
_PLACEHOLDER: Final = "LOC"  # NCBI's symbol of a gene that has no other yet is LOC and its GeneID
_GENE_ID: Final = re.compile(rf"^(?:{_PLACEHOLDER})?(?P<number>[1-9]\d{{0,11}})$")
_Match: TypeAlias = tuple[str, tuple[int, ...]]  # kind of name, and the genes that it could be
_UNKNOWN: Final[_Match] = ("unknown", ())
_NONE: Final[tuple[int, str, list[int]]] = (len(RANKS), "", [])  # behind every rank


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """What each name was resolved to, in the order of the names.

    Parameters
    ----------
    names
        The names as they were given.
    gene_ids
        GeneID of each name; 0 where :attr:`is_resolved` is false.
    status
        How it was found (a key of :data:`RANKS`), or ``ambiguous``, or ``unknown``. The last three of the ranks are
        repaired names: ``mitochondrial`` (MT- written otherwise), ``date`` (1-Mar), ``mangled`` (HLA.DRA, MATR3.1).
    candidates
        GeneIDs that an ambiguous name could be, by its position.
    """

    names: tuple[str, ...]
    gene_ids: IntArray
    status: StrArray
    candidates: Mapping[int, tuple[int, ...]]

    @property
    def is_resolved(self) -> NDArray[np.bool_]:
        """Which names map to exactly one gene."""
        return self.gene_ids > 0


def normalise_name(name: str) -> str:
    """Remove the version of an Ensembl identifier, and surrounding blanks."""
    name = name.strip()
    if match := _ENSEMBL_VERSION.match(name):
        return match.group(1)
    if match := _ENSEMBL_PAR_Y.match(name):
        return f"ENSG0{match.group(1)}"
    return name


def resolve_names(
    names: Sequence[str], *, name_table: pa.Table, gene_ids: pa.ChunkedArray, use_orthologs: bool = False
) -> Resolution:
    """Resolve names of mixed kinds against the name table of a store.

    ``name_table``: in the schema :data:`genekb.schema.NAMES`. ``gene_ids``: every current GeneID. ``use_orthologs``:
    whether the symbol of an orthologue of another species may map to a gene. Raises ``SchemaMismatch`` if the table
    holds a kind of name that is not in :data:`RANKS`.
    """
    keys = [normalise_name(str(name)) for name in names]
    found = _find(keys, name_table, gene_ids, use_orthologs=use_orthologs)
    repaired = _find_repaired(found, name_table, gene_ids, use_orthologs=use_orthologs)
    every = [repaired.get(key) or found[key] for key in keys]
    return Resolution(
        names=tuple(map(str, names)),
        gene_ids=np.array([genes[0] if len(genes) == 1 else 0 for _, genes in every], dtype=np.int64),
        status=np.array([_status(kind, genes) for kind, genes in every], dtype="<U16"),
        candidates={position: genes for position, (_, genes) in enumerate(every) if len(genes) > 1},
    )


def _status(kind: str, genes: tuple[int, ...]) -> str:
    return "ambiguous" if len(genes) > 1 else kind


def _find(
    keys: Iterable[str], name_table: pa.Table, gene_ids: pa.ChunkedArray, *, use_orthologs: bool
) -> dict[str, _Match]:
    """For each distinct key the first kind that has it, and its genes."""
    distinct = set(keys)
    best: dict[str, tuple[int, str, list[int]]] = {}
    for name, kind, gene in _rows(distinct, name_table, gene_ids):
        if kind == "ortholog" and not use_orthologs:
            continue
        rank, other, genes = best.get(name, _NONE)
        if RANKS[kind] < rank:
            best[name] = (RANKS[kind], kind, [gene])
        elif RANKS[kind] == rank:
            best[name] = (rank, min(kind, other), [*genes, gene])
    found = dict.fromkeys(distinct, _UNKNOWN)
    found.update({name: (kind, tuple(sorted(set(genes)))) for name, (_, kind, genes) in best.items()})
    return found


def _rows(keys: set[str], name_table: pa.Table, gene_ids: pa.ChunkedArray) -> Iterator[tuple[str, str, int]]:
    """Yield name, kind and gene of the rows of the table, and the GeneIDs, that are among the keys."""
    rows = name_table.filter(pc.is_in(name_table["name"], pa.array(sorted(keys), pa.string())))
    strange = set(rows["kind"].unique().to_pylist()) - RANKS.keys()
    if strange:
        raise SchemaMismatch(
            f"names of kind {', '.join(sorted(strange))} are unknown to this version of genekb "
            f"(it knows {', '.join(RANKS)}); update genekb"
        )
    yield from zip(*(rows[column].to_pylist() for column in ("name", "kind", "gene_id")), strict=True)
    numbers = {key: int(match["number"]) for key in keys if (match := _GENE_ID.match(key))}
    current = pa.array(sorted(set(numbers.values())), pa.int64())
    current_ids = set(current.filter(pc.is_in(current, gene_ids.combine_chunks())).to_pylist())
    for key, number in numbers.items():
        if number in current_ids:
            yield key, "retired_symbol" if key.startswith(_PLACEHOLDER) else "gene_id", number


def _find_repaired(
    found: dict[str, _Match], name_table: pa.Table, gene_ids: pa.ChunkedArray, *, use_orthologs: bool
) -> dict[str, _Match]:
    """Resolve the unknown names by the first repair that finds any gene."""
    unknown = [key for key, (kind, _) in found.items() if kind == "unknown"]
    repairs = propose_repairs(unknown, given=found.keys(), name_table=name_table)
    spellings = {spelling for tried in repairs.values() for repair in tried for spelling in repair.spellings}
    known = _find(spellings, name_table, gene_ids, use_orthologs=use_orthologs)
    repaired = {}
    for name, tried in repairs.items():
        for repair in tried:
            hits = [known[spelling] for spelling in repair.spellings if known[spelling] is not _UNKNOWN]
            if hits:
                best = min(RANKS[kind] for kind, _ in hits)
                genes = {gene for kind, each in hits if RANKS[kind] == best for gene in each}
                repaired[name] = (repair.kind, tuple(sorted(genes)))
                break
    return repaired
