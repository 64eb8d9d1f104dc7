"""Clusters of one data set against those of another: by the meaning of their genes, by shared markers, by both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

import genekb
from cellmodel.annotate.shared_genes import ComparedSide, GenesBy, bring_together
from cellmodel.core.arrays import CellByGene, GeneVectors, Labels, unit_rows
from cellmodel.core.config import RunConfig
from cellmodel.core.random import generator, permutation_p
from cellmodel.explain.enrichment import adjusted_p, overlap
from cellmodel.explain.groups import ClusteredCells
from cellmodel.explain.markers import rank_markers, upregulated
from cellmodel.io.records import Lineage
from cellmodel.pp.moments import cluster_moments
from cellmodel.pp.text.align import fit_whitening

UNMATCHED = "unmatched"
_GENES_SHOWN = 10
_MAX_WEIGHT = 2.0  # standard deviations: no single gene makes a profile
_NO_LENGTH = 1e-9  # of a profile
_P_MARKERS = ("p_markers", "p_markers_adjusted")
Markers = dict[int, str]  # GeneID → name as the side spells it, best marker first


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareConfig:
    """What makes two clusters a match; one set of values serves every pair of data sets."""

    n_markers: int = 50  # markers of a cluster at most, highest t first
    max_marker_p: float = 0.05  # adjusted p value up to which a gene is a marker; its t must be positive too
    min_overlap: int = 2  # markers that two clusters must share
    n_profile_genes: int = 100  # upregulated genes of a cluster that count at most
    rank: int = 128  # dimensions of the whitened space of the texts
    n_permutations: int = 200  # permutations of the genes; the least p value is 1 / (1 + n)
    max_p: float = 0.05  # adjusted p value, of the meaning and of the markers, up to which a match counts

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


Choice = Int[np.ndarray, " cluster"]  # a cluster of the other side; -1 where it is weak


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Side:
    """A data set, and which cluster of the other is chosen for each of its own."""

    name: Literal["a", "b"]
    cells: ComparedSide  # genes with a text
    markers: Sequence[Markers]
    vectors: GeneVectors  # in the common space
    parts: Float[np.ndarray, "cluster gene"]  # part of each gene in the profile of a cluster
    best: Choice  # weak or not
    by_meaning: Choice
    by_markers: Choice
    match: Choice


def match_clusters(
    a: ComparedSide, b: ComparedSide, *, config: CompareConfig, seed: int
) -> tuple[tuple[ClusterMatch, ...], tuple[ClusterPair, ...]]:
    """Match the clusters of two data sets, each way; returns a match for each of ``a``, then of ``b``, and all pairs.

    By meaning, the best match has the highest cosine of profiles, judged against permuted genes. By markers, it has the
    highest cosine of upregulated genes, judged by the overlap of markers among the shared genes. A match by both is the
    best by markers that the meaning confirms: shared genes find the counterpart more often than their texts do. Where
    no gene is shared, meaning stands alone.
    """
    with_text = [side.take(np.flatnonzero(side.vectors.any(axis=1))) for side in (a, b)]
    vectors = common_space(with_text[0].vectors, with_text[1].vectors, rank=config.rank)
    weights = [upregulation(side.expression, side.labels, n_top=config.n_profile_genes) for side in with_text]
    meaning = match_profiles(
        weights[0],
        weights[1],
        left_vectors=vectors[0],
        right_vectors=vectors[1],
        n_permutations=config.n_permutations,
        rng=generator(seed, "compared clusters"),
    )
    markers, by_markers = _compare_markers(a, b, config)
    figures = {"meaning": meaning.cosine, "p_meaning_a": meaning.p_left, "p_meaning_b": meaning.p_right, **by_markers}
    pairs = [
        [
            ClusterPair(a=own, b=other, **{name: values[row, column].item() for name, values in figures.items()})
            for column, other in enumerate(b.clusters)
        ]
        for row, own in enumerate(a.clusters)
    ]
    has_shared = bool(np.intersect1d(a.gene_ids, b.gene_ids).any())
    names: tuple[Literal["a", "b"], ...] = ("a", "b")
    left, right = (
        _Side(
            name=name,
            cells=with_text[at],
            markers=markers[at],
            vectors=vectors[at],
            parts=(meaning.left, meaning.right)[at],
            **_choose(name, figures, config, has_shared=has_shared),
        )
        for at, name in enumerate(names)
    )
    of_a = [_match(left, right, row, pairs[row][best]) for row, best in enumerate(left.best.tolist())]
    of_b = [_match(right, left, row, pairs[best][row]) for row, best in enumerate(right.best.tolist())]
    return (*of_a, *of_b), tuple(pair for row in pairs for pair in row)


def _compare_markers(
    a: ComparedSide, b: ComparedSide, config: CompareConfig
) -> tuple[list[list[Markers]], dict[str, np.ndarray]]:
    """Markers of each cluster among the genes that both sides have, and what :class:`ClusterPair` says of them."""
    shared, *columns = np.intersect1d(a.gene_ids, b.gene_ids, return_indices=True)
    sides = [side.take(each[shared > 0]) for side, each in zip((a, b), columns, strict=True)]
    if not shared.any():
        none = np.zeros((len(a.clusters), len(b.clusters)))
        without = {"markers": none, "n_shared": none.astype(np.int64)}
        return [[{} for _ in side.clusters] for side in sides], without | dict.fromkeys(_P_MARKERS, none + 1)
    markers = [_markers(side, config) for side in sides]
    n_shared, p = overlap(markers[0], markers[1], measured=shared[shared > 0].tolist())
    weights = [upregulation(side.expression, side.labels, n_top=config.n_profile_genes) for side in sides]
    tested = dict(zip(_P_MARKERS, (p, adjusted_p(p)), strict=True))
    return markers, {"markers": match_weights(weights[0], weights[1]), "n_shared": n_shared} | tested


def _markers(side: ComparedSide, config: CompareConfig) -> list[Markers]:
    tables = rank_markers(side.expression, side.labels, gene_names=side.gene_names, n_top=config.n_markers, order="t")
    return [
        {
            int(side.gene_ids[marker.gene]): marker.name
            for marker in upregulated(table.markers, max_p=config.max_marker_p)
        }
        for table in tables
    ]


def _choose(
    name: str, figures: Mapping[str, np.ndarray], config: CompareConfig, *, has_shared: bool
) -> dict[str, Choice]:
    """Choose a cluster of the other side for each of one side, by each of the fields of :class:`_Side`."""
    of = {figure: values if name == "a" else values.T for figure, values in figures.items()}
    means_it = of[f"p_meaning_{name}"] <= config.max_p
    shares_it = (of["p_markers_adjusted"] <= config.max_p) & (of["n_shared"] >= config.min_overlap)
    by_meaning, by_markers = of["meaning"].argmax(axis=1), of["markers"].argmax(axis=1)

    def unless_weak(best: Choice, is_strong: np.ndarray) -> Choice:
        return np.where(is_strong[np.arange(len(best)), best], best, -1)

    return {
        "best": by_markers if has_shared else by_meaning,
        "by_meaning": unless_weak(by_meaning, means_it),
        "by_markers": unless_weak(by_markers, shares_it),
        "match": unless_weak(by_markers, means_it & shares_it) if has_shared else unless_weak(by_meaning, means_it),
    }


def _match(own: _Side, other: _Side, cluster: int, pair: ClusterPair) -> ClusterMatch:
    """Say what a cluster is on the other side; ``pair``: of it and its best."""
    names = (*other.cells.clusters, UNMATCHED)  # -1 is the last
    best, match = own.best[cluster], own.match[cluster]
    profile, other_profile = own.parts[cluster] @ own.vectors, other.parts[best] @ other.vectors
    shared = [name for gene, name in own.markers[cluster].items() if gene in other.markers[best]]
    return ClusterMatch(
        side=own.name,
        cluster=own.cells.clusters[cluster],
        n_cells=int(np.count_nonzero(own.cells.labels == cluster)),
        match=names[match],
        by_meaning=names[own.by_meaning[cluster]],
        by_markers=names[own.by_markers[cluster]],
        best=pair,
        is_reciprocal=bool(match >= 0 and other.match[match] == cluster),
        shared_markers=tuple(shared[:_GENES_SHOWN]),
        own_genes=_genes_behind(own, own.parts[cluster] * (own.vectors @ other_profile)),
        other_genes=_genes_behind(other, other.parts[best] * (other.vectors @ profile)),
    )


def _genes_behind(side: _Side, parts: Float[np.ndarray, " gene"]) -> tuple[str, ...]:
    """Genes by their part in the cosine of two profiles; the parts sum to the cosine."""
    order = np.argsort(-parts, kind="stable")[:_GENES_SHOWN]
    return tuple(side.cells.gene_names[gene] for gene in order if parts[gene] > 0)


def upregulation(expression: CellByGene, clusters: Labels, *, n_top: int) -> Float[np.ndarray, "cluster gene"]:
    """Weigh the genes that are upregulated in each cluster against the mean of the others, however large these are.

    Two data sets hold the types in other fractions, so every other cluster counts alike. The weight is the difference
    less one standard error, in standard deviations, between 0 and 2; 0 beyond the ``n_top`` genes of a cluster.
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
    """Whiten the gene vectors of two sides together, center each side, and scale every gene to length one.

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

    The null permutes the vectors of the right side's genes; p values are those of the highest cosine.
    """
    left_shares, right_shares = _shares(left, left_vectors), _shares(right, right_vectors)
    profiles = left_shares @ left_vectors
    cosine = profiles @ (right_shares @ right_vectors).T
    known = np.flatnonzero(right_vectors.any(axis=1))

    def highest(order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        permuted = right_vectors.copy()
        permuted[known] = right_vectors[order]
        drawn = profiles @ (_shares(right, permuted) @ permuted).T
        return drawn.max(axis=1, keepdims=True), drawn.max(axis=0, keepdims=True)

    p_left, p_right = permutation_p(
        (cosine, cosine), highest, draw=lambda: rng.permutation(known), n_permutations=n_permutations
    )
    return ProfileMatch(cosine=cosine, p_left=p_left, p_right=p_right, left=left_shares, right=right_shares)


def match_weights(
    left: Float[np.ndarray, "cluster gene"], right: Float[np.ndarray, "other gene"]
) -> Float[np.ndarray, "cluster other"]:
    """Cosine of weights of :func:`upregulation` over the same genes, less what the clusters of a side share."""
    profiles = [unit_rows(weights) for weights in (left, right)]
    own, other = (unit_rows(each - each.mean(axis=0)) for each in profiles)
    return np.asarray(own @ other.T)


def _shares(weights: Float[np.ndarray, "cluster gene"], vectors: GeneVectors) -> Float[np.ndarray, "cluster gene"]:
    """Share of each gene in a profile: of length one, then centered over the clusters, then of length one again."""
    shares = _scaled(weights, vectors)
    return _scaled(shares - shares.mean(axis=0), vectors)


def _scaled(weights: Float[np.ndarray, "cluster gene"], vectors: GeneVectors) -> Float[np.ndarray, "cluster gene"]:
    """Divide weights by the length of the profile that they make; a profile of no length stays 0."""
    lengths = np.linalg.norm(weights @ vectors, axis=1, keepdims=True)
    return np.divide(weights, lengths, out=np.zeros_like(weights), where=lengths > _NO_LENGTH)


@dataclass(frozen=True, kw_only=True, slots=True)
class CellComparison:
    """Matches of two sets of cells."""

    matches: tuple[ClusterMatch, ...]  # matches, pairs: of :func:`match_clusters`
    pairs: tuple[ClusterPair, ...]
    genes_by: GenesBy  # how genes were matched
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
    genes_by: GenesBy | None = None,
) -> CellComparison:
    """Match the clusters of two sets of cells that are read already; see ``cellmodel.tl.compare``."""
    by = genes_by or ("ids" if stores[0].manifest.taxa == stores[1].manifest.taxa else "orthologs")
    sides = bring_together(a, b, stores=stores, genes_by=by)
    matches, pairs = match_clusters(sides[0], sides[1], config=compare or CompareConfig(), seed=config.seed)
    n_genes = (len(sides[0].gene_names), len(sides[1].gene_names))
    how_matched = {"ids": "by GeneID", "orthologs": "by GeneID of the orthologue"}
    note = (
        f"{n_genes[0]} and {n_genes[1]} genes with a text are compared by meaning alone"
        if by == "text"
        else f"{n_genes[0]} genes of both files are matched {how_matched[by]}"
    )
    return CellComparison(
        matches=matches,
        pairs=pairs,
        genes_by=by,
        n_genes=n_genes,
        n_shared=0 if by == "text" else n_genes[0],
        encoder_id=a.known.lineage.encoder_id,
        store_ids=(stores[0].store_id, stores[1].store_id),
        note=note,
    )
