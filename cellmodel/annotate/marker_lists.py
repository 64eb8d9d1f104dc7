"""Names from lists of marker genes alone: no cells are read, as for tables of Seurat, scanpy or a paper."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

import genekb
from cellmodel.annotate.cell_types import HUMAN, CellType, TypeEvidence, evidence_of_genes, usual_types
from cellmodel.annotate.levels import (
    GROUP_WEIGHT,
    LEVELS,
    Level,
    LevelName,
    Support,
    TypeGene,
    Verdict,
    give_verdict,
    level_name,
    lineage_of,
    place_gap,
    places,
    weigh_by_place,
)
from cellmodel.annotate.marker_overlap import name_gene_lists
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import AlignmentTooLow, InputUnusable
from cellmodel.core.random import generator
from cellmodel.explain.enrichment import false_discovery_rate
from cellmodel.explain.marker_tables import MarkerLists
from cellmodel.io.records import Lineage
from cellmodel.io.records import lineage_of as store_lineage
from genekb.core.errors import SpeciesMismatch
from genekb.core.messages import check_choice
from genekb.query.gene_theme import share_reaching

_LAST_WEIGHT = 0.5  # of the last gene of a list; the first has 1
_N_GENES = 8  # genes reported for a name


@dataclass(frozen=True, kw_only=True, slots=True)
class ListChoice:
    """How marker lists are named."""

    types: Sequence[CellType] | None = None  # the candidates; those of the package's table if None
    level: Level = "auto"
    universe: Sequence[str] | None = None  # genes that a list could hold; those of the store with a text if None
    n_top: int = 50  # genes of a list that count
    n_permutations: int = 200  # random lists of each size; the least p value is 1 / (1 + n)

    def __post_init__(self) -> None:
        """Check the level and the ranges."""
        check_choice("level", self.level, LEVELS)
        if min(self.n_top, self.n_permutations) < 1:
            raise ValueError(f"n_top and n_permutations must be >= 1, got {self.n_top} and {self.n_permutations}")


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedLists:
    """Names of marker lists."""

    names: tuple[Verdict, ...]  # one a cluster, in the order of the lists
    lists: Mapping[str, Mapping[str, int]]  # the genes of each list that count, and their GeneIDs, 0 if unknown
    lineage: Lineage  # store and encoder that were used
    n_candidates: int
    n_universe: int  # genes that random lists are drawn from
    n_orthologs: int  # genes of the lists that are read as those of the store's species with the same symbol

    def rows(self) -> list[dict[str, Any]]:
        """One row a list, for a table or JSON."""
        return [
            {"cluster": cluster}
            | asdict(one)
            | {
                "genes": tuple(gene.name for gene in one.genes),
                "n_genes": sum(map(bool, genes.values())),
                "unresolved": tuple(gene for gene, gene_id in genes.items() if not gene_id),
            }
            for one, (cluster, genes) in zip(self.names, self.lists.items(), strict=True)
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class ListEvidence:
    """What candidates and their groups say of the genes that a list could hold."""

    evidence: TypeEvidence  # candidates, then the groups that they belong to
    n_types: int  # candidates among these
    gene_ids: Int[np.ndarray, " gene"]

    @property
    def types(self) -> tuple[CellType, ...]:
        """The candidates."""
        return self.evidence.types[: self.n_types]

    @property
    def groups(self) -> tuple[CellType, ...]:
        """Groups of the candidates."""
        return self.evidence.types[self.n_types :]

    @cached_property
    def weights(self) -> Float[np.ndarray, "gene type"]:
        """Weights of the genes by both evidence sources."""
        return np.ascontiguousarray(self.evidence.both.toarray().T)

    def highest(self, scores: Float[np.ndarray, " type"]) -> float:
        """Highest score of any candidate, groups by their share."""
        return float((scores * np.where(np.arange(len(scores)) < self.n_types, 1, GROUP_WEIGHT)).max())


def list_evidence(
    types: Sequence[CellType], kb: genekb.Store, *, gene_ids: Int[np.ndarray, " gene"], encoder: str | None = None
) -> ListEvidence:
    """Find what types, and the groups that they belong to, say of genes: of all by text, not of the nearest alone."""
    names = {one.name for one in types}
    groups = {one.name: one for each in types for one in lineage_of(each) if one.name not in names}
    encoder_id = kb.encoder_id(encoder)
    selection = kb.vectors(gene_ids, encoder=encoder_id)
    known = (gene_ids, selection.vectors, selection.has_vector)
    every = (*types, *groups.values())
    evidence = evidence_of_genes(every, known, kb, encoder_id=encoder_id, n_top=len(gene_ids), by_specificity=False)
    return ListEvidence(evidence=evidence, n_types=len(types), gene_ids=gene_ids)


def list_scores(
    weights: Float[np.ndarray, "gene type"],
    genes: Int[np.ndarray, " gene"],
    *,
    totals: Float[np.ndarray, " type"] | None = None,
) -> Float[np.ndarray, " type"]:
    r"""Score types by a list of genes, best first: :math:`r \sqrt{G}` of their weights and the profile of the list.

    The profile is 1 for the first gene, falls evenly to a half for the last, and is 0 for the other *G* genes.
    ``totals``: sums of the weights over all genes, where they are at hand.
    """
    of_all = weights.sum(axis=0) if totals is None else totals
    profile, mean, size = _profile(len(genes), len(weights))
    return np.asarray((profile @ weights[genes] - mean * of_all) / size)


def _profile(n_genes: int, n_all: int) -> tuple[Float[np.ndarray, " gene"], float, float]:
    """Weights of the genes of a list, and mean and standard deviation over all genes."""
    weights = np.linspace(1.0, _LAST_WEIGHT, n_genes)
    mean = weights.sum() / n_all
    return weights, float(mean), float(np.sqrt(max((weights**2).sum() / n_all - mean**2, 1e-12)))


def overlap_rows(lists: MarkerLists, panel: Mapping[str, Sequence[str]], *, choice: ListChoice) -> list[dict[str, Any]]:
    """Name marker lists by their overlap with the listed genes of a panel alone; one row a list.

    Without ``choice.universe`` the genes of the lists and of the panel are all that a list could hold.
    """
    chosen = [genes[: choice.n_top] for genes in lists.genes.values()]
    listed = dict.fromkeys(gene for genes in (*chosen, *panel.values()) for gene in genes)
    background = tuple(listed if choice.universe is None else dict.fromkeys(choice.universe))
    measured = frozenset(background)
    inside = [tuple(gene for gene in genes if gene in measured) for genes in chosen]
    named = name_gene_lists(inside, panel, background=background)
    return [
        {"cluster": cluster}
        | {key: value for key, value in asdict(one).items() if key not in {"cluster", "n_markers"}}
        | {"n_genes": len(genes), "unresolved": tuple(gene for gene in all_genes if gene not in measured)}
        for cluster, one, genes, all_genes in zip(lists.genes, named, inside, chosen, strict=True)
    ]


def name_lists(lists: MarkerLists, kb: genekb.Store, config: RunConfig, *, choice: ListChoice) -> NamedLists:
    """Name marker lists by the text of cell types and their marker genes."""
    types = usual_types() if choice.types is None else choice.types
    if not types:
        raise InputUnusable("there is no cell type to name lists by; give candidates")
    found, n_orthologs = resolve_lists(lists, kb, n_top=choice.n_top)
    gene_ids = universe_ids(found, kb, config, choice.universe)
    about = list_evidence(types, kb, gene_ids=gene_ids, encoder=config.encoder)
    return NamedLists(
        names=name_by_evidence(found, about, choice=choice, seed=config.seed),
        lists=found,
        lineage=store_lineage(kb, kb.encoder_id(config.encoder)),
        n_candidates=len(types),
        n_universe=len(gene_ids),
        n_orthologs=n_orthologs,
    )


def name_by_evidence(
    lists: Mapping[str, Mapping[str, int]], about: ListEvidence, *, choice: ListChoice, seed: int
) -> tuple[Verdict, ...]:
    """Name lists of genes with their GeneIDs, 0 for those that are unknown, best first."""
    null = cache(partial(random_scores, about, n_lists=choice.n_permutations, seed=seed))
    known = [np.array([gene_id for gene_id in genes.values() if gene_id], dtype=np.int64) for genes in lists.values()]
    rows = [np.searchsorted(about.gene_ids, each) for each in known]
    totals = about.weights.sum(axis=0)
    scores = np.array([list_scores(about.weights, genes, totals=totals) for genes in rows])
    scores[:, : about.n_types], support = weigh_by_place(scores[:, : about.n_types], places(about.types))
    p_values = [
        share_reaching(about.highest(own), null(len(genes))) if len(genes) else 1.0
        for own, genes in zip(scores, rows, strict=True)
    ]
    tests = zip(p_values, false_discovery_rate(np.array(p_values)).tolist(), strict=True)
    found = zip(lists.values(), rows, scores, support, tests, strict=True)
    return tuple(
        _name(genes, place=place, scores=own, support=of_place, tests=test, about=about, choice=choice)
        for genes, place, own, of_place, test in found
    )


def resolve_lists(lists: MarkerLists, kb: genekb.Store, *, n_top: int) -> tuple[dict[str, dict[str, int]], int]:
    """GeneID of each gene of each list, 0 for those that the store does not know; each gene once, as many as count.

    Symbols of another species are read as orthologues. A human store names none, so a list that it knows mostly in
    capitals (Cd3d) is read so: symbols of mouse are given as the human ones are. Returns how many genes are, too.
    """
    every = list(dict.fromkeys(gene for genes in lists.genes.values() for gene in genes))
    spelled = dict(zip(every, every, strict=True))
    if HUMAN in kb.manifest.taxa:
        own, other = (
            {gene for gene, is_known in zip(every, kb.resolve(names).is_resolved.tolist(), strict=True) if is_known}
            for names in (every, [gene.upper() for gene in every])
        )
        foreign = [genes for genes in lists.genes.values() if len(other & set(genes)) > 2 * len(own & set(genes))]
        spelled |= {gene: gene.upper() for genes in foreign for gene in genes if gene not in own}
    resolution = kb.resolve(list(spelled.values()), use_orthologs=True)
    try:
        kb.check_species(resolution)
    except SpeciesMismatch as error:
        raise AlignmentTooLow(str(error)) from error
    id_of = dict(zip(every, resolution.gene_ids.tolist(), strict=True))
    if not any(id_of.values()):
        raise AlignmentTooLow(
            f"none of the {len(every)} genes of the lists is in {kb.store_id}; are they symbols or identifiers of its "
            "species?"
        )
    found: dict[str, dict[str, int]] = {}
    for cluster, genes in lists.genes.items():
        first: dict[int | str, str] = {}
        for gene in genes[:n_top]:
            first.setdefault(id_of[gene] or gene, gene)
        found[cluster] = {gene: id_of[gene] for gene in first.values()}
    is_foreign = [spelled[gene] != gene for gene in every] | (resolution.status == "ortholog")
    return found, int(np.count_nonzero(is_foreign & resolution.is_resolved))


def universe_ids(
    found: Mapping[str, Mapping[str, int]], kb: genekb.Store, config: RunConfig, universe: Sequence[str] | None
) -> Int[np.ndarray, " gene"]:
    """GeneIDs that a list could hold, with those of the lists, in ascending order."""
    own = {gene for genes in found.values() for gene in genes.values()}
    if universe is None:
        table = np.asarray(kb.table("genes")["gene_id"].to_numpy())
        every = set(table[kb.vectors(table, encoder=config.encoder).has_vector].tolist())
    else:
        every = set(kb.resolve(universe, use_orthologs=True).gene_ids.tolist())
    gene_ids = np.array(sorted((every | own) - {0}), dtype=np.int64)
    if len(gene_ids) < 2 * max(map(len, found.values())):
        raise InputUnusable(
            f"the universe has {len(gene_ids)} genes of the store, too few to draw random lists from; give all genes "
            "that were measured, or leave it out"
        )
    return gene_ids


def random_scores(about: ListEvidence, n_genes: int, *, n_lists: int, seed: int) -> Float[np.ndarray, " list"]:
    """Highest score of any candidate for random lists of a size."""
    rng = generator(seed, f"random lists of {n_genes}")
    drawn = (rng.choice(len(about.weights), size=n_genes, replace=False) for _ in range(n_lists))
    totals = about.weights.sum(axis=0)
    return np.array([about.highest(list_scores(about.weights, genes, totals=totals)) for genes in drawn])


def _name(
    genes: Mapping[str, int],
    *,
    place: Int[np.ndarray, " known"],
    scores: Float[np.ndarray, " type"],
    support: Float[np.ndarray, " candidate"],
    tests: tuple[float, float],
    about: ListEvidence,
    choice: ListChoice,
) -> Verdict:
    """Name one list; one without known genes is unassigned."""
    own, of_groups = scores[: about.n_types], scores[about.n_types :]
    gap = place_gap(support[own.argmax()])
    answer = level_name(about.types, own, level=choice.level, max_gap=gap, groups=about.groups, group_scores=of_groups)
    row = _row_of(answer, about, scores)
    supporting = _support(row, [gene for gene in genes if genes[gene]], place, about, score=float(scores[row]))
    reason = "" if len(place) else "no gene known"
    return give_verdict(answer, about.types, own, best=answer.name, support=supporting, tests=tests, reason=reason)


def _support(
    row: int, names: Sequence[str], place: Int[np.ndarray, " known"], about: ListEvidence, *, score: float
) -> Support:
    """Collect what supports a type or group: both evidence sources, genes of the list, markers among them."""
    profile, mean, size = _profile(len(place), len(about.gene_ids))
    parts = about.weights[place, row] * (profile - mean) / size
    markers = about.evidence.markers[row].indices
    sources = sp.vstack([about.evidence.text[row], about.evidence.markers[row]]).toarray().T
    text_score, marker_score = list_scores(sources, place).tolist()
    return Support(
        score=score,
        text_score=text_score,
        marker_score=marker_score,
        share_markers=float(np.isin(markers, place).mean()) if len(markers) else 0.0,
        genes=tuple(
            TypeGene(name=names[at], contribution=float(parts[at]), is_marker=bool(place[at] in markers))
            for at in np.argsort(-parts, kind="stable").tolist()[:_N_GENES]
            if parts[at] > 0
        ),
    )


def _row_of(answer: LevelName, about: ListEvidence, scores: Float[np.ndarray, " type"]) -> int:
    """Row of the evidence behind an answer: of a group that scores higher than its best type, else of that type."""
    names = [one.name for one in about.evidence.types]
    rows = [names.index(name) for name in dict.fromkeys([answer.members[0], answer.name]) if name in names]
    return max(rows, key=lambda row: (scores[row], -row))
