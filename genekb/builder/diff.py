"""Differences between two sets of gene records, their texts and vectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genekb.core.errors import SourceUnusable
from genekb.core.python import for_python
from genekb.schema import FloatArray, IntArray
from genekb.share.open import open
from genekb.store.reader import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Renamed:
    """A gene whose current symbol changed."""

    gene_id: int
    old: str
    new: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Retired:
    """A gene that is gone, and the GeneID that replaces it, where the new names have it (else 0)."""

    gene_id: int
    symbol: str
    replaced_by: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """Genes and texts that differ; every list is ordered by GeneID."""

    added: tuple[int, ...]  # added, retired, renamed: genes that are new, gone, or under another symbol
    retired: tuple[Retired, ...]
    renamed: tuple[Renamed, ...]
    text_changed: tuple[int, ...]  # genes in both whose text is another
    # text_gained, text_lost: genes in both that have a text only in the new, or only in the old
    text_gained: tuple[int, ...]
    text_lost: tuple[int, ...]
    n_unchanged: int  # genes in both with the same symbol and the same text, or none in either

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
    """Compare ``genes``, ``names`` and ``texts`` of two stores, or of a store and a planned one."""
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
    is_gone = pc.field("name").isin(pa.array(map(str, gone), pa.string()))
    rows = names.filter((pc.field("kind") == "retired_id") & is_gone).to_pylist()
    return {int(row["name"]): row["gene_id"] for row in rows}


_QUANTILES: Final = (0.5, 0.9, 0.99)
_SAME: Final = 1e-4  # cosine distance that float16 alone explains


@dataclass(frozen=True, kw_only=True, slots=True)
class WordDiff:
    """A changed text: what is gone stands in ``[-...-]``, what is new in ``{+...+}``."""

    gene_id: int
    symbol: str
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """Cosine distances between the vectors of one encoder in both stores."""

    encoder: str  # name of the encoder
    # whether both stores have it by the same recipe; else the distances also say how the recipes differ
    same_recipe: bool
    # n_genes, n_moved: genes with a vector in both, and how many of them moved by more than float16 explains
    n_genes: int
    n_moved: int
    mean: float  # mean, median, q90, q99: cosine distance of the genes that moved; 0 where none did
    median: float
    q90: float
    q99: float
    farthest: tuple[tuple[int, str, float], ...]  # GeneID, symbol and cosine distance of those that moved most


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreDiff:
    """The difference of two stores."""

    old: str  # old, new: identities of the stores
    new: str
    changes: Changes  # genes and texts
    words: tuple[WordDiff, ...]  # changed texts, word by word, in the order of GeneIDs, at most as many as asked for
    moved: tuple[Moved, ...]  # for each encoder that both have by name and dimension
    only_in_old: tuple[str, ...]  # only_in_old, only_in_new: encoders of one store alone, or of another dimension
    only_in_new: tuple[str, ...]
    # encoders that both have, whose vectors are not compared: in one of the stores they were not pulled
    not_pulled: tuple[str, ...] = ()


def diff_stores(old: Store, new: Store, *, n_examples: int = 20) -> StoreDiff:
    """Compare two stores.

    Parameters
    ----------
    n_examples
        How many changed texts, and how many genes that moved, to show.

    Raises
    ------
    SourceUnusable
        If they have no species in common.
    """
    taxa = [", ".join(map(str, store.manifest.taxa)) for store in (old, new)]
    if not set(old.manifest.taxa) & set(new.manifest.taxa):
        raise SourceUnusable(
            f"{old.store_id} has genes of tax_id {taxa[0]}, {new.store_id} of {taxa[1]}; give two stores of one species"
        )
    names = ("genes", "names", "texts")
    changes = find_changes({name: old.table(name) for name in names}, {name: new.table(name) for name in names})
    before, after = _encoders(old), _encoders(new)
    common = [key for key in before if key in after]
    absent = {
        key: ids[key] for store, ids in ((old, before), (new, after)) for key in common if ids[key] in store.not_pulled
    }
    return StoreDiff(
        old=old.store_id,
        new=new.store_id,
        changes=changes,
        words=_word_diffs(old, new, gene_ids=changes.text_changed[:n_examples]),
        moved=tuple(
            _moved(old, new, ids=(before[key], after[key]), n_examples=n_examples)
            for key in common
            if key not in absent
        ),
        only_in_old=tuple(before[key] for key in before if key not in after),
        only_in_new=tuple(after[key] for key in after if key not in before),
        not_pulled=tuple(absent.values()),
    )


def word_diff(old: str, new: str) -> str:
    """Write a changed text with what is gone in ``[-...-]`` and what is new in ``{+...+}``."""
    before, after = old.split(), new.split()
    pieces = []
    for kind, a, b, c, d in SequenceMatcher(a=before, b=after, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(" ".join(before[a:b]))
            continue
        if a < b:
            pieces.append(f"[-{' '.join(before[a:b])}-]")
        if c < d:
            pieces.append(f"{{+{' '.join(after[c:d])}+}}")
    return " ".join(pieces)


def _encoders(store: Store) -> dict[tuple[str, int], str]:
    recipes = {key: store.manifest.recipe(key) for key in store.manifest.encoders}
    return {(recipe["name"], recipe["dim"]): key for key, recipe in recipes.items()}


def _word_diffs(old: Store, new: Store, *, gene_ids: tuple[int, ...]) -> tuple[WordDiff, ...]:
    symbols = _column(new.table("genes"), "symbol")
    texts = zip(gene_ids, old.texts(gene_ids), new.texts(gene_ids), strict=True)
    return tuple(
        WordDiff(gene_id=gene_id, symbol=symbols[gene_id], words=word_diff(before or "", after or ""))
        for gene_id, before, after in texts
    )


def _moved(old: Store, new: Store, *, ids: tuple[str, str], n_examples: int) -> Moved:
    genes: IntArray = np.intersect1d(old.vector_table(ids[0]).gene_ids, new.vector_table(ids[1]).gene_ids)
    before, after = old.vectors(genes, encoder=ids[0]).vectors, new.vectors(genes, encoder=ids[1]).vectors
    norms = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    cosine = np.einsum("ij,ij->i", before, after) / np.maximum(norms, np.finfo(np.float32).tiny)
    distance: FloatArray = np.asarray(1 - cosine, dtype=np.float32)
    moved = distance[distance > _SAME]
    quantiles = np.quantile(moved, _QUANTILES) if len(moved) else np.zeros(len(_QUANTILES))
    symbols = _column(new.table("genes"), "symbol")
    order = np.argsort(-distance, kind="stable")[: min(n_examples, len(moved))]
    return Moved(
        encoder=str(new.manifest.recipe(ids[1])["name"]),
        same_recipe=ids[0] == ids[1],
        n_genes=len(genes),
        n_moved=len(moved),
        mean=float(moved.mean()) if len(moved) else 0.0,
        median=float(quantiles[0]),
        q90=float(quantiles[1]),
        q99=float(quantiles[2]),
        farthest=tuple((int(genes[row]), symbols[int(genes[row])], float(distance[row])) for row in order),
    )


@for_python
def diff(old: str | Store, new: str | Store, *, limit: int = 10, home: str | Path | None = None) -> StoreDiff:
    """Compare two stores, as `genekb diff` does: genes, texts word by word, how far vectors moved.

    Parameters
    ----------
    old, new
        Name, digest, path, or opened.
    limit
        Examples of each kind to show.
    home
        Artifact home; else GENEKB_HOME, else the user's data folder.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.diff("demo", "demo").changes.text_changed
    ()
    """
    return diff_stores(open(old, home=home), open(new, home=home), n_examples=limit)
