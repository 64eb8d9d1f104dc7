"""Free-text search: score cells and rank clusters by a query, with the genes responsible and their texts."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

import genekb
from cellmodel.annotate.cell_types import (
    QueriedCells,
    cell_scores,
    cluster_profiles,
    known_genes,
    marker_weights,
    read_cell_types,
    score_parts,
    standard_profiles,
    text_weights,
    type_nearness,
    widened_weights,
)
from cellmodel.core.arrays import unit_rows
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.random import generator
from cellmodel.explain.groups import GroupedCells, group_cells
from cellmodel.explain.p_values import permutation_p
from cellmodel.explain.terms import SupportingGene, split_sentences
from cellmodel.io.cells import Cells
from cellmodel.io.records import Lineage, check_lineage, lineage_record
from cellmodel.pp.features import make_features
from cellmodel.pp.neighbors import smooth
from cellmodel.pp.normalize import log_expression
from cellmodel.text.align import GeneAlignment, align_cells

_CLUSTER_KEY = "cellmodel"
_BEST_CELLS = 0.05  # fraction of the cells whose genes are reported
_SENTENCE_END = re.compile(r"(?<!e\.g\.)(?<!i\.e\.)(?<=[.;])\s+(?=[A-Z0-9])")


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """What is searched for, and how much is reported."""

    query: str  # free text
    cluster_key: str | None = None  # column of obs with clusters to rank; None: of `cellmodel cluster`
    use_types: bool = True  # whether a query that names a type of the table brings the markers of that type
    n_genes: int = 5  # genes reported for each cluster
    n_permutations: int = 200  # permutations of the genes; the least p value is 1 / (1 + n)
    other_store: bool = False  # whether the cells may have been clustered with another store

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not any(map(str.isalnum, self.query)):
            raise InputUnusable(f"the query {self.query!r} is empty; give a few words, e.g. 'cytotoxic T lymphocytes'")
        if min(self.n_genes, self.n_permutations) < 1:
            raise ValueError(f"n_genes and n_permutations must be >= 1, got {self.n_genes} and {self.n_permutations}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundCluster:
    """A cluster and its score, in standard deviations of scores with permuted genes."""

    cluster: str
    n_cells: int
    score: float
    p_value: float  # fraction of permutations in which any cluster reaches the score
    genes: tuple[SupportingGene, ...]  # those with the largest parts in the score, and sentences nearest to the query


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Found:
    """What a query found."""

    clusters: tuple[FoundCluster, ...]  # highest score first; empty where there are none
    scores: Float[np.ndarray, " cell"]  # (cell,) standard scores, averaged over each cell's neighbours
    genes: tuple[SupportingGene, ...]  # those responsible in the 5 % of cells with the highest scores
    # types of the table that the query means, and how surely, 0 to 1; surest first
    types: tuple[tuple[str, float], ...]
    lineage: Lineage  # store and encoder that were used
    made_with: Lineage | None = None  # identity of what the clusters were made with, where that is another

    def to_dict(self) -> dict[str, Any]:
        """All but the scores, as nested plain values."""
        return {
            "clusters": [asdict(one) for one in self.clusters],
            "genes": [asdict(one) for one in self.genes],
            "types": [{"name": name, "nearness": nearness} for name, nearness in self.types],
            **asdict(self.lineage),
            **lineage_record(self.made_with),
        }


def search_cells(cells: Cells, kb: genekb.Store, config: RunConfig, *, search: SearchConfig) -> Found:
    """Score cells and rank clusters by free text.

    The text becomes weights of the genes whose texts are nearest, and of the markers of the cell types that it means;
    a score is the product with the profile of a cluster, or with the standardised genes of a cell.
    """
    key = search.cluster_key or _CLUSTER_KEY
    made_with = check_lineage(cells, kb, config, key=key, other_store=search.other_store)
    alignment = align_cells(cells, kb, config)
    grouped = group_cells(cells, key) if search.cluster_key or key in cells.adata.obs else None
    features = make_features(cells, config)
    known = known_genes(log_expression(cells), cells.names, alignment)
    reading = _read(search, known.alignment, kb)
    scores = smooth(cell_scores(known.expression, reading.weights), features.graph)[:, 0]
    best = np.argsort(-scores, kind="stable")[: max(1, round(_BEST_CELLS * len(scores)))]
    groups = np.zeros(len(scores), dtype=np.int64)
    groups[best] = 1
    of_groups = _genes(standard_profiles(cluster_profiles(known.expression, groups)), reading, known, n=search.n_genes)
    return Found(
        clusters=() if grouped is None else _rank(grouped, known, reading, search=search, seed=config.seed),
        scores=scores,
        genes=of_groups[1],
        types=reading.types,
        lineage=known.alignment.lineage,
        made_with=made_with,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Reading:
    """A query as an encoder reads it: weights of genes (1, gene), its vector, and the types that it means."""

    weights: sp.csr_matrix
    vector: Float[np.ndarray, " dim"]
    encode: Callable[[Sequence[str]], Float[np.ndarray, "text dim"]]
    types: tuple[tuple[str, float], ...]


def _read(search: SearchConfig, alignment: GeneAlignment, kb: genekb.Store) -> _Reading:
    encoder = kb.encoder(alignment.lineage.encoder_id)

    def encode(texts: Sequence[str]) -> Float[np.ndarray, "text dim"]:
        return np.asarray(encoder.encode(texts).vectors, dtype=np.float64)

    types = read_cell_types()
    query, names, definitions = (
        encode(texts) for texts in ([search.query], [one.name for one in types], [one.text for one in types])
    )
    weights = text_weights(query, alignment.vectors, has_vector=alignment.has_vector, centre=definitions.mean(axis=0))
    nearness = type_nearness(query, names, definitions) * search.use_types
    if nearness.any():
        weights = widened_weights(weights, marker_weights(types, alignment.gene_ids, kb)[0], nearness)
    order = np.argsort(-nearness[0], kind="stable")[: np.count_nonzero(nearness)].tolist()
    meant = tuple((types[place].name, float(nearness[0, place])) for place in order)
    return _Reading(weights=weights, vector=query[0], encode=encode, types=meant)


def _rank(
    grouped: GroupedCells, known: QueriedCells, reading: _Reading, *, search: SearchConfig, seed: int
) -> tuple[FoundCluster, ...]:
    """Clusters by score, highest first, each with its genes."""
    standard = standard_profiles(cluster_profiles(known.expression[grouped.rows], grouped.labels))
    scores = (reading.weights @ standard.T)[0]
    rng = generator(seed, "search")

    def draw() -> tuple[np.ndarray]:
        return ((reading.weights @ standard[:, rng.permutation(standard.shape[1])].T).max(axis=1),)

    (p_values,) = permutation_p((scores,), draw, n_permutations=search.n_permutations, tie=0.0)
    genes, sizes = _genes(standard, reading, known, n=search.n_genes), np.bincount(grouped.labels).tolist()
    return tuple(
        FoundCluster(
            cluster=grouped.names[place],
            n_cells=sizes[place],
            score=float(scores[place]),
            p_value=float(p_values[place]),
            genes=genes[place],
        )
        for place in np.argsort(-scores, kind="stable").tolist()
    )


def _genes(
    standard: Float[np.ndarray, "group gene"], reading: _Reading, known: QueriedCells, *, n: int
) -> list[tuple[SupportingGene, ...]]:
    """Genes of each group with the largest positive parts in its score, with a sentence each."""
    found = [score_parts(reading.weights, profile)[:n] for profile in standard]
    texts = known.alignment.texts
    sentences = _sentences({column: texts[column] for parts in found for column, _ in parts}, reading)
    return [
        tuple(
            SupportingGene(name=known.gene_names[column], contribution=part, sentence=sentences.get(column, ""))
            for column, part in parts
        )
        for parts in found
    ]


def _sentences(texts: Mapping[int, str | None], reading: _Reading) -> dict[int, str]:
    """Sentence of each text that is nearest to the query; none where there is no text."""
    split = {column: split_sentences(text or "", end=_SENTENCE_END) for column, text in sorted(texts.items())}
    sentences = [one for each in split.values() for one in each]
    if not sentences:
        return {}
    nearness = iter((unit_rows(reading.encode(sentences)) @ reading.vector).tolist())
    of_each = {column: [next(nearness) for _ in each] for column, each in split.items() if each}
    return {column: split[column][int(np.argmax(near))] for column, near in of_each.items()}
