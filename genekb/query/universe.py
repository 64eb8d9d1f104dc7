"""Genes of sets, and the universe of genes that random sets are drawn from."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from genekb.core.errors import SourceUnusable
from genekb.core.messages import counted
from genekb.query.gene_theme import strata_of
from genekb.schema import IntArray
from genekb.store.reader import Store

Genes = Sequence[str] | IntArray  # names of any kind; GeneIDs where it is an array of numbers
MIN_UNIVERSE: Final = 20  # genes from which random sets can be drawn
_EXPRESSION_STRATA: Final = 10
_LENGTH_STRATA: Final = 3  # of text length: well-studied genes have longer texts, which are nearer to one another


def check_expression(universe: Genes | None, expression: Sequence[float] | None) -> None:
    """Raise ``ValueError`` if expression is not a finite value of each gene of the universe."""
    if expression is None:
        return
    if universe is None or len(universe) != len(expression):
        n_genes = "no universe" if universe is None else f"{len(universe)} genes of the universe"
        raise ValueError(f"{len(expression)} values of expression for {n_genes}; give one of each gene")
    if not np.isfinite(expression).all():
        raise ValueError("expression holds values that are not finite; leave such genes out of the universe")


def _gene_ids(store: Store, genes: Genes, *, is_checked: bool = False) -> IntArray:
    """GeneIDs of genes; 0 where a name has none."""
    if isinstance(genes, np.ndarray) and genes.dtype.kind in "iu":
        return genes.astype(np.int64)
    resolution = store.resolve([str(gene) for gene in genes])
    if is_checked and len(genes):
        store.check_species(resolution)
    return resolution.gene_ids


def resolve_sets(store: Store, sets: Mapping[str, Genes]) -> dict[str, int]:
    """GeneID of each distinct name of a gene; 0 where it has none."""
    every = list(sets.values())
    if every and all(isinstance(genes, np.ndarray) for genes in every):
        return {str(gene): int(gene) for genes in every for gene in genes}
    names = list(dict.fromkeys(str(gene) for genes in every for gene in genes))
    return dict(zip(names, _gene_ids(store, names, is_checked=True).tolist(), strict=True))


def universe_of(
    store: Store, with_vector: IntArray, universe: Genes | None, expression: Sequence[float] | None
) -> tuple[IntArray, IntArray | None]:
    """GeneIDs from which random sets are drawn, ascending, and their strata of expression or, of all, text length."""
    gene_ids, strata = with_vector, None
    if universe is None:
        lengths = np.array([len(text or "") for text in store.texts(gene_ids)], dtype=np.float64)
        strata = strata_of(lengths, at_most=_LENGTH_STRATA)
    else:
        gene_ids, first = np.unique(_gene_ids(store, universe), return_index=True)
        is_kept = np.isin(gene_ids, with_vector)
        gene_ids, first = gene_ids[is_kept], first[is_kept]
        strata = None if expression is None else strata_of(np.asarray(expression)[first], at_most=_EXPRESSION_STRATA)
    if len(gene_ids) < MIN_UNIVERSE:
        raise SourceUnusable(
            f"{counted(len(gene_ids), 'gene')} of the universe {'has' if len(gene_ids) == 1 else 'have'} a text in "
            f"{store.store_id}, {MIN_UNIVERSE} are needed to draw random sets; give all genes that were measured"
        )
    return gene_ids, strata
