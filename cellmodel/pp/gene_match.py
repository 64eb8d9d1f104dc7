"""Genes that several data sets share: matched by name, and through a store by GeneID and orthologue."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int

import genekb
from cellmodel.core.errors import AlignmentTooLow
from cellmodel.io.matrix import are_numbered
from genekb.core.errors import SpeciesMismatch
from genekb.core.messages import counted
from genekb.genes.taxa import find_taxon, taxon_name

MIN_SHARED: Final = 50  # genes; fewer span too small a space
_BOTH: Final = (
    "give a store of both species (`genekb build` takes more than one `taxon`), or of that species with its human "
    "orthologues, or cluster each species apart"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneTable:
    """Genes of one data set."""

    source: str
    names: tuple[str, ...]
    totals: Float[np.ndarray, " gene"]  # sum of the values of each gene, by which one of several columns is chosen


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedGenes:
    """Genes that all data sets have, in the order of the first one."""

    names: tuple[str, ...]  # the name that all sets use, else the current symbol
    columns: tuple[Int[np.ndarray, " gene"], ...]  # for each set, the column of each gene
    by_ortholog: tuple[bool, ...]  # for each set, whether its genes are matched as those of another species
    n_by_id: int = 0  # genes that have different names in the sets
    # n_resolved, species: for each set, how many names the store knows, and whose they are; empty without a store
    n_resolved: tuple[int, ...] = ()
    species: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ids:
    """GeneIDs of one data set: those of its own species, and those by which it is matched."""

    own: Int[np.ndarray, " gene"]
    matched: Int[np.ndarray, " gene"]
    by_ortholog: bool


def columns_by_gene_id(
    gene_ids: Int[np.ndarray, " gene"], totals: Float[np.ndarray, " gene"]
) -> Int[np.ndarray, " column"]:
    """Columns in ascending order of GeneID, each above 0 once: of several columns that with the highest total."""
    by_total = np.argsort(-totals, kind="stable")
    known = by_total[gene_ids[by_total] > 0]
    return np.asarray(known[np.unique(gene_ids[known], return_index=True)[1]])


def human_gene_ids(gene_ids: Int[np.ndarray, " gene"], kb: genekb.Store) -> Int[np.ndarray, " gene"]:
    """GeneID of the orthologue where the store names one; a gene with several keeps that of the lowest GeneID."""
    import pandas as pd

    table, ids = kb.table("orthologs").select(["gene_id", "ortholog_gene_id"]).to_pandas(), pd.Series(gene_ids)
    lowest = table.groupby("gene_id")["ortholog_gene_id"].min()
    return ids.map(lowest).fillna(ids).to_numpy(dtype=np.int64)


def match_genes(tables: Sequence[GeneTable], kb: genekb.Store | None, *, use_orthologs: bool = False) -> SharedGenes:
    """Match the genes of several data sets.

    A name that all sets have is one gene; the other genes are matched by GeneID where there is a store, one column a
    set. ``use_orthologs``: symbols of another species map to a gene in every set, else in sets of another species
    alone. Raises ``AlignmentTooLow`` if fewer than :data:`MIN_SHARED` genes are shared (half of those of the smallest
    set where that is less), or a set is of a species that the store cannot match.
    """
    for table in tables:
        if are_numbered(table.names):
            raise AlignmentTooLow(
                f"{table.source}: the genes are numbered and have no names, so that they cannot be matched; name the "
                "column of var that has symbols or identifiers with `gene_key`"
            )
    found = _match_by_name(tables)
    if kb is not None:
        known = {names: kb.resolve(names, use_orthologs=True) for names in {table.names for table in tables}}
        resolved = [known[table.names] for table in tables]
        if any(len(table.names) > len(found.names) for table in tables):
            _check_species(tables, resolved, kb)
            found = _match_by_id(found, tables, _ids_of(resolved, kb, use_orthologs=use_orthologs), kb)
        found = replace(
            found,
            n_resolved=tuple(int((each.gene_ids > 0).sum()) for each in resolved),
            species=tuple(_species_of(each, kb) for each in resolved),
        )
    _check_shared(found, tables, kb)
    return found


def _match_by_name(tables: Sequence[GeneTable]) -> SharedGenes:
    """Match equal names; the second gene of a name is that of the other sets."""
    rows_of = [dict(zip(_numbered(table.names), count())) for table in tables]
    shared = [key for key in rows_of[0] if all(key in rows for rows in rows_of[1:])]
    return SharedGenes(
        names=tuple(name for name, _ in shared),
        columns=tuple(np.array([rows[key] for key in shared], dtype=np.int64) for rows in rows_of),
        by_ortholog=(False,) * len(tables),
    )


def _numbered(names: Sequence[str]) -> list[tuple[str, int]]:
    """Names, each with the number of its occurrence."""
    n_seen: dict[str, int] = {}
    keys = []
    for name in names:
        n_seen[name] = n_seen.get(name, 0) + 1
        keys.append((name, n_seen[name]))
    return keys


def _match_by_id(
    by_name: SharedGenes, tables: Sequence[GeneTable], ids: Sequence[_Ids], kb: genekb.Store
) -> SharedGenes:
    """Add genes with different names and the same GeneID; other columns of a gene that has been matched are left."""
    left, named = [], []
    for columns, each, table in zip(by_name.columns, ids, tables, strict=True):
        named.append(_highest(columns, each.matched, table.totals))
        rest = np.where(np.isin(each.matched, each.matched[columns]), 0, each.matched)
        rest[columns] = 0
        left.append(rest)
    chosen = [columns_by_gene_id(rest, table.totals) for rest, table in zip(left, tables, strict=True)]
    shared = set(left[0][chosen[0]].tolist())
    for rest, columns in zip(left[1:], chosen[1:], strict=True):
        shared.intersection_update(rest[columns].tolist())
    wanted = np.array(sorted(shared), dtype=np.int64)
    added = [columns[np.isin(rest[columns], wanted)] for rest, columns in zip(left, chosen, strict=True)]
    order = np.argsort(np.concatenate([by_name.columns[0], added[0]]), kind="stable")
    names = [*by_name.names, *_names_of(wanted, added, tables, ids, kb, taken=set(by_name.names))]
    return SharedGenes(
        names=tuple(names[row] for row in order),
        columns=tuple(np.concatenate(each)[order] for each in zip(named, added, strict=True)),
        by_ortholog=tuple(each.by_ortholog for each in ids),
        n_by_id=len(wanted),
    )


def _highest(
    columns: Int[np.ndarray, " gene"], gene_ids: Int[np.ndarray, " all"], totals: Float[np.ndarray, " all"]
) -> Int[np.ndarray, " gene"]:
    """Take, for each matched gene with one matched column, its column with the highest total, whatever its name."""
    best, found = columns_by_gene_id(gene_ids, totals), gene_ids[columns]
    _, inverse, counts = np.unique(found, return_inverse=True, return_counts=True)
    is_single = (found > 0) & (counts[inverse] == 1)
    taken = columns.copy()
    taken[is_single] = best[np.searchsorted(gene_ids[best], found[is_single])]
    return taken


def _names_of(
    gene_ids: Int[np.ndarray, " gene"],
    columns: Sequence[Int[np.ndarray, " gene"]],
    tables: Sequence[GeneTable],
    ids: Sequence[_Ids],
    kb: genekb.Store,
    *,
    taken: set[str],
) -> list[str]:
    """Name genes such that the store finds them again: by the current symbol, a name in a set, or the GeneID."""
    genes = kb.table("genes")
    symbols = dict(zip(genes["gene_id"].to_pylist(), genes["symbol"].to_pylist(), strict=True))
    wanted = [symbols.get(gene, "") for gene in gene_ids.tolist()]
    is_own = kb.resolve(wanted).gene_ids == gene_ids
    names = []
    for row, gene in enumerate(gene_ids.tolist()):
        sets = zip(columns, tables, ids, strict=True)
        others = [table.names[at[row]] for at, table, each in sets if each.own[at[row]] == gene]
        candidates = [wanted[row]] if is_own[row] else others
        names.append(next((name for name in candidates if name not in taken), str(gene)))
        taken.add(names[-1])
    return names


def _check_species(tables: Sequence[GeneTable], resolved: Sequence[genekb.Resolution], kb: genekb.Store) -> None:
    """Refuse a set of a species that the store cannot match."""
    for table, resolution in zip(tables, resolved, strict=True):
        try:
            kb.check_species(resolution)
        except SpeciesMismatch as error:
            why = str(error).rpartition("; ")[0]
            raise AlignmentTooLow(f"{table.source}: {why}; {_BOTH}") from error


def _ids_of(resolved: Sequence[genekb.Resolution], kb: genekb.Store, *, use_orthologs: bool) -> list[_Ids]:
    """GeneIDs of each set; sets of several species are matched by the orthologues of the store."""
    found = []
    for each in resolved:
        is_foreign = each.status == "ortholog"
        by_ortholog = _are_most(is_foreign, each.gene_ids)  # then it is a set of another species
        own = np.where(is_foreign, 0, each.gene_ids)
        matched = each.gene_ids if by_ortholog or use_orthologs else own
        found.append(_Ids(own=own, matched=matched, by_ortholog=by_ortholog))
    if len({_taxon_of(each.own, kb) for each in found}) == 1:
        return found
    human = [human_gene_ids(each.matched, kb) for each in found]
    return [
        replace(each, matched=ids, by_ortholog=each.by_ortholog or _are_most(ids != each.matched, each.matched))
        for each, ids in zip(found, human, strict=True)
    ]


def _species_of(resolution: genekb.Resolution, kb: genekb.Store) -> str:
    """Species of most names, empty if none is known; the orthologues of a store are human genes."""
    if not (resolution.gene_ids > 0).any():
        return ""
    if _are_most(resolution.status == "ortholog", resolution.gene_ids):
        return find_taxon("human").name
    return taxon_name(_taxon_of(resolution.gene_ids, kb))


def _are_most(flags: Bool[np.ndarray, " gene"], gene_ids: Int[np.ndarray, " gene"]) -> bool:
    """Whether most of the genes that are known are flagged."""
    return int(flags.sum()) > int((gene_ids > 0).sum()) / 2


def _taxon_of(gene_ids: Int[np.ndarray, " gene"], kb: genekb.Store) -> int:
    """Species of most genes of a set; the first one of the store where none is known."""
    genes = kb.table("genes")
    is_there = np.isin(genes["gene_id"].to_numpy(), gene_ids)
    taxa, counts = np.unique(genes["tax_id"].to_numpy()[is_there], return_counts=True)
    return int(taxa[counts.argmax()]) if len(taxa) else int(kb.manifest.taxa[0])


def _check_shared(found: SharedGenes, tables: Sequence[GeneTable], kb: genekb.Store | None) -> None:
    """Refuse sets that share too few genes, and name the one that fits least."""
    n_shared, smallest = len(found.names), min(len(table.names) for table in tables)
    needed = min(MIN_SHARED, max(2, smallest // 2))
    if n_shared >= needed:
        return
    worst = _fits_least(tables)
    others = " and ".join(table.source for table in tables if table is not worst) if len(tables) < 4 else "the others"  # noqa: PLR2004
    hint = f"is `gene_key` right? Else leave {worst.source} out"
    if kb is None:
        hint = "give a store (`kb`), by which symbols and identifiers are matched, and species by orthologues"
    raise AlignmentTooLow(
        f"{worst.source} and {others} share {counted(n_shared, 'gene')} ({', '.join(worst.names[:3])}, ... beside "
        f"{', '.join(next(table for table in tables if table is not worst).names[:3])}, ...), {needed} are needed; "
        f"{hint}"
    )


def _fits_least(tables: Sequence[GeneTable]) -> GeneTable:
    """Give the set without which the others share most names; the last one of several."""

    def n_without(one: GeneTable) -> int:
        sets = [set(table.names) for table in tables if table is not one]
        return len(sets[0].intersection(*sets[1:]))

    return max(reversed(tables), key=n_without)
