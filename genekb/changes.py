"""What changed between two sets of gene records and their texts."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True, kw_only=True, slots=True)
class Renamed:
    """A gene whose current symbol changed."""

    gene_id: int
    old: str
    new: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Retired:
    """A gene that is gone, and the GeneID that took its place, where the new names tell it (else 0)."""

    gene_id: int
    symbol: str
    replaced_by: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """Genes and texts that differ; every list is ordered by GeneID.

    Parameters
    ----------
    added, retired, renamed
        Genes that are new, gone, or under another symbol.
    text_changed
        Genes in both whose text is another.
    text_gained, text_lost
        Genes in both that have a text only in the new, or only in the old.
    n_unchanged
        Genes in both with the same symbol and the same text, or none in either.
    """

    added: tuple[int, ...]
    retired: tuple[Retired, ...]
    renamed: tuple[Renamed, ...]
    text_changed: tuple[int, ...]
    text_gained: tuple[int, ...]
    text_lost: tuple[int, ...]
    n_unchanged: int

    def counts(self) -> dict[str, int]:
        """Give the number of each kind of change."""
        return {
            "genes_added": len(self.added),
            "genes_retired": len(self.retired),
            "genes_retired_with_successor": sum(gene.replaced_by > 0 for gene in self.retired),
            "genes_renamed": len(self.renamed),
            "texts_changed": len(self.text_changed),
            "texts_gained": len(self.text_gained),
            "texts_lost": len(self.text_lost),
            "genes_unchanged": self.n_unchanged,
        }


def find_changes(old: Mapping[str, pa.Table], new: Mapping[str, pa.Table]) -> Changes:
    """Compare two stores' tables, or a store's with those of one that is planned.

    Parameters
    ----------
    old, new
        Tables ``genes``, ``names`` and ``texts`` in the schemas of :mod:`genekb.schema`.
    """
    old_symbol, new_symbol = _column(old["genes"], "symbol"), _column(new["genes"], "symbol")
    old_text, new_text = _column(old["texts"], "text_id"), _column(new["texts"], "text_id")
    both = sorted(old_symbol.keys() & new_symbol.keys())
    gone = sorted(old_symbol.keys() - new_symbol.keys())
    successors = _successors(new["names"], gone)
    renamed = [gene for gene in both if old_symbol[gene] != new_symbol[gene]]
    differs = [gene for gene in both if old_text.get(gene) != new_text.get(gene)]
    return Changes(
        added=tuple(sorted(new_symbol.keys() - old_symbol.keys())),
        retired=tuple(
            Retired(gene_id=gene, symbol=old_symbol[gene], replaced_by=successors.get(gene, 0)) for gene in gone
        ),
        renamed=tuple(Renamed(gene_id=gene, old=old_symbol[gene], new=new_symbol[gene]) for gene in renamed),
        text_changed=tuple(gene for gene in differs if gene in old_text and gene in new_text),
        text_gained=tuple(gene for gene in differs if gene not in old_text),
        text_lost=tuple(gene for gene in differs if gene not in new_text),
        n_unchanged=len(set(both) - set(renamed) - set(differs)),
    )


def _column(table: pa.Table, name: str) -> dict[int, str]:
    return dict(zip(table["gene_id"].to_pylist(), table[name].to_pylist(), strict=True))


def _successors(names: pa.Table, gone: list[int]) -> dict[int, int]:
    rows = names.filter(
        pc.and_(pc.equal(names["kind"], "retired_id"), pc.is_in(names["name"], pa.array(map(str, gone), pa.string())))
    )
    return {int(row["name"]): row["gene_id"] for row in rows.to_pylist()}
