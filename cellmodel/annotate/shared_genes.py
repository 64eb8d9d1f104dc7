"""Two data sets in one space of shared genes: matched by GeneID, by orthologue, or by the text of the genes.

Each gene is scaled within its own set, with weights under which the fractions of the cell types do not matter; a
reduction or a graph common to both was measured to keep the sets apart.
"""

import logging
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int

import genekb
from cellmodel.core.arrays import CellByGene, Embedding, GeneVectors, Labels, unit_rows
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import AlignmentTooLow, InputUnusable
from cellmodel.explain.groups import ClusteredCells
from cellmodel.io.cells import Cells, obs_categories
from cellmodel.pp.features import BATCH_CELLS, Features, make_features
from cellmodel.pp.gene_match import MIN_SHARED, columns_by_gene_id, human_gene_ids
from cellmodel.pp.neighbors import smooth
from cellmodel.pp.normalize import log_expression
from cellmodel.pp.text.align import GeneAlignment, apply_knowledge

log = logging.getLogger(__name__)
GenesBy = Literal["ids", "orthologs", "text"]
N_MATCHES: Final = 3  # genes of the query that are averaged for one of the reference, by text
SHARPNESS: Final = 0.05  # temperature of the softmax over their cosines
LIMIT: Final = 10.0  # scaled values beyond are cut
_BLOCK: Final = 1024  # genes that are compared at once: bounds the memory


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextMatch:
    """Reference and query with the highly variable genes of each that have a text, unmatched."""

    reference: Float[np.ndarray, "cell gene"]  # scaled expression
    query: Float[np.ndarray, "other gene2"]  # the same, averaged over its graph
    query_features: Embedding  # of the query's cells, to cluster them by
    reference_vectors: Float[np.ndarray, "gene dim"]  # of the texts: less their mean, of length one
    query_vectors: Float[np.ndarray, "gene2 dim"]


@dataclass(frozen=True, kw_only=True, slots=True)
class JointFeatures:
    """Reference and query cells over the same genes."""

    # (cell, gene) scaled expression, reference cells first; that of the query averaged over its own graph
    features: Float[np.ndarray, "cell gene"]
    n_reference: int  # how many of the rows are reference cells
    n_genes: int  # genes that both sides have
    note: str  # how the genes were matched, in words
    by_text: TextMatch | None = None  # what the match was made from, where that is text


@dataclass(frozen=True, kw_only=True, slots=True)
class _Side:
    """One data set: its expression features and, for each GeneID in ascending order, the column that holds it."""

    features: Features
    expression: CellByGene  # log-normalized, of all genes
    gene_ids: Int[np.ndarray, " gene"]
    columns: Int[np.ndarray, " gene"]
    is_variable: np.ndarray  # (gene,) whether the column is highly variable
    weights: Float[np.ndarray, " cell"]  # that sum to 1 within each of ``groups``
    groups: tuple[Int[np.ndarray, " member"], ...]  # rows of the cells that are scaled together: all, or each batch
    source: str


def joint_features(
    reference: Cells, query: Cells, kb: genekb.Store, config: RunConfig, *, genes_by: GenesBy
) -> JointFeatures:
    """Reduce two data sets to shared genes without any label: those that are highly variable in one of them.

    With ``text``, a highly variable gene of the reference is matched to the few of the query whose text is nearest,
    weighted by a softmax of the cosines and damped by the square of the best one. A gene is left out if the one nearest
    to it has a nearer one itself.
    """
    if genes_by == "text" and config.knowledge == "none":
        raise InputUnusable('matching genes by text needs knowledge; leave out knowledge="none", or use genes_by="ids"')
    configs = _with_batches((reference, query), config)
    left, right = (
        _side(cells, kb, each, genes_by=genes_by) for cells, each in zip((reference, query), configs, strict=True)
    )
    by_text = _text_match(left, right, kb, config) if genes_by == "text" else None
    a, b, note = _match_by_id(left, right, config) if by_text is None else _match_by_text(by_text)
    files = (f"{left.source} ({len(left.gene_ids)} in {kb.store_id})", f"{right.source} ({len(right.gene_ids)} in it)")
    check_shared(a.shape[1], files, genes_by=genes_by, other_species='genes_by="orthologs"')
    features = np.concatenate([a, b])
    return JointFeatures(features=features, n_reference=len(a), n_genes=a.shape[1], note=note, by_text=by_text)


def _with_batches(sides: tuple[Cells, Cells], config: RunConfig) -> list[RunConfig]:
    """Give the settings of each side: one side alone may have the batch key; refused where neither has it."""
    having = [config.batch is not None and config.batch.key in cells.adata.obs for cells in sides]
    if config.batch is not None and not any(having):
        for cells in sides:
            obs_categories(cells.adata, config.batch.key, source=cells.source)
    return [config if has_key else replace(config, batch=None) for has_key in having]


def _side(cells: Cells, kb: genekb.Store, config: RunConfig, *, genes_by: GenesBy) -> _Side:
    by_ortholog = genes_by == "orthologs"
    resolution = kb.resolve(cells.names, use_orthologs=by_ortholog or config.use_orthologs)
    gene_ids = human_gene_ids(resolution.gene_ids, kb) if by_ortholog else resolution.gene_ids
    features, expression = make_features(cells, config), log_expression(cells)
    columns = columns_by_gene_id(gene_ids, _totals(expression))
    groups, weights = _scaled_together(features), np.zeros(len(features.smoothed))
    for rows in groups:
        weights[rows] = even_weights(features.smoothed[rows])
    return _Side(
        features=features,
        expression=expression,
        gene_ids=gene_ids[columns],
        columns=columns,
        is_variable=np.isin(columns, features.top_genes),
        weights=weights,
        groups=groups,
        source=cells.source.rsplit("/", 1)[-1],
    )


def _scaled_together(features: Features) -> tuple[Int[np.ndarray, " member"], ...]:
    """Rows of the cells that are scaled together: each batch, those of few cells joined to the largest."""
    if features.batches is None:
        return (np.arange(len(features.smoothed)),)
    sizes = features.batches.n_cells
    group = np.where(sizes < BATCH_CELLS, sizes.argmax(), np.arange(len(sizes)))[features.batches.codes]
    return tuple(np.flatnonzero(group == one) for one in np.unique(group))


def _totals(expression: CellByGene) -> Float[np.ndarray, " gene"]:
    return np.asarray(expression.sum(axis=0)).ravel()


def check_shared(n_shared: int, sides: tuple[str, str], *, genes_by: GenesBy, other_species: str) -> None:
    """Refuse two data sets that share fewer than :data:`MIN_SHARED` genes; ``other_species``: option for these."""
    if n_shared >= MIN_SHARED:
        return
    hint = {
        "ids": f'for two species give {other_species}, or genes_by="text"',
        "orthologs": 'build the store from a source with orthologues, or give genes_by="text"',
        "text": "build the store with texts for both species",
    }[genes_by]
    raise AlignmentTooLow(
        f"{n_shared} genes of {sides[0]} and {sides[1]} are shared by {genes_by}, {MIN_SHARED} are needed; {hint}"
    )


Shared = tuple[Float[np.ndarray, "cell gene"], Float[np.ndarray, "other gene"], str]  # reference, query, note


def _match_by_id(left: _Side, right: _Side, config: RunConfig) -> Shared:
    shared, in_left, in_right = np.intersect1d(left.gene_ids, right.gene_ids, return_indices=True)
    chosen = left.is_variable[in_left] | right.is_variable[in_right]
    note = f"{len(shared)} genes matched by GeneID, {int(chosen.sum())} of them highly variable on a side"
    a, b = left.columns[in_left[chosen]], right.columns[in_right[chosen]]
    return _scaled(left, a), _smoothed(right, b, config), note


def _match_by_text(match: TextMatch) -> Shared:
    vectors, others = match.reference_vectors, match.query_vectors
    if len(vectors) == 0 or len(others) == 0:
        note = f"{len(vectors)} genes of the reference and {len(others)} of the query have a text"
        return match.reference[:, :0], match.query[:, :0], note
    kept = np.flatnonzero(is_mutual(vectors, others))
    matches, best = match_texts(vectors[kept], others)
    damping = (best**2).astype(np.float32)
    note = f"{len(kept)} of {len(vectors)} genes of the reference matched {len(others)} of the query by text"
    return match.reference[:, kept] * damping, (match.query @ matches.T) * damping, note


def _text_match(left: _Side, right: _Side, kb: genekb.Store, config: RunConfig) -> TextMatch:
    """Take the highly variable genes that have a text; those of the query with the knowledge of ``config``."""
    (in_left, vectors), (in_right, others) = (_with_text(side, kb, config) for side in (left, right))
    if config.knowledge != "real" and len(others):
        others = apply_knowledge(others, knowledge=config.knowledge, seed=config.seed)
    return TextMatch(
        reference=_scaled(left, in_left),
        query=_smoothed(right, in_right, config),
        query_features=right.features.smoothed,
        reference_vectors=_directions(vectors),
        query_vectors=_directions(others),
    )


def _with_text(
    side: _Side, kb: genekb.Store, config: RunConfig
) -> tuple[Int[np.ndarray, " gene"], Float[np.ndarray, "gene dim"]]:
    """Highly variable columns that have a text, and its vectors."""
    selection = kb.vectors(side.gene_ids[side.is_variable], encoder=config.encoder)
    columns = side.columns[side.is_variable][selection.has_vector]
    return columns, selection.vectors[selection.has_vector]


def _directions(vectors: Float[np.ndarray, "gene dim"]) -> Float[np.ndarray, "gene dim"]:
    """Vectors less their mean, of length one."""
    return unit_rows(vectors - vectors.mean(axis=0)) if len(vectors) else vectors


def match_texts(
    reference: Float[np.ndarray, "gene dim"], query: Float[np.ndarray, "other dim"]
) -> tuple[sp.csr_matrix, Float[np.ndarray, " gene"]]:
    """Match each gene to the few of another set whose text is nearest; rows of both are of unit length.

    Returns (gene, other) weights that sum to 1 a row, softmax of the cosines of the :data:`N_MATCHES` nearest; and the
    best cosine of each gene, 0 where it is negative.
    """
    n_matches = min(N_MATCHES, len(query))
    rows, columns, data, best = [], [], [], np.zeros(len(reference))
    for start in range(0, len(reference), _BLOCK):
        cosine = reference[start : start + _BLOCK] @ query.T
        nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :n_matches]
        values = np.take_along_axis(cosine, nearest, axis=1)
        shares = np.exp((values - values[:, :1]) / SHARPNESS)
        rows.append(np.repeat(np.arange(start, start + len(cosine)), n_matches))
        columns.append(nearest.ravel())
        data.append((shares / shares.sum(axis=1, keepdims=True)).ravel())
        best[start : start + len(cosine)] = np.maximum(values[:, 0], 0.0)
    entries = (np.concatenate(data), (np.concatenate(rows), np.concatenate(columns)))
    return sp.csr_matrix(entries, shape=(len(reference), len(query))), best


def is_mutual(
    reference: Float[np.ndarray, "gene dim"], query: Float[np.ndarray, "other dim"]
) -> Bool[np.ndarray, " gene"]:
    """Whether a gene of the reference is itself the nearest to the gene nearest to it, by cosine of unit rows."""
    there, back = _nearest(reference, query), _nearest(query, reference)
    return np.asarray(back[there] == np.arange(len(reference)))


def _nearest(genes: Float[np.ndarray, "gene dim"], others: Float[np.ndarray, "other dim"]) -> Int[np.ndarray, " gene"]:
    blocks = (genes[start : start + _BLOCK] for start in range(0, len(genes), _BLOCK))
    return np.concatenate([(block @ others.T).argmax(axis=1) for block in blocks])


def _scaled(side: _Side, columns: Int[np.ndarray, " gene"]) -> Float[np.ndarray, "cell gene"]:
    """Scale genes to mean 0 and deviation 1 under the side's weights, within each batch."""
    dense = np.asarray(side.expression[:, columns].todense(), dtype=np.float32)
    for rows in side.groups:
        weights, values = side.weights[rows], dense[rows]
        values -= (weights @ values).astype(np.float32)
        deviation = np.sqrt(weights @ values**2)
        dense[rows] = values / np.where(deviation > 0, deviation, 1.0).astype(np.float32)
    return np.clip(dense, -LIMIT, LIMIT, out=dense)


def _smoothed(query: _Side, columns: Int[np.ndarray, " gene"], config: RunConfig) -> Float[np.ndarray, "cell gene"]:
    """Average scaled genes of the query over its graph."""
    return smooth(_scaled(query, columns), query.features.graph, n_steps=config.preprocess.n_smoothing)


BANDWIDTH: Final = 0.5  # in units of the median distance between cells
MAX_LANDMARKS: Final = 2000  # cells that the density is measured from: bounds time and memory
_DISTANCE_BLOCK: Final = 4096


def even_weights(features: Embedding) -> Float[np.ndarray, " cell"]:
    r"""Weigh each cell by one over the density of cells around it; weights sum to 1.

    .. math:: w_i \propto 1 / \sum_j \exp(-\|x_i - x_j\|^2 / 2h^2)

    with *h* half the median distance. A mean under these weights does not move with the fractions of the cell types, so
    that two data sets in which a type is common and rare can be centered alike without knowing the types.
    """
    from sklearn.metrics.pairwise import euclidean_distances

    points = features.astype(np.float64)
    order = np.lexsort(points.T[::-1])  # by content, so that the order of the cells does not matter
    n_landmarks = min(MAX_LANDMARKS, len(points))
    landmarks = points[order[np.linspace(0, len(points) - 1, n_landmarks).round().astype(np.int64)]]
    width = BANDWIDTH**2 * float(np.median(euclidean_distances(landmarks, squared=True)))
    if width == 0:
        return np.full(len(points), 1.0 / len(points))
    blocks = (points[start : start + _DISTANCE_BLOCK] for start in range(0, len(points), _DISTANCE_BLOCK))
    density = np.concatenate(
        [np.exp(-euclidean_distances(block, landmarks, squared=True) / (2 * width)).sum(axis=1) for block in blocks]
    )
    weights = 1.0 / np.maximum(density, np.exp(-0.5))  # a cell far from every landmark counts like one at a bandwidth
    return np.asarray(weights / weights.sum())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ComparedSide:
    """One of the two data sets."""

    clusters: tuple[str, ...]  # name of each cluster
    labels: Labels  # (cell,) place of each cell's cluster in ``clusters``
    expression: CellByGene  # (cell, gene) log1p of normalized counts
    gene_names: tuple[str, ...]  # as they are shown
    # (gene,) by which the genes of both sides are matched, each once and above 0; 0 for a gene without a match
    gene_ids: Int[np.ndarray, " gene"]
    vectors: GeneVectors  # (gene, dim) of the same encoder on both sides; zero for a gene without text

    def take(self, columns: Int[np.ndarray, " column"]) -> "ComparedSide":
        """Keep some of the genes."""
        return replace(
            self,
            expression=self.expression[:, columns],
            gene_names=tuple(self.gene_names[column] for column in columns),
            gene_ids=self.gene_ids[columns],
            vectors=self.vectors[columns],
        )


def bring_together(
    a: ClusteredCells, b: ClusteredCells, *, stores: tuple[genekb.Store, genekb.Store], genes_by: GenesBy
) -> tuple[ComparedSide, ComparedSide]:
    """Reduce two sets of clustered cells to shared genes, with vectors of one encoder.

    Where the second store has no vectors of the first one's encoder, its texts are encoded by it.
    """
    ids = [side.known.gene_ids for side in (a, b)]
    if genes_by == "orthologs":
        ids = [human_gene_ids(each, kb) for each, kb in zip(ids, stores, strict=True)]
    columns = [columns_by_gene_id(each, _totals(side.expression)) for each, side in zip(ids, (a, b), strict=True)]
    if genes_by == "text":
        ids = [np.zeros_like(each) for each in ids]
    else:
        shared = np.intersect1d(ids[0][columns[0]], ids[1][columns[1]])
        species_option = "the store of the second with `kb_b`"
        check_shared(len(shared), (a.cells.source, b.cells.source), genes_by=genes_by, other_species=species_option)
        columns = [chosen[np.isin(each[chosen], shared)] for chosen, each in zip(columns, ids, strict=True)]
    vectors = a.known.vectors[columns[0]], _vectors_by_encoder_of(a.known, b, stores, columns[1])
    return _compared(a, ids[0], columns[0], vectors[0]), _compared(b, ids[1], columns[1], vectors[1])


def _compared(
    cells: ClusteredCells, gene_ids: Int[np.ndarray, " gene"], columns: Int[np.ndarray, " column"], vectors: GeneVectors
) -> ComparedSide:
    if (n_texts := int(vectors.any(axis=1).sum())) < 2:  # noqa: PLR2004 - one text has no direction
        raise AlignmentTooLow(
            f"{n_texts} genes of {cells.cells.source} that are compared have a text, 2 are needed; build the store "
            "for more genes"
        )
    return ComparedSide(
        clusters=cells.names,
        labels=cells.labels,
        expression=cells.expression[:, columns],
        gene_names=tuple(cells.gene_names[column] for column in columns),
        gene_ids=gene_ids[columns],
        vectors=vectors,
    )


def _vectors_by_encoder_of(
    a: GeneAlignment, b: ClusteredCells, stores: tuple[genekb.Store, genekb.Store], columns: Int[np.ndarray, " column"]
) -> GeneVectors:
    """Vectors of genes of ``b``; zero for a gene without text."""
    encoder_id = a.lineage.encoder_id
    if encoder_id in stores[1].encoder_ids:
        return stores[1].vectors(b.known.gene_ids[columns], encoder=encoder_id).vectors
    texts = np.array([b.known.texts[column] or "" for column in columns], dtype=object)
    has_text = texts != ""
    distinct, of_gene = np.unique(texts[has_text], return_inverse=True)
    log.info("%d texts of %s are encoded by %s for a common space", len(distinct), b.cells.source, encoder_id)
    vectors = np.zeros((len(texts), a.vectors.shape[1]), dtype=np.float32)
    if len(distinct):
        vectors[has_text] = stores[0].encoder(encoder_id).encode(distinct.tolist()).vectors[of_gene]
    return vectors
