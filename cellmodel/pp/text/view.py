"""The text view of the cells: expression-weighted gene vectors, the cell as a ranked sentence, and their mixture.

Both paths follow scLLM-DSC (arXiv 2606.13007), with three corrections: gene vectors are whitened first, weights come
from normalized expression instead of raw counts, and each path is L2-normalized before they are mixed, since otherwise
library size drowns the second path.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int

import genekb
from cellmodel.core.arrays import (
    EPSILON,
    CellByGene,
    Embedding,
    GeneVectors,
    in_order,
    one_thread,
    row_ranges,
    unit_rows,
)
from cellmodel.core.config import Knowledge, RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.stages import AnyStages, Arrays, MemoryStages
from cellmodel.pp.moments import column_moments
from cellmodel.pp.normalize import rank_weights
from cellmodel.pp.text.align import GeneAlignment, Whitening, apply_knowledge, fit_whitening
from cellmodel.pp.text.sentences import (
    Read,
    SentenceReading,
    SentenceRecord,
    cell_sentences,
    compare_sentences,
    draw_cells,
    encode_sentences,
    read_sentences,
    sentence_folder,
)

_BLOCK: Final = 2_048  # cells that are ranked at once: bounds memory


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextMap:
    r"""Expression → both text paths of a cell, with everything that was fitted to the first cells.

    The expression-weighted path is a cell's mean of gene vectors, weighted by z-scored expression. It is linear in the
    vectors, so a gene's part in it is exact, and sparse expression stays sparse, since
    :math:`(X - 1\mu^T) D^{-1} G = X D^{-1} G - 1 (\mu^T D^{-1} G)`. The ranked sentence is the rank-weighted mean of
    its genes' vectors. It stands in for encoding one sentence a cell, which takes hours for a million cells; how far
    the two agree is measured by :mod:`cellmodel.pp.text.sentences`.
    """

    has_vector: Bool[np.ndarray, " gene"]  # which of the genes have a text
    # gene_vectors, raw_gene_vectors: (gene, dim) whitened and as the encoder gave them; zero where a gene has none
    gene_vectors: GeneVectors
    raw_gene_vectors: GeneVectors
    mean: Float[np.ndarray, " gene"]  # mean, deviation: of each gene's expression
    deviation: Float[np.ndarray, " gene"]
    center: Float[np.ndarray, " dim"]  # (dim,) mean of the pooled sentences

    def paths(self, expression: CellByGene, *, n_top: int) -> tuple[Embedding, Embedding]:
        """Both paths of some cells, float32, centered over the fitted cells, not normalized."""
        vectors = self.gene_vectors[self.has_vector]
        mean, deviation = self.mean[self.has_vector], self.deviation[self.has_vector]
        varies = deviation > EPSILON
        scaled = vectors * np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)[:, None]
        scaled, shift = scaled.astype(np.float32), (mean @ scaled).astype(np.float32)
        path1, path2 = (np.empty((expression.shape[0], vectors.shape[1]), dtype=np.float32) for _ in range(2))
        for start in range(0, expression.shape[0], _BLOCK):
            rows = slice(start, start + _BLOCK)
            known = expression[rows][:, self.has_vector]
            path1[rows] = known @ scaled - shift
            path2[rows] = rank_weights(known, n_top=n_top, mean=mean) @ vectors - self.center
        return path1, path2


@dataclass(frozen=True, kw_only=True, slots=True)
class TextView:
    """Text side of the cells."""

    z: Embedding  # the mixed paths
    paths: tuple[Embedding, Embedding]  # the expression-weighted path and the ranked sentence
    text_map: TextMap  # expression → both paths
    whitening: Whitening  # the map that whitened the gene vectors
    # whether the ranked sentence is the encoder's reading of it; else the vectors of its genes were pooled
    sentences_encoded: bool = False
    # reading, sentences: how the encoder reads sentences, and what was found when it did; None where it reads none
    reading: SentenceReading | None = None
    sentences: SentenceRecord | None = None


def find_reader(kb: genekb.Store, encoder_id: str) -> Read:
    """Find what reads sentences: an encoder of the store, behind the sentences that it read before."""
    folder = sentence_folder(kb, encoder_id)
    return partial(read_sentences, encoder=kb.encoder(encoder_id), folder=folder)


def text_view(
    expression: CellByGene,
    top_genes: Int[np.ndarray, " gene"],
    alignment: GeneAlignment,
    config: RunConfig,
    *,
    knowledge: Knowledge,
    stages: AnyStages | None = None,
    read: tuple[Sequence[str], Read] | None = None,
) -> TextView:
    """Make the text view of the cells from gene vectors or from a control.

    ``expression``: (cell, gene) log-normalized, of the highly variable genes ``top_genes``. ``stages``: where arrays
    are kept; in memory if None. ``read``: names of all genes, and what reads sentences of them; no sentence is read if
    None. Raises ``InputUnusable`` if fewer than two highly variable genes have a text, or a disk refuses.
    """
    stages, settings = stages or MemoryStages(), config.semantics
    has_vector = alignment.has_vector[top_genes]
    if has_vector.sum() < 2:  # noqa: PLR2004 - whitening needs two texts
        raise InputUnusable(
            f"{has_vector.sum()} of {len(top_genes)} highly variable genes have a text in "
            f'{alignment.lineage.store_id}, 2 are needed; build the store for more genes, or use knowledge="none"'
        )
    vectors = apply_knowledge(alignment.vectors[top_genes[has_vector]], knowledge=knowledge, seed=config.seed)
    with one_thread():
        whitening = fit_whitening(vectors, rank=settings.rank)
        text_map = fit_text_map(expression, vectors, has_vector=has_vector, whitening=whitening)
        stored = stages.run("text", lambda arrays: _keep_paths(expression, text_map, config, arrays))
    path1, path2, z = (np.asarray(stored.arrays[name]) for name in ("path1", "path2", "z"))
    text_map = replace(text_map, center=np.array(stored.arrays["center"]))
    view = TextView(z=z, paths=(path1, path2), text_map=text_map, whitening=whitening)
    if read is None:
        return view
    reading = SentenceReading(
        columns=top_genes[has_vector],
        names=[read[0][column] for column in top_genes[has_vector]],
        gene_vectors=text_map.gene_vectors[has_vector],
        whitening=whitening,
        n_top=settings.sentence_genes,
        read=read[1],
    )
    return _with_sentences(view, expression, reading, config)


def fit_text_map(
    expression: CellByGene, vectors: GeneVectors, *, has_vector: Bool[np.ndarray, " gene"], whitening: Whitening
) -> TextMap:
    """Fit all of a map but the center, which is zero until the sentences of all cells are pooled."""
    mean, deviation = column_moments(expression)
    whitened = whitening(vectors)
    every = [np.zeros((len(has_vector), given.shape[1]), dtype=np.float32) for given in (whitened, vectors)]
    for placed, given in zip(every, (whitened, vectors), strict=True):
        placed[has_vector] = given
    return TextMap(
        has_vector=has_vector,
        gene_vectors=every[0],
        raw_gene_vectors=every[1],
        mean=mean,
        deviation=deviation,
        center=np.zeros(whitened.shape[1], dtype=np.float32),
    )


def _keep_paths(expression: CellByGene, text_map: TextMap, config: RunConfig, arrays: Arrays) -> Mapping[str, Any]:
    """Keep both paths, then their mixture, which needs the mean of the second over all cells."""
    n_cells, n_top = expression.shape[0], config.semantics.sentence_genes
    shape = (n_cells, text_map.gene_vectors.shape[1])
    path1, path2, z = (arrays.create(name, shape=shape, dtype=np.float32) for name in ("path1", "path2", "z"))
    ranges = row_ranges(n_cells)
    starts = range(0, n_cells, _BLOCK)
    paths = in_order(lambda start: text_map.paths(expression[start : start + _BLOCK], n_top=n_top), starts)
    for start, found in zip(starts, paths, strict=True):
        path1[start : start + _BLOCK], path2[start : start + _BLOCK] = found
    center = sum(path2[start:end].sum(axis=0, dtype=np.float64) for start, end in ranges) / n_cells
    center = np.asarray(center, dtype=np.float32)
    for start, end in ranges:
        path2[start:end] -= center
        z[start:end] = mix_paths(path1[start:end], path2[start:end], path1_weight=config.semantics.path1_weight)
    arrays.save("center", center)
    return {}


def mix_paths(path1: Embedding, path2: Embedding, *, path1_weight: float) -> Embedding:
    r"""Mix the two paths, each row of each at length one: :math:`z = \omega z_1 + (1-\omega) z_2`."""
    return unit_rows(path1_weight * unit_rows(path1) + (1 - path1_weight) * unit_rows(path2))


def _with_sentences(view: TextView, expression: CellByGene, reading: SentenceReading, config: RunConfig) -> TextView:
    """Let the encoder read the sentences of all cells, or of a sample, and compare them with the pooled vectors."""
    settings, (path1, pooled) = config.semantics, view.paths
    has_vector = np.flatnonzero(view.text_map.has_vector)
    mean = view.text_map.mean[has_vector]

    def blocks() -> Iterator[CellByGene]:
        return (expression[start:end][:, has_vector] for start, end in row_ranges(len(pooled)))

    rows = draw_cells(blocks(), n_cells=settings.n_sampled, seed=config.seed)
    sample = expression[rows][:, has_vector]
    reads_all = settings.sentences == "encoded"
    sentences = [
        sentence
        for block in (blocks() if reads_all else [sample])
        for sentence in cell_sentences(block, reading.names, n_top=reading.n_top, mean=mean)
    ]
    path2, read = encode_sentences(sentences, reading)
    record = compare_sentences(
        sample,
        reading,
        pooled=pooled[rows],
        encoded=path2[rows] if reads_all else path2,
        read=read,
        mean=mean,
        seed=config.seed,
    )
    view = replace(view, reading=reading, sentences=record)
    if not reads_all:
        return view
    z = mix_paths(path1, path2, path1_weight=settings.path1_weight)
    return replace(view, z=z, paths=(path1, path2), sentences_encoded=True)
