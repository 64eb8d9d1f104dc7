"""Names for clusters: the types whose weights of genes agree best with the clusters' profiles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float

from cellmodel.annotate.marker_overlap import UNASSIGNED
from cellmodel.annotate.type_scores import TypeEvidence, standard_profiles
from cellmodel.core.random import generator

_LEADS = 0.25  # standard deviations above the mean of all cells


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeNaming:
    """When a name is given; one set of values serves every data set."""

    n_permutations: int = 200  # deals of the genes; the least p value is 1 / (1 + n)
    max_p: float = 0.05  # p value up to which a cluster is named
    # markers of the type that must lead in the cluster by a quarter of a standard deviation, or all if it has fewer;
    # for a type without markers, genes that must speak for it
    min_genes: int = 4
    # share of the type's measured markers that must lead. Any relative of the right type is above chance; this asks for
    # more
    min_share: float = 0.6
    n_genes: int = 8  # genes told for a name

    def __post_init__(self) -> None:
        """Check the ranges."""
        if min(self.n_permutations, self.n_genes) < 1 or self.min_genes < 0:
            raise ValueError(
                f"n_permutations and n_genes must be >= 1 and min_genes >= 0, got {self.n_permutations}, "
                f"{self.n_genes} and {self.min_genes}"
            )
        if not (0 < self.max_p <= 1 and 0 <= self.min_share <= 1):
            raise ValueError(f"max_p must lie in (0, 1] and min_share in [0, 1], got {self.max_p} and {self.min_share}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeGene:
    """A gene that speaks for a name: its part of the score, and whether the type lists it as a marker."""

    name: str
    contribution: float
    is_marker: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeName:
    """Name of one cluster, and what speaks for it."""

    cluster: int  # its label
    name: str  # the best type, or ``unassigned`` where the evidence is weak
    # best, runner_up: the two types with the highest scores; ``runner_up`` is None where there is one candidate
    best: str
    ontology_id: str  # term of the Cell Ontology for ``best``, where its table names one
    runner_up: str | None
    # score, runner_up_score, margin: in standard deviations of what the type scores with the genes dealt out at random;
    # the difference of the two
    score: float
    runner_up_score: float
    margin: float
    text_score: float  # text_score, marker_score: of ``best``, by either witness alone
    marker_score: float
    p_value: float  # share of deals in which any candidate reaches ``score`` in this cluster
    share_markers: float  # share of the measured markers of ``best`` that lead in the cluster; 0 if there are none
    genes: tuple[TypeGene, ...]  # those with the largest parts in ``score``
    reason: str = ""  # why ``best`` is rejected, such as ``3 of 10 markers`` upregulated; empty where it is the name


def name_by_types(
    profiles: Float[np.ndarray, "cluster gene"],
    evidence: TypeEvidence,
    *,
    gene_names: Sequence[str],
    config: TypeNaming | None = None,
    seed: int,
) -> tuple[TypeName, ...]:
    """Name each cluster by the type whose weights agree best with its profile.

    ``profiles``: of :func:`cellmodel.annotate.type_scores.cluster_profiles`. ``gene_names``: one per gene. ``seed``: of
    the deals. Returns one name a cluster. Equal scores go to the type that comes first.
    """
    settings = config or TypeNaming()
    standard = standard_profiles(profiles)
    scores = (evidence.both @ standard.T).T  # (cluster, type)
    p_values = _best_p(standard, evidence.both, scores.max(axis=1), n=settings.n_permutations, seed=seed)
    named = []
    for cluster, (profile, of_types, p_value) in enumerate(zip(standard, scores, p_values.tolist(), strict=True)):
        order = np.argsort(-of_types, kind="stable").tolist()
        best, second = order[0], order[1] if len(order) > 1 else None
        genes = _genes(profile, evidence, best, gene_names=gene_names)
        leading = profiles[cluster, evidence.markers[best].indices] >= _LEADS
        reason = f"p {p_value:.2g}"
        if p_value <= settings.max_p:
            n_markers = int(evidence.n_markers[best])
            reason = _weakness(leading, n_markers=n_markers, n_genes=len(genes), settings=settings)
        second_score = 0.0 if second is None else float(of_types[second])
        named.append(
            TypeName(
                cluster=cluster,
                name=UNASSIGNED if reason else evidence.types[best].name,
                best=evidence.types[best].name,
                ontology_id=evidence.types[best].ontology_id,
                runner_up=None if second is None else evidence.types[second].name,
                score=float(of_types[best]),
                runner_up_score=second_score,
                margin=float(of_types[best]) - second_score,
                text_score=float((evidence.text[best] @ profile)[0]),
                marker_score=float((evidence.markers[best] @ profile)[0]),
                p_value=p_value,
                share_markers=float(leading.mean()) if len(leading) else 0.0,
                genes=genes[: settings.n_genes],
                reason=reason,
            )
        )
    return tuple(named)


def _best_p(
    standard: Float[np.ndarray, "cluster gene"],
    weights: sp.csr_matrix,
    best: Float[np.ndarray, " cluster"],
    *,
    n: int,
    seed: int,
) -> Float[np.ndarray, " cluster"]:
    """(1 + hits) / (1 + n), a hit being a deal of the genes whose highest score reaches that found."""
    rng = generator(seed, "types")
    hits = np.zeros(len(standard))
    for _ in range(n):
        dealt = standard[:, rng.permutation(standard.shape[1])]
        hits += (weights @ dealt.T).max(axis=0) >= best
    return (1 + hits) / (1 + n)


def _weakness(leading: Bool[np.ndarray, " marker"], *, n_markers: int, n_genes: int, settings: TypeNaming) -> str:
    """How many of the measured markers are upregulated, or genes support a type without markers; empty if enough."""
    if n_markers == 0:
        return "" if n_genes >= settings.min_genes else f"{n_genes} of {settings.min_genes} genes"
    n_leading = int(leading.sum())
    is_enough = n_leading >= min(settings.min_genes, n_markers) and n_leading >= settings.min_share * len(leading)
    return "" if is_enough else f"{n_leading} of {len(leading) or n_markers} markers"


def _genes(
    profile: Float[np.ndarray, " gene"], evidence: TypeEvidence, best: int, *, gene_names: Sequence[str]
) -> tuple[TypeGene, ...]:
    """Genes with a positive part in the score of a type, largest first."""
    row = evidence.both[best]
    markers = set(evidence.markers[best].indices.tolist())
    parts = row.data * profile[row.indices]
    order = np.lexsort((row.indices, -parts))
    return tuple(
        TypeGene(
            name=gene_names[row.indices[place]],
            contribution=float(parts[place]),
            is_marker=int(row.indices[place]) in markers,
        )
        for place in order.tolist()
        if parts[place] > 0
    )
