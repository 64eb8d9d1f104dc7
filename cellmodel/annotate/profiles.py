"""What clusters mean: the genes in which each leads, as one direction in the space of the gene texts."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cellmodel.core.arrays import unit_rows
from cellmodel.core.types import CellByGene, GeneVectors, Labels
from cellmodel.pp.moments import cluster_moments
from cellmodel.text.paths import fit_whitening

_MAX_WEIGHT = 2.0  # standard deviations: no single gene makes a profile
_TIE = 1e-9  # cosines that sums in another order may part


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ProfileMatch:
    """How near the clusters of two sides lie by the texts of their genes."""

    cosine: Float[np.ndarray, "cluster other"]  # (cluster, other) cosine of their profiles, -1 to 1
    # p_left, p_right: (cluster, other) how often the highest cosine of any cluster of the other side reaches this one
    # when the genes are permuted: for the cluster of the left side, and for that of the right
    p_left: Float[np.ndarray, "cluster other"]
    p_right: Float[np.ndarray, "cluster other"]
    # left, right: (cluster, gene) share of each gene in a unit profile; ``left @ left_vectors`` are the profiles
    left: Float[np.ndarray, "cluster gene"]
    right: Float[np.ndarray, "other gene2"]


def leading_genes(expression: CellByGene, clusters: Labels, *, n_top: int) -> Float[np.ndarray, "cluster gene"]:
    """Weigh the genes in which each cluster leads the mean of the other clusters, however large these are.

    Two data sets hold the types in other shares, so that a rest of all other cells is another rest in each; here every
    other cluster counts alike. The weight is the lead less one standard error, in standard deviations with every
    cluster counting alike, between 0 and 2.

    ``expression``: (cell, gene) log1p of normalised counts. ``clusters``: one label per cell, 0 .. k-1, two of them at
    least, each used. ``n_top``: genes of a cluster that count at most, highest weight first. Returns (cluster, gene); 0
    for a gene that does not count, and for all genes of a cluster of one cell. Raises ``ValueError`` if labels or
    values are unusable (see ``cluster_moments``).
    """
    inside, _ = cluster_moments(expression, clusters)
    n_others = max(len(inside.mean) - 1, 1)
    errors = inside.variance / np.maximum(inside.n_cells, 1)[:, None]
    error = np.sqrt(errors + (errors.sum(axis=0) - errors) / n_others**2)
    lead = inside.mean - (inside.mean.sum(axis=0) - inside.mean) / n_others
    deviation = np.sqrt(inside.variance.mean(axis=0) + inside.mean.var(axis=0))
    is_usable = (deviation > 0)[None, :] & (inside.n_cells > 1)[:, None]
    scaled = np.divide(lead - error, deviation[None, :], out=np.zeros_like(lead), where=is_usable)
    weights = np.clip(scaled, 0.0, _MAX_WEIGHT)
    beyond = np.argsort(-weights, axis=1, kind="stable")[:, n_top:]
    np.put_along_axis(weights, beyond, 0.0, axis=1)
    return weights


def common_space(left: GeneVectors, right: GeneVectors, *, rank: int) -> tuple[GeneVectors, GeneVectors]:
    """Whiten the gene vectors of two sides together, centre each side, and scale every gene to length one.

    What separates the texts of two species as a whole goes with the mean of each side. A row of zeros, a gene without
    text, stays one.

    Raises ``ValueError`` if fewer than two distinct vectors are given.
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

    Chance is measured by dealing the vectors of the right side's genes out anew among those of them that have one:
    p values are (1 + hits) / (1 + n) :cite:`phipson2010permutation`, by the highest cosine of a deal
    :cite:`westfall1993resampling`.

    ``left``, ``right``: weights of :func:`leading_genes`. ``left_vectors``, ``right_vectors``: of :func:`common_space`,
    in the order of the genes of either side.
    """
    left_shares, right_shares = _shares(left, left_vectors), _shares(right, right_vectors)
    profiles = left_shares @ left_vectors
    cosine = profiles @ (right_shares @ right_vectors).T
    known = np.flatnonzero(right_vectors.any(axis=1))
    hits_left, hits_right = np.ones_like(cosine), np.ones_like(cosine)
    dealt = right_vectors.copy()
    for _ in range(n_permutations):
        dealt[known] = right_vectors[rng.permutation(known)]
        drawn = profiles @ (_shares(right, dealt) @ dealt).T
        hits_left += drawn.max(axis=1, keepdims=True) >= cosine - _TIE
        hits_right += drawn.max(axis=0, keepdims=True) >= cosine - _TIE
    return ProfileMatch(
        cosine=cosine,
        p_left=hits_left / (1 + n_permutations),
        p_right=hits_right / (1 + n_permutations),
        left=left_shares,
        right=right_shares,
    )


def match_weights(
    left: Float[np.ndarray, "cluster gene"], right: Float[np.ndarray, "other gene"]
) -> Float[np.ndarray, "cluster other"]:
    """Compare clusters by the genes themselves, whatever their texts.

    ``left``, ``right``: weights of :func:`leading_genes`, over the same genes in the same order. Returns cosine of the
    weights less what the clusters of a side share, -1 to 1.
    """
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
    return np.divide(weights, lengths, out=np.zeros_like(weights), where=lengths > _TIE)
