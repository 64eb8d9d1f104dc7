"""Levels of names: cell types, the broader groups that they belong to, and the answer where the best types disagree."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, Literal, get_args

import numpy as np
from jaxtyping import Float

from cellmodel.annotate.cell_types import IN_EVERY_TISSUE, UNASSIGNED, CellType, read_cell_types, read_packaged

Level = Literal["auto", "fine", "broad"]
LEVELS: Final[tuple[str, ...]] = get_args(Level)
GROUP_WEIGHT: Final = 0.5  # of the score of a group beside those of types, whose markers are fewer
MAX_GAP: Final = 0.02  # fraction of the best score by which a relative may score lower and still contest the name
_SUPPORTED: Final = 0.5  # support of a tissue below which a broader group is the name sooner
ELSEWHERE: Final = 0.25  # fraction of its score that a type loses whose tissue no other cluster speaks for
_ROUNDS: Final = 2  # of names from tissues and tissues from names
_MOST: Final = 0.5  # fraction of the cells of a cluster that have a name, for these to change its own
_SHOWN: Final = 0.05  # least fraction of cells that a mix is written with
MIN_HELD: Final = 0.6  # fraction of a cluster's cells with a name that belong to its own
_MAX_P, _SURE_P, _SURE_MARGIN = 0.05, 0.01, 2.0  # adjusted p values up to which a name is given, and sure; its margin


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelName:
    """A name at one level."""

    name: str  # a candidate, or a group that it belongs to
    level: str  # ``fine``: a candidate; ``broad``: an everyday group such as T cell; ``middle``: a group between them
    parent: str  # nearest broader group of ``name``; empty if there is none
    ontology_id: str  # of ``name`` in the Cell Ontology; empty if it has no term
    members: tuple[str, ...]  # the candidates behind the name, best first


@cache
def read_cell_groups() -> tuple[CellType, ...]:
    """Read the groups of cell types; one without marker genes takes those that its members share."""
    groups = read_packaged("cell_groups.tsv")
    children = [*read_cell_types(), *groups]
    return tuple(one if one.genes else replace(one, genes=shared_genes(one.name, children)) for one in groups)


def shared_genes(name: str, types: Sequence[CellType]) -> tuple[str, ...]:
    """Marker genes listed by half of the members of a group, and by two at least; most often listed first."""
    members = [set(one.genes) for one in types if one.parent == name and one.genes]
    counts = {gene: sum(gene in each for each in members) for gene in sorted(set().union(*members))}
    least = max(2, len(members) / 2)
    return tuple(gene for gene in sorted(counts, key=lambda gene: -counts[gene]) if counts[gene] >= least)


@cache
def _table() -> Mapping[str, CellType]:
    return {one.name: one for one in (*read_cell_types(), *read_cell_groups())}


def lineage_of(one: CellType) -> tuple[CellType, ...]:
    """List a type and the groups that it belongs to, narrow to broad."""
    path, table = [one], _table()
    while path[-1].parent in table and len(path) <= len(table):
        path.append(table[path[-1].parent])
    return tuple(path)


def broad_group(one: CellType) -> CellType:
    """Find the everyday group of a type: the nearest that is broad, the type itself if none is."""
    return next((each for each in lineage_of(one) if each.level == "broad"), one)


def common_group(types: Sequence[CellType]) -> CellType | None:
    """Find the nearest group that all types belong to; None if there is none. One type is its own."""
    shared = [{one.name for one in lineage_of(each)} for each in types]
    return next((one for one in lineage_of(types[0]) if all(one.name in names for names in shared)), None)


def shared_name(names: Sequence[str], parents: Sequence[str]) -> str:
    """Name several clusters by the nearest group that the names of all belong to; those without a name do not count.

    Where there is none, the everyday groups of the names are listed. ``parents``: of each name, for those that are in
    no table of the package.
    """
    types = [
        _table().get(name, CellType(name=name, parent=parent))
        for name, parent in dict(zip(names, parents, strict=True)).items()
        if name != UNASSIGNED
    ]
    if not types:
        return UNASSIGNED
    common = common_group(types)
    return ", ".join(dict.fromkeys(broad_group(one).name for one in types)) if common is None else common.name


def level_name(
    types: Sequence[CellType],
    scores: Float[np.ndarray, " type"],
    *,
    level: Level = "auto",
    max_gap: float = MAX_GAP,
    groups: Sequence[CellType] = (),
    group_scores: Sequence[float] | Float[np.ndarray, " group"] = (),
) -> LevelName:
    """Name by candidates and their scores at a level.

    ``fine`` is the best candidate, ``broad`` its everyday group. ``auto`` is the best candidate unless others of its
    everyday group score within ``max_gap`` of it, as a fraction of its score: then the nearest group of all these.
    Where a group, scored by genes of its own, scores more than twice as high as any candidate, ``auto`` is the group.
    """
    order = np.argsort(-np.asarray(scores), kind="stable").tolist()
    best = types[order[0]]
    group = broad_group(best)
    if level == "fine" or scores[order[0]] <= 0:
        return _answer(best, [best])
    if level == "broad":
        return _answer(group, [best])
    if len(groups) and GROUP_WEIGHT * np.max(group_scores) > scores[order[0]]:
        group = groups[int(np.argmax(group_scores))]
        return _answer(group, [types[row] for row in order if group in lineage_of(types[row])] or [best])
    limit = (1 - max_gap) * scores[order[0]]
    near = [types[row] for row in order if scores[row] >= limit and broad_group(types[row]).name == group.name]
    return _answer(common_group(near) or best, near)


@dataclass(frozen=True, kw_only=True, slots=True)
class NameFraction:
    """Fraction of the cells of a cluster with a name."""

    name: str  # of single cells: a candidate, or ``unassigned``
    fraction: float


def cell_mix(names: Sequence[str]) -> tuple[NameFraction, ...]:
    """Fractions of cells by their names, largest first."""
    return tuple(NameFraction(name=name, fraction=n / len(names)) for name, n in Counter(names).most_common())


def mix_text(mix: Sequence[NameFraction]) -> str:
    """Write the names of at least a twentieth of the cells: ``39 % B cell, 29 % T cell``."""
    return ", ".join(f"{one.fraction:.0%}".replace("%", f" % {one.name}") for one in mix if one.fraction >= _SHOWN)


def is_mixed(name: str, best: str, mix: Sequence[NameFraction]) -> bool:
    """Whether fewer than 60 % of a named cluster's cells with a name have its own or that of its best type."""
    named = {one.name: one.fraction for one in mix if one.name != UNASSIGNED}
    own = sum(named.get(each, 0) for each in {name, best})
    return name != UNASSIGNED and own < MIN_HELD * sum(named.values())


def hold_cells(answer: LevelName, mix: Sequence[NameFraction], types: Sequence[CellType]) -> LevelName:
    """Broaden a name to the nearest group of it that 60 % of a cluster's cells with a name belong to.

    The name stays where no group holds as many, and where most cells have no name.
    """
    table = {**_table(), **{one.name: one for one in types}}
    lineages = [
        ({group.name for group in lineage_of(table[one.name])}, one.fraction) for one in mix if one.name != UNASSIGNED
    ]
    named, own = sum(fraction for _, fraction in lineages), lineage_of(table[answer.name])
    held = (one for one in own if sum(part for names, part in lineages if one.name in names) >= MIN_HELD * named)
    group = next(held, own[0]) if named >= _MOST else own[0]
    return answer if group.name == answer.name else _answer(group, [table[name] for name in answer.members])


def places(types: Sequence[CellType]) -> Float[np.ndarray, "type tissue"]:
    """Mark the tissues of types, 1 or 0; none for those found in every tissue, and where none is known."""
    of_types = [set(filter(None, one.tissue.split(","))) for one in types]
    own = [each if each.isdisjoint(IN_EVERY_TISSUE) else set() for each in of_types]
    return np.array([[one in each for one in sorted(set().union(*own))] for each in own], dtype=np.float64)


def weigh_by_place(
    scores: Float[np.ndarray, "cluster type"], is_of: Float[np.ndarray, "type tissue"]
) -> tuple[Float[np.ndarray, "cluster type"], Float[np.ndarray, "cluster type"]]:
    """Lower the scores of types of tissues that no other cluster speaks for: cells of one file come from one place.

    A cluster speaks for tissues by the softmax of its scores; all others together make a tissue's support, at most 1.
    Types that are in no column of ``is_of``, see :func:`places`, are always supported, and so is all where there is one
    cluster. Returns scores and supports.
    """
    support = np.ones_like(scores)
    if not is_of.size or len(scores) == 1:
        return scores, support
    weighed = scores
    for _ in range(_ROUNDS):
        shares = np.exp(weighed - weighed.max(axis=1, keepdims=True))
        spoken = shares / shares.sum(axis=1, keepdims=True) @ is_of
        of_others = spoken.sum(axis=0) - spoken
        support = np.where(is_of.any(axis=1), np.minimum(of_others @ is_of.T, 1.0), 1.0)
        weighed = scores - ELSEWHERE * (1 - support) * np.maximum(scores, 0)
    return weighed, support


def place_gap(support: float) -> float:
    """Gap of :func:`level_name` for a best type with that support: wide where its tissue is hardly that of the file."""
    return MAX_GAP if support >= _SUPPORTED else ELSEWHERE


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeGene:
    """A gene that supports a name: its part of the score, and whether the type lists it as a marker."""

    name: str
    contribution: float
    is_marker: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Name of a cluster or of a list of marker genes, and what supports it."""

    name: str  # a type, a group that it belongs to, or ``unassigned`` where chance reaches the score
    confidence: str  # ``high``: chance and the next type are both far off; ``medium``: one of them; ``low``: neither
    best: str  # of a cluster the type with the highest score; of a list the name also where it is rejected
    # level, parent, ontology_id: of the name, or of what it would be; see :class:`LevelName`
    level: str
    parent: str
    ontology_id: str
    runner_up: str | None  # the type with the next score that ``name`` does not hold; None if there is none
    # score, runner_up_score, margin: in standard deviations of scores with permuted genes, less what a type of
    # another place loses; the difference of the two
    score: float
    runner_up_score: float
    margin: float
    text_score: float  # text_score, marker_score: by either evidence source alone
    marker_score: float
    p_value: float  # fraction of permutations, or of random lists, in which any candidate scores as high
    p_adjusted: float  # that, adjusted over the clusters or lists
    share_markers: float  # fraction of the measured markers that are upregulated, or in the list; 0 if there are none
    genes: tuple[TypeGene, ...]  # those with the largest parts in ``score``
    reason: str  # why ``best`` is rejected, such as ``adjusted p 0.31``; empty where it is the name


@dataclass(frozen=True, kw_only=True, slots=True)
class Support:
    """What supports a name, see :class:`Verdict`."""

    score: float
    text_score: float
    marker_score: float
    share_markers: float
    genes: tuple[TypeGene, ...]


def give_verdict(
    answer: LevelName,
    types: Sequence[CellType],
    scores: Float[np.ndarray, " type"],
    *,
    best: str,
    support: Support,
    tests: tuple[float, float],
    reason: str = "",
) -> Verdict:
    """Give a name its confidence, or reject it: nothing but chance, or a ``reason`` of the caller, withholds a name.

    ``tests``: its p value, and that adjusted over all that are named with it.
    """
    p_value, p_adjusted = tests
    reason = reason or ("" if p_adjusted <= _MAX_P else f"adjusted p {p_adjusted:.2g}")
    second = runner_up(types, scores, answer.name)
    second_score = 0.0 if second is None else float(scores[second])
    margin = support.score - second_score
    sure = ("low", "medium", "high")[(p_adjusted <= _SURE_P) + (margin >= _SURE_MARGIN)]
    return Verdict(
        name=UNASSIGNED if reason else answer.name,
        confidence="" if reason else sure,
        best=best,
        level=answer.level,
        parent=answer.parent,
        ontology_id=answer.ontology_id,
        runner_up=None if second is None else types[second].name,
        score=support.score,
        runner_up_score=second_score,
        margin=margin,
        text_score=support.text_score,
        marker_score=support.marker_score,
        p_value=p_value,
        p_adjusted=p_adjusted,
        share_markers=support.share_markers,
        genes=support.genes,
        reason=reason,
    )


def runner_up(types: Sequence[CellType], scores: Float[np.ndarray, " type"], name: str) -> int | None:
    """Find the best candidate that a name does not hold."""
    outside = [row for row, one in enumerate(types) if name not in {each.name for each in lineage_of(one)}]
    return max(outside, key=lambda row: (scores[row], -row), default=None)


def _answer(one: CellType, members: Sequence[CellType]) -> LevelName:
    is_fine = one.name == members[0].name
    return LevelName(
        name=one.name,
        level="fine" if is_fine else one.level or "middle",
        parent=one.parent,
        ontology_id=one.ontology_id,
        members=tuple(each.name for each in members),
    )
