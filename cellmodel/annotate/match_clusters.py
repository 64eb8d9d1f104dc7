"""Clusters of one data set against those of another: by the meaning of their genes, by shared markers, by both."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

import genekb
from cellmodel.annotate.shared_genes import ComparedSide, Meeting, bring_together
from cellmodel.core.arrays import CellByGene, GeneVectors, Labels, unit_rows
from cellmodel.core.config import RunConfig
from cellmodel.core.random import generator
from cellmodel.explain.groups import ClusteredCells
from cellmodel.explain.markers import rank_markers, upregulated
from cellmodel.explain.p_values import adjusted_p, overlap_p, permutation_p
from cellmodel.io.records import Lineage
from cellmodel.pp.moments import cluster_moments
from cellmodel.text.paths import fit_whitening

UNMATCHED = "unmatched"
_GENES_SHOWN = 10
_MAX_WEIGHT = 2.0  # standard deviations: no single gene makes a profile
_NO_LENGTH = 1e-9  # of a profile
Markers = dict[int, str]  # GeneID → name as the side spells it, best marker first


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareConfig:
    """What makes two clusters a match; one set of values serves every pair of data sets.

    Parameters
    ----------
    n_markers
        Markers of a cluster at most, highest t first.
    max_marker_p
        Adjusted p value up to which a gene is a marker; its t must be positive too.
    min_overlap
        Markers that two clusters must share.
    n_profile_genes
        Upregulated genes of a cluster that count at most.
    rank
        Dimensions of the whitened space of the texts.
    n_permutations
        Permutations of the genes; the least p value is 1 / (1 + n).
    max_p
        Adjusted p value, of the meaning and of the markers, up to which a match counts.
    """

    n_markers: int = 50
    max_marker_p: float = 0.05
    min_overlap: int = 2
    n_profile_genes: int = 100
    rank: int = 128
    n_permutations: int = 200
    max_p: float = 0.05

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("n_markers", "min_overlap", "n_profile_genes", "rank", "n_permutations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if not (0 < self.max_marker_p <= 1 and 0 < self.max_p <= 1):
            raise ValueError(f"p values must lie in (0, 1], got {self.max_marker_p} and {self.max_p}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterPair:
    """A cluster of one side and a cluster of the other."""

    a: str  # a, b: their names
    b: str
    meaning: float  # cosine of their profiles through the texts, -1 to 1
    # p_meaning_a, p_meaning_b: permutation p value of that cosine among all clusters of the other side: seen from
    # ``a``, and from ``b``
    p_meaning_a: float
    p_meaning_b: float
    markers: float  # cosine of their upregulated genes, whatever the texts; 0 where no gene is shared
    # n_shared, p_markers, p_markers_adjusted: markers in common, the hypergeometric p value, and that adjusted over all
    # pairs; 1 where no gene is shared
    n_shared: int
    p_markers: float
    p_markers_adjusted: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterMatch:
    """What a cluster of one side is on the other, and the genes that say so."""

    side: Literal["a", "b"]  # side, cluster, n_cells: ``a`` or ``b``, and a cluster of it
    cluster: str
    n_cells: int
    # the best cluster of the other side by markers, if the meaning of the two agrees as well; else ``unmatched``
    match: str
    by_meaning: str  # by_meaning, by_markers: the best by one of them alone, or ``unmatched`` where that is weak
    by_markers: str
    best: ClusterPair  # the pair of the cluster and its best by markers (by meaning if no gene is shared), weak or not
    is_reciprocal: bool  # whether the cluster is also the match of its match
    shared_markers: tuple[str, ...]  # markers that ``best`` shares, as named on this side, best ones first; ten at most
    # own_genes, other_genes: genes of either cluster whose texts bring the two profiles of ``best`` together, most
    # first; ten at most
    own_genes: tuple[str, ...]
    other_genes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Overlap:
    """Shared markers of all pairs; ``has_shared`` whether there is a gene that both sides have."""

    cosine: Float[np.ndarray, "cluster other"]
    n_shared: Int[np.ndarray, "cluster other"]
    p_value: Float[np.ndarray, "cluster other"]
    p_adjusted: Float[np.ndarray, "cluster other"]
    has_shared: bool


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ProfileMatch:
    """How near the clusters of two sides lie by the texts of their genes."""

    cosine: Float[np.ndarray, "cluster other"]  # (cluster, other) cosine of their profiles, -1 to 1
    # p_left, p_right: (cluster, other) how often the highest cosine of any cluster of the other side reaches this one
    # when the genes are permuted: for the cluster of the left side, and for that of the right
    p_left: Float[np.ndarray, "cluster other"]
    p_right: Float[np.ndarray, "cluster other"]
    # left, right: (cluster, gene) part of each gene in a unit profile; ``left @ left_vectors`` are the profiles
    left: Float[np.ndarray, "cluster gene"]
    right: Float[np.ndarray, "other gene2"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _View:
    """All pairs as one side sees them: rows are its clusters, columns those of the other."""

    own: ComparedSide
    other: ComparedSide
    own_markers: list[Markers]
    other_markers: list[Markers]
    pulls: tuple[Float[np.ndarray, "cluster gene"], Float[np.ndarray, "other gene2"]]  # shares of the profiles
    vectors: tuple[GeneVectors, GeneVectors]
    best: Int[np.ndarray, " cluster"]  # whether or not it is weak
    by_meaning: list[int | None]
    by_markers: list[int | None]
    by_both: list[int | None]


def match_clusters(
    a: ComparedSide, b: ComparedSide, *, config: CompareConfig, seed: int
) -> tuple[tuple[ClusterMatch, ...], tuple[ClusterPair, ...]]:
    """Match the clusters of two data sets, each way.

    By meaning, the best match is that of the highest cosine of profiles, judged against permuted genes
    (:func:`match_profiles`). By markers, it is that of the highest cosine of upregulated genes, judged by the overlap
    of markers among the shared genes (:func:`cellmodel.explain.enrichment.overlap_p`), adjusted over all pairs. A match
    by both is the best by markers that the meaning confirms: shared genes find the counterpart more often than their
    texts do. Where no gene is shared, meaning stands alone.

    Returns a match for every cluster of ``a``, then of ``b``; and all pairs, clusters of ``a`` first.
    """
    shared = np.setdiff1d(np.intersect1d(a.gene_ids, b.gene_ids), [0])
    markers = [_markers(side, shared, config) for side in (a, b)]
    texted = (_with_text(a), _with_text(b))
    vectors = common_space(texted[0].vectors, texted[1].vectors, rank=config.rank)
    weights = [upregulation(side.expression, side.labels, n_top=config.n_profile_genes) for side in texted]
    overlap = _overlap((a, b), markers, shared=shared, config=config)
    meaning = match_profiles(
        weights[0],
        weights[1],
        left_vectors=vectors[0],
        right_vectors=vectors[1],
        n_permutations=config.n_permutations,
        rng=generator(seed, "compared clusters"),
    )
    pairs = _pairs(a, b, meaning=meaning, overlap=overlap)
    views = [
        _view(texted, markers, vectors=vectors, meaning=meaning, overlap=overlap, config=config, from_b=from_b)
        for from_b in (False, True)
    ]
    of_a = _matches(views[0], views[1], pairs=pairs, side="a")
    return (*of_a, *_matches(views[1], views[0], pairs=pairs, side="b")), pairs


def _with_text(side: ComparedSide) -> ComparedSide:
    """Leave out genes without a text."""
    columns = np.flatnonzero(side.vectors.any(axis=1))
    return replace(
        side,
        expression=side.expression[:, columns],
        gene_names=tuple(side.gene_names[column] for column in columns),
        gene_ids=side.gene_ids[columns],
        vectors=side.vectors[columns],
    )


def _markers(side: ComparedSide, shared: Int[np.ndarray, " gene"], config: CompareConfig) -> list[Markers]:
    """Markers of each cluster among the genes that both sides have."""
    columns = np.flatnonzero(np.isin(side.gene_ids, shared))
    if len(columns) == 0:
        return [{} for _ in side.clusters]
    tables = rank_markers(
        side.expression[:, columns],
        side.labels,
        gene_names=[side.gene_names[column] for column in columns],
        n_top=config.n_markers,
    )
    return [
        {
            int(side.gene_ids[columns[marker.gene]]): marker.name
            for marker in upregulated(table.markers, max_p=config.max_marker_p)
        }
        for table in tables
    ]


def _overlap(
    sides: tuple[ComparedSide, ComparedSide],
    markers: Sequence[Sequence[Markers]],
    *,
    shared: Int[np.ndarray, " gene"],
    config: CompareConfig,
) -> _Overlap:
    """Compare every pair of clusters by the genes that both sides have, and test it for shared markers."""
    a, b = markers
    n_shared = np.array([[len(own.keys() & other.keys()) for other in b] for own in a])
    if len(shared) == 0:
        ones = np.ones(n_shared.shape)
        return _Overlap(cosine=0 * ones, n_shared=n_shared, p_value=ones, p_adjusted=ones, has_shared=False)
    weights = [
        upregulation(
            side.expression[:, [place[gene] for gene in shared.tolist()]], side.labels, n_top=config.n_profile_genes
        )
        for side in sides
        for place in ({gene: column for column, gene in enumerate(side.gene_ids.tolist())},)
    ]
    n_a, n_b = (np.array([len(each) for each in side]) for side in markers)
    p = overlap_p(n_shared, n_measured=len(shared), n_set=n_b[None, :], n_group=n_a[:, None])
    return _Overlap(
        cosine=match_weights(weights[0], weights[1]),
        n_shared=n_shared,
        p_value=p,
        p_adjusted=adjusted_p(p),
        has_shared=True,
    )


def _pairs(a: ComparedSide, b: ComparedSide, *, meaning: ProfileMatch, overlap: _Overlap) -> tuple[ClusterPair, ...]:
    figures = {
        "meaning": meaning.cosine,
        "p_meaning_a": meaning.p_left,
        "p_meaning_b": meaning.p_right,
        "markers": overlap.cosine,
        "p_markers": overlap.p_value,
        "p_markers_adjusted": overlap.p_adjusted,
    }
    return tuple(
        ClusterPair(
            a=own,
            b=other,
            n_shared=int(overlap.n_shared[row, column]),
            **{name: float(values[row, column]) for name, values in figures.items()},
        )
        for row, own in enumerate(a.clusters)
        for column, other in enumerate(b.clusters)
    )


def _view(
    sides: tuple[ComparedSide, ComparedSide],
    markers: list[list[Markers]],
    *,
    vectors: tuple[GeneVectors, GeneVectors],
    meaning: ProfileMatch,
    overlap: _Overlap,
    config: CompareConfig,
    from_b: bool,
) -> _View:
    """Choose the best cluster of the other side for each of one side."""
    own, other = (1, 0) if from_b else (0, 1)
    p_meaning = meaning.p_right.T if from_b else meaning.p_left
    cosine, of_genes, n_shared, p_adjusted = (
        each.T if from_b else each for each in (meaning.cosine, overlap.cosine, overlap.n_shared, overlap.p_adjusted)
    )
    means_it = p_meaning <= config.max_p
    shares_it = (p_adjusted <= config.max_p) & (n_shared >= config.min_overlap)
    best = (of_genes if overlap.has_shared else cosine).argmax(axis=1)
    return _View(
        own=sides[own],
        other=sides[other],
        own_markers=markers[own],
        other_markers=markers[other],
        pulls=(meaning.right, meaning.left) if from_b else (meaning.left, meaning.right),
        vectors=(vectors[own], vectors[other]),
        best=best,
        by_meaning=_strong(cosine.argmax(axis=1), means_it),
        by_markers=_strong(of_genes.argmax(axis=1), shares_it),
        by_both=_strong(best, means_it & shares_it if overlap.has_shared else means_it),
    )


def _strong(best: Int[np.ndarray, " cluster"], is_strong: np.ndarray) -> list[int | None]:
    """Give the best cluster of each row, or None where it is weak."""
    return [int(column) if is_strong[row, column] else None for row, column in enumerate(best)]


def _matches(
    view: _View, back: _View, *, pairs: Sequence[ClusterPair], side: Literal["a", "b"]
) -> tuple[ClusterMatch, ...]:
    """One match a cluster of a side; ``back`` is how the other side sees it."""
    n_b = len((view.other if side == "a" else view.own).clusters)
    matches = []
    for cluster, (name, n_cells) in enumerate(zip(view.own.clusters, np.bincount(view.own.labels), strict=True)):
        best, both = int(view.best[cluster]), view.by_both[cluster]
        own_genes, other_genes = _genes_behind(view, cluster, best)
        shared = [name for gene, name in view.own_markers[cluster].items() if gene in view.other_markers[best]]
        matches.append(
            ClusterMatch(
                side=side,
                cluster=name,
                n_cells=int(n_cells),
                match=_name(view, both),
                by_meaning=_name(view, view.by_meaning[cluster]),
                by_markers=_name(view, view.by_markers[cluster]),
                best=pairs[cluster * n_b + best if side == "a" else best * n_b + cluster],
                is_reciprocal=both is not None and back.by_both[both] == cluster,
                shared_markers=tuple(shared[:_GENES_SHOWN]),
                own_genes=own_genes,
                other_genes=other_genes,
            )
        )
    return tuple(matches)


def _name(view: _View, cluster: int | None) -> str:
    return UNMATCHED if cluster is None else view.other.clusters[cluster]


def _genes_behind(view: _View, cluster: int, best: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Genes of either cluster by their part in the cosine of the two profiles; the parts sum to the cosine."""
    own, other = view.pulls[0][cluster], view.pulls[1][best]
    own_profile, other_profile = own @ view.vectors[0], other @ view.vectors[1]
    return (
        _leading(view.own, own * (view.vectors[0] @ other_profile)),
        _leading(view.other, other * (view.vectors[1] @ own_profile)),
    )


def _leading(side: ComparedSide, parts: Float[np.ndarray, " gene"]) -> tuple[str, ...]:
    order = np.argsort(-parts, kind="stable")[:_GENES_SHOWN]
    return tuple(side.gene_names[gene] for gene in order if parts[gene] > 0)


def upregulation(expression: CellByGene, clusters: Labels, *, n_top: int) -> Float[np.ndarray, "cluster gene"]:
    """Weigh the genes that are upregulated in each cluster against the mean of the others, however large these are.

    Two data sets hold the types in other fractions, so that the rest of all cells differs between them; here every
    other cluster counts alike. The weight is the difference less one standard error, in standard deviations with every
    cluster counting alike, between 0 and 2.

    ``expression``: (cell, gene) log1p of normalised counts. ``n_top``: genes of a cluster that count at most; others,
    and all genes of a cluster of one cell, have weight 0.
    """
    inside, _ = cluster_moments(expression, clusters)
    n_others = max(len(inside.mean) - 1, 1)
    errors = inside.variance / np.maximum(inside.n_cells, 1)[:, None]
    error = np.sqrt(errors + (errors.sum(axis=0) - errors) / n_others**2)
    difference = inside.mean - (inside.mean.sum(axis=0) - inside.mean) / n_others
    deviation = np.sqrt(inside.variance.mean(axis=0) + inside.mean.var(axis=0))
    is_usable = (deviation > 0)[None, :] & (inside.n_cells > 1)[:, None]
    scaled = np.divide(difference - error, deviation[None, :], out=np.zeros_like(difference), where=is_usable)
    weights = np.clip(scaled, 0.0, _MAX_WEIGHT)
    beyond = np.argsort(-weights, axis=1, kind="stable")[:, n_top:]
    np.put_along_axis(weights, beyond, 0.0, axis=1)
    return weights


def common_space(left: GeneVectors, right: GeneVectors, *, rank: int) -> tuple[GeneVectors, GeneVectors]:
    """Whiten the gene vectors of two sides together, centre each side, and scale every gene to length one.

    Centring each side removes what separates the texts of two species as a whole. A gene without text stays a row of 0.
    """
    has_text = [np.asarray(side.any(axis=1)) for side in (left, right)]
    given = [side[known] for side, known in zip((left, right), has_text, strict=True)]
    whitening = fit_whitening(np.concatenate(given).astype(np.float32), rank=rank)
    placed = []
    for side, known in zip(given, has_text, strict=True):
        vectors = np.zeros((len(known), whitening.components.shape[1]))
        whitened = whitening(side)
        vectors[known] = unit_rows(whitened - whitened.mean(axis=0)) if len(side) else whitened
        placed.append(vectors)
    return placed[0], placed[1]


def match_profiles(
    left: Float[np.ndarray, "cluster gene"],
    right: Float[np.ndarray, "other gene2"],
    *,
    left_vectors: GeneVectors,
    right_vectors: GeneVectors,
    n_permutations: int,
    rng: np.random.Generator,
) -> ProfileMatch:
    """Compare clusters by their profiles: the weighted sum of gene vectors, less what the clusters of a side share.

    The null permutes the vectors of the right side's genes among those that have one; p values are those of the highest
    cosine. ``left``, ``right``: weights of :func:`upregulation`; the vectors are of :func:`common_space`.
    """
    left_shares, right_shares = _shares(left, left_vectors), _shares(right, right_vectors)
    profiles = left_shares @ left_vectors
    cosine = profiles @ (right_shares @ right_vectors).T
    known = np.flatnonzero(right_vectors.any(axis=1))
    permuted = right_vectors.copy()

    def draw() -> tuple[np.ndarray, np.ndarray]:
        permuted[known] = right_vectors[rng.permutation(known)]
        drawn = profiles @ (_shares(right, permuted) @ permuted).T
        return drawn.max(axis=1, keepdims=True), drawn.max(axis=0, keepdims=True)

    p_left, p_right = permutation_p((cosine, cosine), draw, n_permutations=n_permutations)
    return ProfileMatch(cosine=cosine, p_left=p_left, p_right=p_right, left=left_shares, right=right_shares)


def match_weights(
    left: Float[np.ndarray, "cluster gene"], right: Float[np.ndarray, "other gene"]
) -> Float[np.ndarray, "cluster other"]:
    """Cosine of weights of :func:`upregulation` over the same genes, less what the clusters of a side share."""
    profiles = [unit_rows(weights) for weights in (left, right)]
    own, other = (unit_rows(each - each.mean(axis=0)) for each in profiles)
    return np.asarray(own @ other.T)


def _shares(weights: Float[np.ndarray, "cluster gene"], vectors: GeneVectors) -> Float[np.ndarray, "cluster gene"]:
    """Share of each gene in a profile: of length one, then centred over the clusters, then of length one again."""
    shares = _scaled(weights, vectors)
    return _scaled(shares - shares.mean(axis=0), vectors)


def _scaled(weights: Float[np.ndarray, "cluster gene"], vectors: GeneVectors) -> Float[np.ndarray, "cluster gene"]:
    """Divide weights by the length of the profile that they make; a profile of no length stays 0."""
    lengths = np.linalg.norm(weights @ vectors, axis=1, keepdims=True)
    return np.divide(weights, lengths, out=np.zeros_like(weights), where=lengths > _NO_LENGTH)


log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class CellComparison:
    """Matches of two sets of cells."""

    matches: tuple[ClusterMatch, ...]  # matches, pairs: see :func:`cellmodel.annotate.match_clusters.match_clusters`
    pairs: tuple[ClusterPair, ...]
    meeting: Meeting  # how genes were matched
    n_genes: tuple[int, int]  # genes of either side that were compared
    n_shared: int  # genes that both sides have; 0 where they are matched by text alone
    encoder_id: str  # encoder whose vectors were used on both sides
    store_ids: tuple[str, str]  # store of either side
    note: str  # the same in words
    # what the clusters of either side were made with, where that is another store
    made_with: tuple[Lineage | None, Lineage | None] = (None, None)


def compare_clustered(
    a: ClusteredCells,
    b: ClusteredCells,
    *,
    stores: tuple[genekb.Store, genekb.Store],
    config: RunConfig,
    compare: CompareConfig | None = None,
    meeting: Meeting | None = None,
) -> CellComparison:
    """Match the clusters of two sets of cells that are read already; see ``cellmodel.tl.compare``."""
    how = meeting or ("ids" if stores[0].manifest.taxa == stores[1].manifest.taxa else "orthologs")
    sides = bring_together(a, b, stores=stores, meeting=how)
    matches, pairs = match_clusters(sides[0], sides[1], config=compare or CompareConfig(), seed=config.seed)
    n_genes = (len(sides[0].gene_names), len(sides[1].gene_names))
    n_shared = 0 if how == "text" else n_genes[0]
    encoder_id = "" if a.alignment is None else a.alignment.encoder_id
    how_matched = {"ids": "by GeneID", "orthologs": "by GeneID of the orthologue"}
    note = (
        f"{n_genes[0]} and {n_genes[1]} genes with a text are compared by meaning alone"
        if how == "text"
        else f"{n_shared} genes of both files are matched {how_matched[how]}"
    )
    return CellComparison(
        matches=matches,
        pairs=pairs,
        meeting=how,
        n_genes=n_genes,
        n_shared=n_shared,
        encoder_id=encoder_id,
        store_ids=(stores[0].store_id, stores[1].store_id),
        note=note,
    )
