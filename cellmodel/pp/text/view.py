"""The text side of the cells: both paths block by block, their mixture, and what the encoder reads of a sample."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int

import genekb
from cellmodel.core.arrays import CellByGene, Embedding, row_ranges
from cellmodel.core.config import Knowledge, RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.stages import AnyStages, Arrays, MemoryStages
from cellmodel.pp.text.align import GeneAlignment
from cellmodel.pp.text.paths import TextMap, Whitening, apply_knowledge, fit_text_map, fit_whitening, mix_paths
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


def _keep_paths(expression: CellByGene, text_map: TextMap, config: RunConfig, arrays: Arrays) -> Mapping[str, Any]:
    """Keep both paths, then their mixture, which needs the mean of the second over all cells."""
    n_cells, n_top = expression.shape[0], config.semantics.sentence_genes
    shape = (n_cells, text_map.gene_vectors.shape[1])
    path1, path2, z = (arrays.create(name, shape=shape, dtype=np.float32) for name in ("path1", "path2", "z"))
    ranges = row_ranges(n_cells)
    for start, end in ranges:
        path1[start:end], path2[start:end] = text_map.paths(expression[start:end], n_top=n_top)
    center = sum(path2[start:end].sum(axis=0, dtype=np.float64) for start, end in ranges) / n_cells
    center = np.asarray(center, dtype=np.float32)
    for start, end in ranges:
        path2[start:end] -= center
        z[start:end] = mix_paths(path1[start:end], path2[start:end], path1_weight=config.semantics.path1_weight)
    arrays.save("center", center)
    return {}


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
