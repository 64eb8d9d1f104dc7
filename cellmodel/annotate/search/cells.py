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
    score_parts,
    standard_profiles,
)
from cellmodel.annotate.search.queries import Heights, QueryReader, content_words, unknown_words
from cellmodel.core.arrays import unit_rows
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.random import generator, permutation_p
from cellmodel.explain.groups import GroupedCells, group_cells
from cellmodel.explain.terms import SupportingGene
from cellmodel.io.cells import Cells
from cellmodel.io.records import Lineage, check_lineage, lineage_record, stored_graph
from cellmodel.pp.features import make_features
from cellmodel.pp.neighbors import smooth
from cellmodel.pp.normalize import log_expression
from cellmodel.pp.text.align import align_cells
from genekb.core.addresses import without_secrets
from genekb.core.words import check_query, split_sentences

_CLUSTER_KEY = "cellmodel"
_SIGNIFICANT = 0.05  # p value up to which cells stand out
_MEANT = 0.1  # nearness from which a type is listed as meant
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
        if not any(map(str.isalnum, check_query(self.query))):
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
    scores: Float[np.ndarray, " cell"]  # (cell,) standard scores, averaged over each cell's neighbors
    genes: tuple[SupportingGene, ...]  # those responsible in the 5 % of cells with the highest scores
    # types of the table that the query means, and how surely, 0 to 1; surest first
    types: tuple[tuple[str, float], ...]
    # fraction of random queries, as many words of gene texts each, whose best cluster or cells score as high
    p_value: float
    # words of the query that no gene text and no cell type has, with those that are spelt most alike
    unknown_words: Mapping[str, tuple[str, ...]]
    stands_out: bool  # whether the p value is at most .05 and any word of the query is known, or nearly so
    lineage: Lineage  # store and encoder that were used
    made_with: Lineage | None = None  # identity of what the clusters were made with, where that is another

    def to_dict(self) -> dict[str, Any]:
        """All but the scores, as nested plain values."""
        return {
            "stands_out": self.stands_out,
            "p_value": self.p_value,
            "unknown_words": {word: list(near) for word, near in self.unknown_words.items()},
            "clusters": [asdict(one) for one in self.clusters],
            "genes": [asdict(one) for one in self.genes],
            "types": [{"name": name, "nearness": nearness} for name, nearness in self.types],
            **asdict(self.lineage),
            **lineage_record(self.made_with),
        }


def search_cells(cells: Cells, kb: genekb.Store, config: RunConfig, *, search: SearchConfig) -> Found:
    """Score cells and rank clusters by free text.

    The text becomes weights of the genes whose texts are nearest, and of the markers of the cell types that it means;
    a score is the product with the profile of a cluster, or with the standardized genes of a cell.
    """
    key = search.cluster_key or _CLUSTER_KEY
    made_with = check_lineage(cells, kb, config, key=key, other_store=search.other_store)
    alignment = align_cells(cells, kb, config)
    grouped = group_cells(cells, key) if search.cluster_key or key in cells.adata.obs else None
    graph = stored_graph(cells, key, config)
    graph = make_features(cells, config).graph if graph is None else graph
    known = known_genes(log_expression(cells), cells.names, alignment)
    reader = QueryReader(known.alignment, kb, use_types=search.use_types)
    reading = _read(search.query, reader)
    scores = smooth(cell_scores(known.expression, reading.weights), graph)[:, 0]
    clusters: tuple[FoundCluster, ...] = ()
    if grouped is None:
        heights = heights_in_cells(known, graph)
    else:
        standard = standard_profiles(cluster_profiles(known.expression[grouped.rows], grouped.labels))
        heights = heights_in_clusters(standard)
        clusters = _rank(grouped, standard, known, reading, search=search, seed=config.seed)
    p_value = float(reader.p_values([search.query], heights, n=search.n_permutations, seed=config.seed)[0])
    unknown = unknown_words(without_secrets(search.query), known.alignment.texts, reader.types)
    return Found(
        clusters=clusters,
        scores=scores,
        genes=_genes_of_best(scores, known, reading, n=search.n_genes),
        types=reading.types,
        p_value=p_value,
        unknown_words=unknown,
        stands_out=p_value <= _SIGNIFICANT
        and (len(unknown) < len(content_words(search.query)) or any(unknown.values())),
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


def _read(query: str, reader: QueryReader) -> _Reading:
    nearness = reader.nearness([query])[0]
    order = np.argsort(-nearness, kind="stable")[: np.count_nonzero(nearness >= _MEANT)].tolist()
    return _Reading(
        weights=reader.weights([query]),
        vector=reader.encode([query])[0],
        encode=reader.encode,
        types=tuple((reader.types[place].name, float(nearness[place])) for place in order),
    )


def heights_in_clusters(standard: Float[np.ndarray, "cluster gene"]) -> Heights:
    """Score of the best cluster, by weights of genes."""
    return lambda weights: np.asarray((weights @ standard.T).max(axis=1))


def heights_in_cells(known: QueriedCells, graph: sp.csr_matrix) -> Heights:
    """Mean score of the 5 % of cells with the highest, by weights of genes."""

    def heights(weights: sp.csr_matrix) -> Float[np.ndarray, " query"]:
        scores = np.sort(smooth(cell_scores(known.expression, weights), graph), axis=0)
        return np.asarray(scores[-_n_best(len(scores)) :].mean(axis=0), dtype=np.float64)

    return heights


def _n_best(n_cells: int) -> int:
    return max(1, round(_BEST_CELLS * n_cells))


def _genes_of_best(
    scores: Float[np.ndarray, " cell"], known: QueriedCells, reading: _Reading, *, n: int
) -> tuple[SupportingGene, ...]:
    """Genes responsible in the 5 % of cells with the highest scores."""
    groups = np.zeros(len(scores), dtype=np.int64)
    groups[np.argsort(-scores, kind="stable")[: _n_best(len(scores))]] = 1
    return _genes(standard_profiles(cluster_profiles(known.expression, groups)), reading, known, n=n)[1]


def _rank(
    grouped: GroupedCells,
    standard: Float[np.ndarray, "cluster gene"],
    known: QueriedCells,
    reading: _Reading,
    *,
    search: SearchConfig,
    seed: int,
) -> tuple[FoundCluster, ...]:
    """Clusters by score, highest first, each with its genes."""
    scores = (reading.weights @ standard.T)[0]
    rng = generator(seed, "search")

    def highest(order: np.ndarray) -> tuple[np.ndarray]:
        return ((reading.weights @ standard[:, order].T).max(axis=1),)

    (p_values,) = permutation_p(
        (scores,),
        highest,
        draw=lambda: rng.permutation(standard.shape[1]),
        n_permutations=search.n_permutations,
        tie=0.0,
    )
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
    sentences = {column: known.alignment.cite(texts[column] or "", one) for column, one in sentences.items()}
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
