"""The text side of cells that stay in their file: both paths block by block, and what can be told from a sample."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

import genekb
from cellmodel.core.choices import Knowledge
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.stages import Stages, create_array, save_array
from cellmodel.core.types import CellByGene, Embedding, GeneVectors
from cellmodel.io.backed import StoredMatrix
from cellmodel.nn.ray_ranges import Rows, on_ray
from cellmodel.pp.backed_cells import StoredCells
from cellmodel.pp.features import Features, row_ranges
from cellmodel.pp.scan import LogExpression
from cellmodel.text.align import GeneAlignment
from cellmodel.text.controls import apply_knowledge
from cellmodel.text.paths import Whitening, expression_weighted, fit_whitening, mix_paths, rank_weights, ranked_sentence
from cellmodel.text.sentence_cache import Progress, read_sentences, sentence_folder
from cellmodel.text.sentences import Read, SentenceReading, SentenceRecord, draw_cells, read_path2, read_sample


@dataclass(frozen=True, kw_only=True, slots=True)
class TextView:
    """Text side of the cells."""

    z: Embedding  # the mixed paths
    paths: tuple[Embedding, Embedding]  # the expression-weighted path and the ranked sentence
    whitening: Whitening  # the map that whitened the gene vectors
    gene_vectors: GeneVectors  # (gene, dim) whitened vectors of the highly variable genes; zero where a gene has none
    raw_gene_vectors: GeneVectors  # the same before they were whitened
    # whether path 2 is the encoder's reading of the sentences; else the vectors of their genes were pooled
    path2_encoded: bool
    # reading, sentences: how the encoder reads sentences, and what was found when it did; None where it reads none
    reading: SentenceReading | None = None
    sentences: SentenceRecord | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GeneText:
    """Text side of the highly variable genes that have a text."""

    columns: Int[np.ndarray, " gene"]  # of the cells' genes
    vectors: GeneVectors  # (gene, dim) as the encoder or the control gave them
    whitening: Whitening  # the map fitted to them
    whitened: GeneVectors  # (gene, rank) after it

    def of(self, top_genes: Int[np.ndarray, " gene"]) -> tuple[GeneVectors, GeneVectors]:
        """Whitened and own vectors in the order of all highly variable genes, zero for those without a text."""
        return _of_top_genes(self.whitened, self.columns, top_genes), _of_top_genes(
            self.vectors, self.columns, top_genes
        )


def stream_text(
    cells: StoredCells,
    features: Features,
    *,
    alignment: GeneAlignment,
    config: RunConfig,
    stages: Stages,
    read: Read | None,
) -> TextView | None:
    """Make the text view of all cells; path 2 is pooled. With engine ``ray`` its workers read the file of the cells.

    ``read``: reads the sentences of a sample of the cells, to be compared with the pooled ones; None for no comparison.
    Returns memory-mapped; None without knowledge. Raises ``InputUnusable`` if fewer than two highly variable genes have
    a text, or the disk refuses.
    """
    if config.knowledge == "none":
        return None
    genes = gene_text(features.top_genes, alignment, config, knowledge=config.knowledge)
    stored = stages.run("text", lambda folder: _write_paths(cells, features, folder, genes=genes, config=config))
    whitened, own = genes.of(features.top_genes)
    reading = sentence_reading(genes, cells.names, read, config) if read is not None else None
    path1, path2, z = (np.asarray(stored.arrays[name]) for name in ("path1", "path2", "z"))
    record = None
    if reading is not None:
        mean = np.array(stored.arrays["mean"])
        record = _sampled_sentences(features, reading, path2, mean=mean, config=config)
    return TextView(
        z=z,
        paths=(path1, path2),
        whitening=genes.whitening,
        gene_vectors=whitened,
        raw_gene_vectors=own,
        path2_encoded=False,
        reading=reading,
        sentences=record,
    )


def _sampled_sentences(
    features: Features,
    reading: SentenceReading,
    pooled: Embedding,
    *,
    mean: Float[np.ndarray, " gene"],
    config: RunConfig,
) -> SentenceRecord:
    """Let the encoder read a sample of the cells, drawn as from cells in memory."""
    has_text = np.flatnonzero(np.isin(features.top_genes, reading.columns))
    blocks = (features.expression[start:end][:, has_text] for start, end in row_ranges(len(pooled)))
    rows = draw_cells(blocks, n_cells=config.semantics.n_sampled, seed=config.seed)
    sample = features.expression[rows][:, has_text]
    return read_sample(sample, reading, pooled=pooled[rows], mean=mean, seed=config.seed)


def sampled_features(features: Features, rows: Int[np.ndarray, " cell"], *, n_genes: int) -> Features:
    """Take some of the cells into memory, their genes in the order of all genes."""
    chosen = features.expression[rows]
    expression = sp.csr_matrix((chosen.data, features.top_genes[chosen.indices], chosen.indptr), (len(rows), n_genes))
    return Features(
        expression=expression,
        detected=features.detected,
        top_genes=features.top_genes,
        pcs=features.pcs[rows],
        smoothed=features.smoothed[rows],
        knn=features.knn[:0],
        graph=features.graph[:0],
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PathMap:
    """Log-normalised expression of the genes that have a text → both paths, the second not centred yet."""

    mean: Float[np.ndarray, " gene"]  # of each gene over all cells, which decides between genes of one rank
    # scaled, shift: (gene, dim) vectors over the deviation of their gene, and what the mean cell gets from them
    scaled: GeneVectors
    shift: Float[np.ndarray, " dim"]
    whitened: GeneVectors  # (gene, dim) vectors
    n_top: int  # genes in a sentence

    def __call__(self, expression: CellByGene) -> tuple[Embedding, Embedding]:
        """Both paths of some cells."""
        path1 = expression.toarray() @ self.scaled - self.shift
        path2 = rank_weights(expression, n_top=self.n_top, mean=self.mean) @ self.whitened
        return path1, np.asarray(path2, dtype=np.float32)


def _path_map(features: Features, genes: GeneText, config: RunConfig) -> PathMap:
    has_text = np.isin(features.top_genes, genes.columns)
    mean, deviation = (values[has_text] for values in _moments(features.expression))
    scaled = genes.whitened * np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)[:, None]
    return PathMap(
        mean=mean,
        scaled=scaled.astype(np.float32),
        shift=(mean @ scaled).astype(np.float32),
        whitened=genes.whitened,
        n_top=config.semantics.sentence_genes,
    )


def _write_paths(
    cells: StoredCells, features: Features, folder: Path, *, genes: GeneText, config: RunConfig
) -> Mapping[str, Any]:
    """Write both paths, then their mixture, which needs the mean of the second over all cells."""
    make = _path_map(features, genes, config)
    n_cells = features.expression.shape[0]
    shape = (n_cells, make.scaled.shape[1])
    path1, path2, z = (create_array(folder, name, shape=shape, dtype=np.float32) for name in ("path1", "path2", "z"))
    found = _paths(cells, features, make, genes=genes, config=config)
    for (start, end), (first, second) in found:
        path1[start:end], path2[start:end] = first, second
    ranges = row_ranges(n_cells)
    centre = sum(path2[start:end].sum(axis=0, dtype=np.float64) for start, end in ranges) / n_cells
    for start, end in ranges:
        path2[start:end] -= centre.astype(np.float32)
        z[start:end] = mix_paths(path1[start:end], path2[start:end], path1_weight=config.semantics.path1_weight)
    for array in (path1, path2, z):
        array.flush()
    save_array(folder, "mean", make.mean)
    return {}


def _paths(
    cells: StoredCells, features: Features, make: PathMap, *, genes: GeneText, config: RunConfig
) -> Iterator[tuple[Rows, tuple[Embedding, Embedding]]]:
    """Both paths by ranges of cells: here, from the expression that is kept, or on Ray, from the file of the cells."""
    ranges = row_ranges(features.expression.shape[0])
    if config.compute.engine == "ray":
        shared = (cells.matrix, cells.expression(genes.columns), make)
        yield from on_ray(paths_of_rows, shared, ranges, n_workers=config.compute.n_workers)
        return
    has_text = np.flatnonzero(np.isin(features.top_genes, genes.columns))
    for start, end in ranges:
        yield (start, end), make(features.expression[start:end][:, has_text])


def paths_of_rows(shared: tuple[StoredMatrix, LogExpression, PathMap], rows: Rows) -> tuple[Embedding, Embedding]:
    """Read a range of cells from their file and make their paths; what a worker does."""
    matrix, expression, make = shared
    (values,) = matrix.parts([rows])
    return make(expression.of(values))


def _moments(expression: CellByGene) -> tuple[Float[np.ndarray, " gene"], Float[np.ndarray, " gene"]]:
    """Mean and standard deviation of each gene, block by block."""
    sums, squares = np.zeros((2, expression.shape[1]))
    for start, end in row_ranges(expression.shape[0]):
        block = expression[start:end]
        values = block.data.astype(np.float64)
        sums += np.bincount(block.indices, values, minlength=len(sums))
        squares += np.bincount(block.indices, values**2, minlength=len(sums))
    mean = sums / expression.shape[0]
    return mean, np.sqrt(np.maximum(squares / expression.shape[0] - mean**2, 0.0))


def find_reader(kb: genekb.Store, encoder_id: str, *, progress: Progress | None = None) -> Read:
    """Find what reads sentences: an encoder of the store, behind the sentences that it read before."""
    folder = sentence_folder(kb, encoder_id)
    return partial(read_sentences, encoder=kb.encoder(encoder_id), folder=folder, progress=progress)


def sentence_reading(genes: "GeneText", names: Sequence[str], read: Read, config: RunConfig) -> SentenceReading:
    """Say how sentences of the genes that have a text are read; ``names`` are those of all genes."""
    return SentenceReading(
        columns=genes.columns,
        names=[names[column] for column in genes.columns],
        gene_vectors=genes.whitened,
        whitening=genes.whitening,
        n_top=config.semantics.sentence_genes,
        read=read,
    )


def text_view(
    features: Features,
    alignment: GeneAlignment,
    config: RunConfig,
    *,
    knowledge: Knowledge,
    read: tuple[Sequence[str], Read] | None = None,
) -> TextView:
    """Make the text view of the cells from gene vectors or from a control.

    ``read``: names of all genes, and what reads sentences of them; path 2 is pooled and nothing compared if None.
    Raises ``InputUnusable`` if fewer than two highly variable genes have a text.
    """
    settings = config.semantics
    genes = gene_text(features.top_genes, alignment, config, knowledge=knowledge)
    columns, whitened = genes.columns, genes.whitened
    expression = features.expression[:, columns]
    path1 = expression_weighted(expression, whitened)
    path2 = ranked_sentence(expression, whitened, n_top=settings.sentence_genes)
    reading = record = None
    if read is not None:
        reading = sentence_reading(genes, read[0], read[1], config)
        path2, record = read_path2(expression, reading, pooled=path2, config=settings, seed=config.seed)
    of_top_genes, own_of_top_genes = genes.of(features.top_genes)
    return TextView(
        z=mix_paths(path1, path2, path1_weight=settings.path1_weight),
        paths=(path1, path2),
        whitening=genes.whitening,
        gene_vectors=of_top_genes,
        raw_gene_vectors=own_of_top_genes,
        path2_encoded=reading is not None and settings.sentences == "encoded",
        reading=reading,
        sentences=record,
    )


def gene_text(
    top_genes: Int[np.ndarray, " gene"], alignment: GeneAlignment, config: RunConfig, *, knowledge: Knowledge
) -> GeneText:
    """Whiten the vectors of the highly variable genes that have a text, or a control in their place.

    Raises ``InputUnusable`` if fewer than two have one.
    """
    columns = top_genes[alignment.has_vector[top_genes]]
    if len(columns) < 2:  # noqa: PLR2004 - whitening needs two texts
        raise InputUnusable(
            f"{len(columns)} of {len(top_genes)} highly variable genes have a text in {alignment.store_id}, "
            "2 are needed; build the store for more genes, or use --knowledge none"
        )
    vectors = apply_knowledge(alignment.vectors[columns], knowledge=knowledge, seed=config.seed)
    whitening = fit_whitening(vectors, rank=config.semantics.rank)
    return GeneText(columns=columns, vectors=vectors, whitening=whitening, whitened=whitening(vectors))


def _of_top_genes(
    given: GeneVectors, columns: Int[np.ndarray, " gene"], top_genes: Int[np.ndarray, " gene"]
) -> GeneVectors:
    """Vectors in the order of the highly variable genes, zero for those without one."""
    vectors = np.zeros((len(top_genes), given.shape[1]), dtype=np.float32)
    vectors[np.isin(top_genes, columns)] = given
    return vectors
