"""Names for the clusters of a file, and for its cells, from cell types and a store: read, named, written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int

import genekb
from cellmodel.annotate.candidates import CellType, read_cell_types
from cellmodel.annotate.marker_overlap import UNASSIGNED, cluster_rows
from cellmodel.annotate.type_names import TypeName, TypeNaming, name_by_types
from cellmodel.annotate.type_scores import (
    QueriedCells,
    TypeEvidence,
    cell_scores,
    cluster_profiles,
    known_genes,
    type_evidence,
)
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.random import generator
from cellmodel.core.types import CellGraph
from cellmodel.explain.groups import ClusteredCells, clustered
from cellmodel.io.cells import Cells
from cellmodel.io.lineage import Lineage, check_lineage
from cellmodel.pp.features import make_features
from cellmodel.pp.graph import smooth

_WEAK_CELL = 0.95  # fraction of the cells' best scores with permuted genes below which a cell is not named
_LEAST_GROUP = 10  # cells whose best type is the same, for that type to be a candidate
_LEAST_FRACTION = 0.002  # of all cells, for the same
_GROUP_PERMUTATIONS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeChoice:
    """Which clusters are named, by what.

    Raises ``InputUnusable`` if the text of a type holds nothing that an encoder can encode.
    """

    cluster_key: str = "cellmodel"  # column of obs with the clusters
    types: tuple[CellType, ...] = field(default_factory=read_cell_types)  # the candidates
    naming: TypeNaming = field(default_factory=TypeNaming)  # when a name is given
    # whether the clusters may have been made with another store, see :func:`cellmodel.io.lineage.check_lineage`
    other_store: bool = False

    def __post_init__(self) -> None:
        """Check the texts."""
        for one in self.types:
            if not any(map(str.isalnum, one.text)):
                raise InputUnusable(
                    f"cell type {one.name!r} holds no letter or digit to compare with the texts of genes; name it in "
                    "words, or leave it out"
                )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NamedCells:
    """Names of clusters and cells."""

    found: ClusteredCells  # the cells that have a cluster; rows of all below are of these
    names: tuple[TypeName, ...]  # one a cluster
    cell_names: tuple[str, ...]  # best type of each cell, or ``unassigned``
    cell_scores: Float[np.ndarray, " cell"]  # (cell,) its score, averaged over its neighbours
    store_id: str  # store_id, encoder_id, content_id: identity of what was used
    encoder_id: str
    content_id: str
    n_candidates: int  # types that a cluster could be named
    made_with: Lineage | None = None  # identity of what the clusters were made with, where that is another

    def rows(self) -> list[dict[str, Any]]:
        """One row a cluster, for a table or JSON."""
        return cluster_rows(self.found.names, self.found.labels, self.names)


def name_types(cells: Cells, kb: genekb.Store, config: RunConfig, *, choice: TypeChoice) -> NamedCells:
    """Name the clusters of cells, and each cell; see :func:`name_each`.

    Raises ``InputUnusable`` if the column of clusters is missing or holds fewer than two; ``AlignmentTooLow`` if too
    few genes are known to the store; ``NotAvailable`` if the encoder's weights are not on this machine;
    ``LineageMismatch`` if the clusters were made with another store.
    """
    made_with = check_lineage(cells, kb, config, key=choice.cluster_key, other_store=choice.other_store)
    found = clustered(cells, kb, config, cluster_key=choice.cluster_key)
    if found.alignment is None or not choice.types:
        raise InputUnusable("there is no store or no cell type to name clusters by; give --kb, and candidates")
    known = known_genes(found.expression, found.gene_names, found.alignment)
    evidence = type_evidence(choice.types, known.alignment, kb)
    profiles = cluster_profiles(known.expression, found.labels)
    names = name_by_types(profiles, evidence, gene_names=known.gene_names, config=choice.naming, seed=config.seed)
    graph = make_features(cells, config).graph[found.rows][:, found.rows]
    cell_names, scores = name_each(known, evidence, clusters=names, graph=graph, seed=config.seed)
    return NamedCells(
        found=found,
        names=names,
        cell_names=cell_names,
        cell_scores=scores,
        store_id=known.alignment.store_id,
        encoder_id=known.alignment.encoder_id,
        content_id=known.alignment.content_id,
        n_candidates=len(choice.types),
        made_with=made_with,
    )


def name_each(
    known: QueriedCells, evidence: TypeEvidence, *, clusters: Sequence[TypeName], graph: CellGraph, seed: int
) -> tuple[tuple[str, ...], Float[np.ndarray, " cell"]]:
    """Name each cell by the type with the highest score, averaged over its neighbours.

    Candidates are the types that name a cluster, or the cells whose best type they are, judged as a cluster. The best
    type of an unassigned cluster competes too; where it wins, and where a score is not above that of 95 of 100 cells
    with permuted genes, a cell is ``unassigned``.

    ``clusters``: names of the cells' clusters. ``graph``: neighbours of the cells, see
    :func:`cellmodel.pp.graph.smooth`. Returns name and score of each cell.
    """
    scores = smooth(cell_scores(known.expression, evidence.both), graph)
    named = {one.name for one in clusters} | _group_names(known, evidence, scores.argmax(axis=1), seed=seed)
    competing = named | {one.best for one in clusters}
    rows = np.flatnonzero([one.name in competing for one in evidence.types])
    permuted = evidence.both[rows].tocsc()[:, generator(seed, "cell names").permutation(evidence.both.shape[1])].tocsr()
    limit = np.quantile(smooth(cell_scores(known.expression, permuted), graph).max(axis=1), _WEAK_CELL)
    best, highest = rows[scores[:, rows].argmax(axis=1)], scores[:, rows].max(axis=1)
    names = np.array([one.name if one.name in named else UNASSIGNED for one in evidence.types], dtype=object)
    return tuple(np.where(highest > limit, names[best], UNASSIGNED).tolist()), highest


def _group_names(known: QueriedCells, evidence: TypeEvidence, best: Int[np.ndarray, " cell"], *, seed: int) -> set[str]:
    """Types that name the group of cells whose best type they are."""
    sizes = np.bincount(best, minlength=len(evidence.types))
    large = np.flatnonzero(sizes >= max(_LEAST_GROUP, _LEAST_FRACTION * len(best)))
    groups = np.where(np.isin(best, large), np.searchsorted(large, best), len(large))
    profiles = cluster_profiles(known.expression, np.unique(groups, return_inverse=True)[1])[: len(large)]
    config = TypeNaming(n_permutations=_GROUP_PERMUTATIONS)
    found = name_by_types(profiles, evidence, gene_names=known.gene_names, config=config, seed=seed)
    own = (evidence.types[row].name for row in large.tolist())
    return {name for name, one in zip(own, found, strict=True) if one.name == name}
