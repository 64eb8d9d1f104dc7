"""Names for the clusters of a file, and for its cells, from cell types and a store: read, named, written."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

import genekb
from cellmodel.annotate.cell_types import (
    UNASSIGNED,
    CellType,
    QueriedCells,
    TypeEvidence,
    cell_scores,
    cluster_profiles,
    known_genes,
    score_parts,
    standard_profiles,
    type_evidence,
    usual_types,
)
from cellmodel.annotate.levels import (
    ELSEWHERE,
    LEVELS,
    Level,
    NameFraction,
    Support,
    TypeGene,
    Verdict,
    broad_group,
    cell_mix,
    give_verdict,
    hold_cells,
    is_mixed,
    level_name,
    place_gap,
    places,
    shared_name,
    weigh_by_place,
)
from cellmodel.annotate.marker_overlap import cluster_rows
from cellmodel.core.arrays import CellGraph, Labels
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.random import generator, permutation_p
from cellmodel.explain.enrichment import false_discovery_rate
from cellmodel.explain.groups import ClusteredCells, clustered
from cellmodel.io.cells import Cells
from cellmodel.io.records import Lineage, check_lineage, stored_graph
from cellmodel.pp.features import make_features
from cellmodel.pp.neighbors import smooth
from genekb.core.messages import check_choice

_WEAK_CELL = 0.95  # fraction of the cells' best scores with permuted genes below which a cell is not named
_LEAST_GROUP = 10  # cells whose best type is the same, for that type to be a candidate
_LEAST_FRACTION = 0.002  # of all cells, for the same
_GROUP_PERMUTATIONS = 50
_N_GENES = 8  # genes reported for a name
_UPREGULATED = 0.25  # standard deviations above the mean of the clusters
_RELATIVES, _OF_RELATIVES = 2, 0.25  # clusters that each is compared with beside all, and the weight of that contrast


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeNaming:
    """When a name is given; one set of values serves every data set."""

    n_permutations: int = 200  # permutations of the genes; the least p value is 1 / (1 + n)
    level: Level = "auto"  # of names, see :func:`cellmodel.annotate.levels.level_name`

    def __post_init__(self) -> None:
        """Check the level and the ranges."""
        check_choice("level", self.level, LEVELS)
        if self.n_permutations < 1:
            raise ValueError(f"n_permutations must be >= 1, got {self.n_permutations}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeChoice:
    """Which clusters are named, by what."""

    cluster_key: str = "cellmodel"  # column of obs with the clusters
    types: tuple[CellType, ...] = field(default_factory=usual_types)  # the candidates
    naming: TypeNaming = field(default_factory=TypeNaming)  # when a name is given
    # whether the clusters may have been made with another store, see :func:`cellmodel.io.records.check_lineage`
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
    names: tuple[Verdict, ...]  # one a cluster
    mixes: tuple[tuple[NameFraction, ...], ...]  # names of the cells of each cluster
    cell_names: tuple[str, ...]  # best type of each cell, or ``unassigned``
    cell_scores: Float[np.ndarray, " cell"]  # (cell,) its score, averaged over its neighbors
    lineage: Lineage  # store and encoder that were used
    n_candidates: int  # types that a cluster could be named
    made_with: Lineage | None = None  # identity of what the clusters were made with, where that is another

    def rows(self) -> list[dict[str, Any]]:
        """One row a cluster, for a table or JSON."""
        rows = cluster_rows(self.found.names, self.found.labels, self.names)
        return [
            row | {"mix": tuple(map(asdict, mix)), "is_mixed": is_mixed(row["name"], row["best"], mix)}
            for row, mix in zip(rows, self.mixes, strict=True)
        ]


def name_types(cells: Cells, kb: genekb.Store, config: RunConfig, *, choice: TypeChoice) -> NamedCells:
    """Name the clusters of cells, and each cell; see :func:`name_each`."""
    made_with = check_lineage(cells, kb, config, key=choice.cluster_key, other_store=choice.other_store)
    found = clustered(cells, kb, config, cluster_key=choice.cluster_key)
    if not choice.types:
        raise InputUnusable("there is no cell type to name clusters by; give candidates")
    known = known_genes(found.expression, found.gene_names, found.known)
    evidence = type_evidence(choice.types, known.alignment, kb)
    profiles = cluster_profiles(known.expression, found.labels, balanced=True)
    scored = score_clusters(profiles, evidence, gene_names=known.gene_names, config=choice.naming, seed=config.seed)
    group_of = {one.name: broad_group(one).name for one in evidence.types} if choice.naming.level == "broad" else {}
    graph = stored_graph(cells, choice.cluster_key, config)
    graph = (make_features(cells, config).graph if graph is None else graph)[found.rows][:, found.rows]
    cell_names, scores = name_each(known, evidence, clusters=scored.names(choice.naming), graph=graph, seed=config.seed)
    cell_names = tuple(group_of.get(name, name) for name in cell_names)
    mixes = cluster_mixes(cell_names, found.labels)
    return NamedCells(
        found=found,
        names=scored.names(choice.naming, mixes=mixes),
        mixes=mixes,
        cell_names=cell_names,
        cell_scores=scores,
        lineage=known.alignment.lineage,
        n_candidates=len(choice.types),
        made_with=made_with,
    )


def cluster_mixes(cell_names: Sequence[str], labels: Labels) -> tuple[tuple[NameFraction, ...], ...]:
    """Names of the cells of each cluster, 0 to k-1."""
    names = np.array(cell_names, dtype=object)
    return tuple(cell_mix(names[labels == cluster].tolist()) for cluster in range(int(labels.max()) + 1))


def name_groups(groups: Sequence[Sequence[int]], names: Sequence[Verdict]) -> tuple[str, ...]:
    """Name groups of clusters by what the names of their clusters share; see :func:`levels.shared_name`."""
    return tuple(
        shared_name([names[cluster].name for cluster in group], [names[cluster].parent for cluster in group])
        for group in groups
    )


def name_each(
    known: QueriedCells, evidence: TypeEvidence, *, clusters: Sequence[Verdict], graph: CellGraph, seed: int
) -> tuple[tuple[str, ...], Float[np.ndarray, " cell"]]:
    """Name each cell by the type with the highest score, averaged over its neighbors; returns names and scores.

    Candidates are the types that name a cluster, or the cells whose best type they are, judged as a cluster. The best
    type of an unassigned cluster competes too; where it wins, and where a score is not above that of 95 of 100 cells
    with permuted genes, a cell is ``unassigned``.
    """
    scores = smooth(cell_scores(known.expression, evidence.both), graph)
    named = {one.best for one in clusters if one.name != UNASSIGNED} | _group_names(
        known, evidence, scores.argmax(axis=1), seed=seed
    )
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
    profiles = cluster_profiles(known.expression, np.unique(groups, return_inverse=True)[1], balanced=True)
    config = TypeNaming(n_permutations=_GROUP_PERMUTATIONS)
    found = name_by_types(profiles, evidence, gene_names=known.gene_names, config=config, seed=seed)
    own = [evidence.types[row].name for row in large.tolist()]
    return {
        name for name, one in zip(own, found[: len(own)], strict=True) if one.best == name and one.name != UNASSIGNED
    }


def name_by_types(
    profiles: Float[np.ndarray, "cluster gene"],
    evidence: TypeEvidence,
    *,
    gene_names: Sequence[str],
    config: TypeNaming | None = None,
    seed: int,
) -> tuple[Verdict, ...]:
    """Name each cluster by the type whose weights agree best with its profile; equal scores go to the first type.

    ``profiles``: of :func:`~cellmodel.annotate.cell_types.cluster_profiles`. Each is compared with its nearest
    relatives among them, too; see :func:`contrast_relatives`.
    """
    settings = config or TypeNaming()
    return score_clusters(profiles, evidence, gene_names=gene_names, config=settings, seed=seed).names(settings)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClusterScores:
    """Scores of clusters by candidate types, and their p values."""

    evidence: TypeEvidence
    gene_names: Sequence[str]
    profiles: Float[np.ndarray, "cluster gene"]  # standard ones
    is_upregulated: Bool[np.ndarray, "cluster gene"]
    scores: Float[np.ndarray, "cluster type"]
    support: Float[np.ndarray, "cluster type"]  # of the tissues of the types, see :func:`levels.weigh_by_place`
    p_values: Float[np.ndarray, " cluster"]

    def names(self, config: TypeNaming, *, mixes: Sequence[Sequence[NameFraction]] = ()) -> tuple[Verdict, ...]:
        """Name the clusters; with the names of their cells (``mixes``), by what holds enough of them."""
        adjusted = false_discovery_rate(self.p_values).tolist()
        return tuple(
            self._name(
                row, (p_value, adjusted[row]), config, mix=mixes[row] if mixes and config.level == "auto" else ()
            )
            for row, p_value in enumerate(self.p_values.tolist())
        )

    def _name(
        self, row: int, tests: tuple[float, float], config: TypeNaming, *, mix: Sequence[NameFraction]
    ) -> Verdict:
        """Name one cluster by its scores."""
        evidence, profile, scores, support = self.evidence, self.profiles[row], self.scores[row], self.support[row]
        best = int(scores.argmax())
        markers = evidence.markers[best].indices
        kept = 1 - ELSEWHERE * (1 - support[best])  # of the score, by the place
        genes = tuple(
            TypeGene(name=self.gene_names[gene], contribution=part * kept, is_marker=gene in markers)
            for gene, part in score_parts(evidence.both[best], profile)
        )
        supporting = Support(
            score=float(scores[best]),
            text_score=float((evidence.text[best] @ profile)[0]),
            marker_score=float((evidence.markers[best] @ profile)[0]),
            share_markers=float(self.is_upregulated[row, markers].mean()) if len(markers) else 0.0,
            genes=genes[:_N_GENES],
        )
        answer = level_name(evidence.types, scores, level=config.level, max_gap=place_gap(support[best]))
        answer = hold_cells(answer, mix, evidence.types)
        name = evidence.types[best].name
        return give_verdict(answer, evidence.types, scores, best=name, support=supporting, tests=tests)


def score_clusters(
    profiles: Float[np.ndarray, "cluster gene"],
    evidence: TypeEvidence,
    *,
    gene_names: Sequence[str],
    config: TypeNaming,
    seed: int,
) -> ClusterScores:
    """Score clusters by types, and permute the genes; see :func:`name_by_types`."""
    standard = standard_profiles(contrast_relatives(profiles))
    is_of = places(evidence.types)
    scores, support = weigh_by_place((evidence.both @ standard.T).T, is_of)
    rng = generator(seed, "types")

    def highest(order: np.ndarray) -> tuple[np.ndarray]:
        return (weigh_by_place((evidence.both @ standard[:, order].T).T, is_of)[0].max(axis=1),)

    (p_values,) = permutation_p(
        (scores.max(axis=1),),
        highest,
        draw=lambda: rng.permutation(standard.shape[1]),
        n_permutations=config.n_permutations,
        tie=0.0,
    )
    return ClusterScores(
        evidence=evidence,
        gene_names=gene_names,
        profiles=standard,
        is_upregulated=profiles >= _UPREGULATED,
        scores=scores,
        support=support,
        p_values=p_values,
    )


def contrast_relatives(
    profiles: Float[np.ndarray, "cluster gene"], *, weight: float = _OF_RELATIVES
) -> Float[np.ndarray, "cluster gene"]:
    """Add part of the difference from the two clusters whose profiles are most like each.

    What sets a cluster apart from all others is shared by its relatives; what parts it from these is its own.
    """
    if len(profiles) <= _RELATIVES:
        return profiles
    standard = standard_profiles(profiles)
    likeness = standard @ standard.T
    np.fill_diagonal(likeness, -np.inf)
    relatives = np.argsort(-likeness, axis=1, kind="stable")[:, :_RELATIVES]
    return np.asarray(profiles + weight * (profiles - profiles[relatives].mean(axis=1)))
