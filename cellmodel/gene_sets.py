"""Named sets of genes: those that a store knows, and a user's GMT file, its names resolved by the store."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import genekb
from cellmodel.errors import InputUnusable

log = logging.getLogger(__name__)
STORED: Final = ("go_process", "go_function", "go_component", "gene_group")  # vocabularies that name sets of genes
_GMT_COLUMNS: Final = 3  # name, description, at least one gene


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneSet:
    """A named set of genes.

    Parameters
    ----------
    source
        The vocabulary of the store, or the name of the file.
    set_id
        Identifier in the source, or what the file says about the set.
    name
        Its name.
    gene_ids
        GeneIDs of its genes.
    """

    source: str
    set_id: str
    name: str
    gene_ids: frozenset[int]


def stored_gene_sets(kb: genekb.Store) -> tuple[GeneSet, ...]:
    """Give the GO terms and gene groups that a store was built with, each with the genes that it was given to itself.

    A gene of a narrower term is not counted for the broader one: the store holds no tree of terms.
    """
    table = kb.table("annotations").select(["vocabulary", "term_id", "term", "gene_id"])
    members: dict[tuple[str, str, str], set[int]] = {}
    for vocabulary, term_id, term, gene_id in zip(*(column.to_pylist() for column in table.columns), strict=True):
        if vocabulary in STORED:
            members.setdefault((vocabulary, term_id, term), set()).add(gene_id)
    return tuple(
        GeneSet(source=source, set_id=set_id, name=name, gene_ids=frozenset(genes))
        for (source, set_id, name), genes in sorted(members.items())
    )


def read_gmt(path: Path, kb: genekb.Store, *, use_orthologs: bool = False) -> tuple[GeneSet, ...]:
    """Read a GMT file: a set a line, its name, a description and its genes, set apart by tabs.

    Genes may be symbols, aliases, Ensembl identifiers or GeneIDs, also mixed.

    Parameters
    ----------
    use_orthologs
        Whether symbols of an orthologue of another species may stand for a gene.

    Raises
    ------
    InputUnusable
        If the file cannot be read, a line is no set, a name occurs twice, or the store knows none of the genes.
    """
    rows = _read_rows(path)
    names = sorted({gene for _, _, genes in rows for gene in genes})
    resolution = kb.resolve(names, use_orthologs=use_orthologs)
    known = {name: gene for name, gene in zip(names, resolution.gene_ids.tolist(), strict=True) if gene > 0}
    if not known:
        raise InputUnusable(
            f"0 of the {len(names)} gene names of {path} ({', '.join(names[:3])}, ...) are known to {kb.store_id}; are "
            "they of the same species? Symbols of another one need --orthologs"
        )
    log.log(
        logging.INFO if 2 * len(known) >= len(names) else logging.WARNING,
        "%d of the %d gene names of %s are known to %s",
        *(len(known), len(names), path, kb.store_id),
    )
    return tuple(
        GeneSet(
            source=path.name, set_id=said, name=name, gene_ids=frozenset(known[gene] for gene in genes if gene in known)
        )
        for name, said, genes in rows
    )


def _read_rows(path: Path) -> list[tuple[str, str, list[str]]]:
    """Name, description and genes of every line that is not blank."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputUnusable(f"{path} cannot be read as a GMT file: {error}; give a text file in UTF-8") from error
    rows: dict[str, tuple[str, str, list[str]]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) < _GMT_COLUMNS or not cells[0]:
            raise InputUnusable(
                f"line {number} of {path} has {len(cells)} columns; a set is its name, a description and its genes, "
                "set apart by tabs"
            )
        if cells[0] in rows:
            raise InputUnusable(f"line {number} of {path} names {cells[0]!r} again; give every set a name of its own")
        rows[cells[0]] = (cells[0], cells[1], [cell for cell in cells[2:] if cell])
    if not rows:
        raise InputUnusable(f"{path} holds no set; a line is a name, a description and genes, set apart by tabs")
    return list(rows.values())
