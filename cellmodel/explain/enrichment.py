"""Enrichment of gene sets: those of a store or a GMT file, their overlaps with groups of genes, adjusted p values."""

import logging
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float, Int

import genekb
from cellmodel.core.arrays import benjamini_hochberg
from cellmodel.core.errors import InputUnusable
from genekb.core.errors import SourceUnusable
from genekb.query.gene_sets import VOCABULARIES
from genekb.query.gene_sets import read_gmt as read_sets

log = logging.getLogger(__name__)
_NO_EFFECT: Final = 0.5  # p value above which there is hardly a test with an effect
FEWEST_GENES, MOST_GENES = 3, 500  # measured genes of a set: tiny ones are single genes, huge ones say nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneSet:
    """A named set of genes."""

    source: str  # the vocabulary of the store, or the name of the file
    set_id: str  # identifier in the source, or what the file says about the set
    name: str  # its name
    gene_ids: frozenset[int]  # GeneIDs of its genes


def stored_gene_sets(kb: genekb.Store) -> tuple[GeneSet, ...]:
    """GO terms and gene groups of a store, each with its directly annotated genes: the store holds no tree of terms."""
    table = kb.table("annotations").select(["vocabulary", "term_id", "term", "gene_id"])
    members: dict[tuple[str, str, str], set[int]] = {}
    for vocabulary, term_id, term, gene_id in zip(*(column.to_pylist() for column in table.columns), strict=True):
        if vocabulary in VOCABULARIES:
            members.setdefault((vocabulary, term_id, term), set()).add(gene_id)
    return tuple(
        GeneSet(source=source, set_id=set_id, name=name, gene_ids=frozenset(genes))
        for (source, set_id, name), genes in sorted(members.items())
    )


def read_gmt(path: Path, kb: genekb.Store, *, use_orthologs: bool = False) -> tuple[GeneSet, ...]:
    """Read a GMT file: a set a line, its name, a description and its genes by any name, separated by tabs."""
    try:
        rows = read_sets(path)
    except SourceUnusable as error:
        raise InputUnusable(str(error)) from error
    names = sorted({gene for _, _, genes in rows for gene in genes})
    resolution = kb.resolve(names, use_orthologs=use_orthologs)
    known = {name: gene for name, gene in zip(names, resolution.gene_ids.tolist(), strict=True) if gene > 0}
    if not known:
        raise InputUnusable(
            f"0 of the {len(names)} gene names of {path} ({', '.join(names[:3])}, ...) are known to {kb.store_id}; are "
            "they of the same species? Symbols of another one need orthologs=True"
        )
    log.log(
        logging.INFO if 2 * len(known) >= len(names) else logging.WARNING,
        "%d of the %d gene names of %s are known to %s",
        *(len(known), len(names), path, kb.store_id),
    )
    return tuple(
        GeneSet(
            source=path.name,
            set_id=about,
            name=name,
            gene_ids=frozenset(known[gene] for gene in genes if gene in known),
        )
        for name, about, genes in rows
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class EnrichedSet:
    """A set that shares more genes with a group than expected by chance."""

    gene_set: GeneSet  # the set
    gene_ids: tuple[int, ...]  # genes shared, in the order in which the group's genes were given
    n_set: int  # n_set, n_group, n_measured: measured genes of the set, genes of the group, and genes measured
    n_group: int
    n_measured: int
    fold: float  # shared genes over the number expected
    # p_value, p_adjusted: hypergeometric, and after Benjamini-Hochberg over the sets of this source and all groups
    p_value: float
    p_adjusted: float


def enrich(
    groups: Sequence[Sequence[int]],
    gene_sets: Sequence[GeneSet],
    *,
    measured: Sequence[int],
    min_shared: int = 2,
    max_p: float = 0.05,
    n_sets: int = 20,
) -> tuple[tuple[EnrichedSet, ...], ...]:
    """Find the sets in which the genes of each group are over-represented, adjusted over the sets of a source.

    ``groups``: GeneIDs of each group, best first. ``min_shared``: genes that a set must share with the group.
    ``max_p``: adjusted p value up to which a set is reported. ``n_sets``: sets of a group at most. Returns sets of each
    group, smallest p value first; ties go to more shared genes, then to the order given.
    """
    known = dict.fromkeys(measured)
    sets = [(one, one.gene_ids & known.keys()) for one in gene_sets]
    tested = [(one, genes) for one, genes in sets if FEWEST_GENES <= len(genes) <= MOST_GENES]
    chosen = [tuple(gene for gene in dict.fromkeys(group) if gene in known) for group in groups]
    if not tested or not chosen:
        return tuple(() for _ in groups)
    shared, p = overlap(chosen, [genes for _, genes in tested], measured=tuple(known))
    sources, adjusted = np.array([one.source for one, _ in tested]), np.ones_like(p)
    for source in set(sources.tolist()):
        adjusted[:, sources == source] = adjusted_p(p[:, sources == source])
    is_found = (adjusted <= max_p) & (shared >= min_shared)
    orders = [[at for at in np.lexsort((-shared[row], p[row])).tolist() if is_found[row, at]] for row in range(len(p))]
    return tuple(
        tuple(
            EnrichedSet(
                gene_set=tested[at][0],
                gene_ids=tuple(gene for gene in group if gene in tested[at][1]),
                n_set=len(tested[at][1]),
                n_group=len(group),
                n_measured=len(known),
                fold=float(shared[row, at] * len(known) / (len(tested[at][1]) * len(group))),
                p_value=float(p[row, at]),
                p_adjusted=float(adjusted[row, at]),
            )
            for at in orders[row][:n_sets]
        )
        for row, group in enumerate(chosen)
    )


def overlap(
    groups: Sequence[Iterable[Hashable]], sets: Sequence[Iterable[Hashable]], *, measured: Sequence[Hashable]
) -> tuple[Int[np.ndarray, "group set"], Float[np.ndarray, "group set"]]:
    r"""Genes that groups and sets share, and hypergeometric p values :cite:`rivals2007enrichment`.

    :math:`P(X \ge x)` with *N* genes measured, *K* of them in the set, *n* in the group and *x* in both: a permutation
    p value in closed form. ``measured``: every gene once; groups and sets hold no other.
    """
    from scipy.stats import hypergeom
    from sklearn.preprocessing import MultiLabelBinarizer

    members = [MultiLabelBinarizer(classes=measured, sparse_output=True).fit_transform(each) for each in (groups, sets)]
    n_group, n_set = (np.asarray(each.sum(axis=1)) for each in members)
    n_shared = (members[0] @ members[1].T).toarray()
    return n_shared, np.clip(hypergeom.sf(n_shared - 1, len(measured), n_set.T, n_group), 0.0, 1.0)


def false_discovery_rate(p_values: np.ndarray) -> np.ndarray:
    """Adjust p values of a family, times the share of its tests that have no effect :cite:`storey2004strong`.

    That share is estimated by the p values above a half, and one more; :func:`adjusted_p` takes it to be 1.
    """
    without_effect = (1 + np.count_nonzero(p_values > _NO_EFFECT)) / ((1 - _NO_EFFECT) * max(p_values.size, 1))
    return adjusted_p(p_values) * min(1.0, without_effect)


def adjusted_p(p_values: np.ndarray) -> np.ndarray:
    """Adjust p values over the whole table :cite:`benjamini1995fdr`."""
    return np.reshape(benjamini_hochberg(np.ravel(p_values)), p_values.shape)
