"""Common themes of gene sets by the vectors of their genes, against random sets drawn from a universe of genes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int

from genekb.core.errors import SourceUnusable
from genekb.core.messages import counted
from genekb.core.progress import progress
from genekb.encoders.base import unit_or_zero
from genekb.schema import FloatArray, IntArray
from genekb.store.reader import Store

Genes = Sequence[str] | IntArray  # names of any kind; GeneIDs where it is an array of numbers
MIN_UNIVERSE: Final = 20  # genes from which random sets can be drawn
_EXPRESSION_STRATA: Final = 10
_LENGTH_STRATA: Final = 3  # of text length: well-studied genes have longer texts, which are nearer to one another
_COMPARED: Final = 1000  # genes of the universe that a gene of a set is compared with
_FIT_DRAWS: Final = 200  # random sets whose best name is looked for
_TIE: Final = 1e-9
_LEAST_DEVIATION: Final = 0.05  # of the mean one: a name that is far from nearly all genes has almost none
_ROUNDS: Final = 20
_STRATUM_GENES = 50  # of a stratum, or more
_CENTER, _GENES = range(2)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Universe:
    """Genes that random sets are drawn from."""

    vectors: Float[np.ndarray, "gene dim"]  # of unit length
    centered: Float[np.ndarray, "gene dim"]  # less their mean, of unit length
    strata: Int[np.ndarray, " gene"]  # a random set has as many genes of each stratum as the set that it is for
    compared: Int[np.ndarray, " _"]  # genes with which a gene is compared


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NameScale:
    """Vectors of names, and what a gene of the universe scores on each."""

    vectors: Float[np.ndarray, "name dim"]
    mean: Float[np.ndarray, " name"]
    deviation: Float[np.ndarray, " name"]

    def z(self, means: Float[np.ndarray, "*draw dim"], *, n: int, of: int) -> Float[np.ndarray, "*draw name"]:
        """Standardize the scores of mean vectors of ``n`` genes ``of`` so many, by the random sets of that size."""
        correction = np.sqrt((of - 1) / max(of - n, 1))
        return np.asarray((means @ self.vectors.T - self.mean) / self.deviation * (np.sqrt(n) * correction))


def make_universe(vectors: FloatArray, *, strata: IntArray | None = None, seed: int) -> Universe:
    """Prepare the genes that random sets are drawn from; ``vectors``: (gene, dim) of unit length."""
    centered = unit_or_zero(vectors - vectors.mean(axis=0))
    rng = np.random.default_rng([seed, _CENTER])
    n_genes = len(vectors)
    return Universe(
        vectors=vectors,
        centered=centered,
        strata=np.zeros(n_genes, dtype=np.int64) if strata is None else strata,
        compared=np.sort(rng.choice(n_genes, min(n_genes, _COMPARED), replace=False)),
    )


def strata_of(values: Float[np.ndarray, " gene"], *, at_most: int) -> IntArray:
    """Sort genes into strata of about equal size by a value such as their mean expression."""
    n_strata = max(1, min(at_most, len(values) // _STRATUM_GENES))
    edges = np.quantile(values, np.arange(1, n_strata) / n_strata) if n_strata > 1 else np.empty(0)
    return np.searchsorted(edges, values, side="right").astype(np.int64)


def coherence(sums: Float[np.ndarray, "*draw dim"], *, n: int) -> Float[np.ndarray, "*draw"]:
    """Mean cosine of the pairs of ``n`` unit vectors, from their sum."""
    return np.asarray(((sums.astype(np.float64) ** 2).sum(axis=-1) - n) / (n * (n - 1)))


def draw_sets(
    universe: Universe, counts: tuple[int, ...], *, n_random: int, seed: int
) -> tuple[Float[np.ndarray, " draw"], Float[np.ndarray, "some_draw dim"]]:
    """Draw random sets with so many genes of each stratum: coherence of all, and mean vectors of the first of them."""
    rng = np.random.default_rng([seed, _GENES, *counts])
    pools = [(np.flatnonzero(universe.strata == stratum), count) for stratum, count in enumerate(counts) if count]
    n = sum(counts)
    sums, means = [], []
    for draw in range(n_random):
        progress("random sets", draw, n_random)
        rows = np.concatenate([pool[rng.choice(len(pool), count, replace=False)] for pool, count in pools])
        sums.append(universe.centered[rows].sum(axis=0))
        if draw < _FIT_DRAWS:
            means.append(universe.vectors[rows].mean(axis=0))
    return coherence(np.array(sums), n=n), np.array(means)


def share_reaching(found: float, by_chance: Float[np.ndarray, " draw"]) -> float:
    """P value (1 + hits) / (1 + n) :cite:`phipson2010permutation`; a hit is a draw that reaches what was found."""
    return float((1 + (by_chance >= found - _TIE).sum()) / (1 + len(by_chance)))


def find_carriers(
    universe: Universe, rows: IntArray, *, max_p: float
) -> tuple[Float[np.ndarray, " gene"], Bool[np.ndarray, " gene"]]:
    """Find the genes of a set that carry its theme: (gene,) p value of each, and whether it does.

    A gene carries it if at most ``max_p`` of the genes of the universe are as near to the carriers, itself left out, as
    it is; all genes carry it at first, until the carriers do not change.
    """
    vectors = universe.centered[rows]
    nearness = universe.centered[universe.compared] @ vectors.T  # (compared, gene)
    is_carrier = np.ones(len(rows), dtype=bool)
    for _ in range(_ROUNDS):
        own = vectors @ vectors[is_carrier].sum(axis=0) - is_carrier * (vectors**2).sum(axis=1)
        others = nearness @ is_carrier.astype(np.float32)
        hits = (others[:, None] - nearness * is_carrier >= own - _TIE).sum(axis=0)
        p_value = (1 + hits) / (1 + len(nearness))
        found = p_value <= max_p
        if np.array_equal(found, is_carrier) or found.sum() < 2:  # noqa: PLR2004 - one gene shares nothing
            return p_value, found
        is_carrier = found
    return p_value, is_carrier


def scale_names(universe: Universe, vectors: Float[np.ndarray, "name dim"]) -> NameScale:
    """Mean and standard deviation over the universe of the similarity of a gene to each name."""
    mean = universe.vectors.mean(axis=0)
    spread = universe.vectors - mean
    covariance = spread.T @ spread / len(spread)
    variance = np.einsum("ij,ij->i", vectors @ covariance, vectors)
    deviation = np.sqrt(np.maximum(variance, 0.0))
    least = max(_LEAST_DEVIATION * float(deviation.mean()), _TIE) if len(deviation) else _TIE
    return NameScale(vectors=vectors, mean=vectors @ mean, deviation=deviation + least)


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
