"""Cells and a store in, all that a recipe may see of the cells out."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

import genekb
from cellmodel import seeding
from cellmodel.align import GeneAlignment, align_genes
from cellmodel.config import RunConfig
from cellmodel.errors import InputUnusable
from cellmodel.features import Features, make_features
from cellmodel.informativeness import load_adapter
from cellmodel.io import Cells
from cellmodel.knowledge import apply_knowledge
from cellmodel.recipes.base import CellViews
from cellmodel.semantics import (
    Whitening,
    cell_sentences,
    encode_sentences,
    expression_weighted,
    fit_whitening,
    mix_paths,
    ranked_sentence,
)
from cellmodel.types import CellByGene, Embedding, GeneVectors, Knowledge
from cellmodel.values import ValueKind

log = logging.getLogger(__name__)
EncodedPath = Callable[[CellByGene, Int[np.ndarray, " gene"], Whitening], Embedding]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextView:
    """Text side of the cells.

    Parameters
    ----------
    z
        The mixed paths.
    paths
        The expression-weighted path and the ranked sentence.
    whitening
        The map that whitened the gene vectors.
    gene_vectors
        (gene, dim) whitened vectors of the highly variable genes; zero where a gene has none.
    raw_gene_vectors
        The same before they were whitened.
    path2_encoded
        Whether the encoder read the sentences; else the vectors of their genes were pooled.
    """

    z: Embedding
    paths: tuple[Embedding, Embedding]
    whitening: Whitening
    gene_vectors: GeneVectors
    raw_gene_vectors: GeneVectors
    path2_encoded: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Both sides of the cells, and the views made of them.

    Parameters
    ----------
    alignment
        Genes found in the store; None without one.
    text
        None without knowledge.
    seconds
        By stage.
    """

    alignment: GeneAlignment | None
    features: Features
    text: TextView | None
    views: CellViews
    seconds: dict[str, float]


def prepare(cells: Cells, kb: genekb.Store | None, config: RunConfig) -> Prepared:
    """Align genes, make the expression side and the text side, and put them together for a recipe.

    Raises
    ------
    InputUnusable
        If there are too few cells or genes, or a store is needed and not given.
    AlignmentTooLow
        If too few genes are known to the store.
    """
    n_cells, n_genes = cells.matrix.shape
    if n_cells < 3 or n_genes < 2:  # noqa: PLR2004 - below this nothing can be compared
        raise InputUnusable(f"{cells.source} has {n_cells} cells x {n_genes} genes; at least 3 x 2 are needed")
    if kb is None and config.knowledge != "none":
        raise InputUnusable(f"knowledge {config.knowledge!r} needs a store; give --kb NAME, or --knowledge none")
    seconds: dict[str, float] = {}
    with timed(seconds, "align"):
        alignment = align_cells(cells, kb, config) if kb is not None else None
    with timed(seconds, "features"):
        features = make_features(cells, config, from_text=_from_text(alignment, config))
    with timed(seconds, "text"):
        text = _text_view(cells, kb, alignment, features, config)
    views = _views(cells, features, text, config)
    return Prepared(alignment=alignment, features=features, text=text, views=views, seconds=seconds)


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Write down how long a stage takes."""
    started = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - started, 3)
    log.debug("%s: %.2f s", stage, seconds[stage])


def _from_text(alignment: GeneAlignment | None, config: RunConfig) -> Float[np.ndarray, " gene"] | None:
    """How informative each gene is by its text, or by a control in its place; None where it is not asked for."""
    if not config.low_data or alignment is None or config.knowledge == "none":
        return None
    predicted = load_adapter()(alignment.texts)
    having = np.flatnonzero([bool(text) for text in alignment.texts])
    rng = seeding.generator(config.seed, "informativeness from text")
    if config.knowledge == "shuffled":
        predicted[having] = rng.permutation(predicted[having])
    elif config.knowledge == "random":
        predicted[having] = rng.standard_normal(len(having))
    return predicted


def align_cells(cells: Cells, kb: genekb.Store, config: RunConfig) -> GeneAlignment:
    """Align the genes of cells with a store; see :func:`cellmodel.align.align_genes`."""
    return align_genes(
        cells.names,
        kb,
        counts=np.asarray(cells.matrix.sum(axis=0), dtype=np.float64).ravel(),
        encoder=config.encoder,
        use_orthologs=config.use_orthologs,
        min_coverage=config.min_coverage,
    )


def _views(cells: Cells, features: Features, text: TextView | None, config: RunConfig) -> CellViews:
    counts = cells.matrix[:, features.top_genes] if cells.kind == ValueKind.COUNTS else None
    return CellViews(
        expression=features.expression[:, features.top_genes],
        pcs=features.pcs,
        graph=features.graph,
        smoothed=features.smoothed,
        text=text.z if text else None,
        knn=features.knn,
        depth=np.asarray(cells.matrix.sum(axis=1), dtype=np.float64).ravel(),
        counts=counts,
        text_paths=text.paths if text else None,
        gene_vectors=text.gene_vectors if text else None,
        raw_gene_vectors=text.raw_gene_vectors if text else None,
        text_path2_encoded=text.path2_encoded if text else False,
        spatial=features.spatial,
        n_clusters=config.n_clusters,
        gene_weights=features.gene_weights,
    )


def _text_view(
    cells: Cells, kb: genekb.Store | None, alignment: GeneAlignment | None, features: Features, config: RunConfig
) -> TextView | None:
    if alignment is None or kb is None or config.knowledge == "none":
        return None
    if config.semantics.sentences == "encoded" and config.knowledge == "real":
        encoder = kb.encoder(alignment.encoder_id)

        def encoded(expression: CellByGene, columns: Int[np.ndarray, " gene"], whitening: Whitening) -> Embedding:
            names = [cells.names[column] for column in columns]
            sentences = cell_sentences(expression, names, n_top=config.semantics.sentence_genes)
            return encode_sentences(sentences, lambda texts: encoder.encode(texts).vectors, whitening)

        return text_view(features, alignment, config, knowledge="real", encoded_path2=encoded)
    return text_view(features, alignment, config, knowledge=config.knowledge)


def text_view(
    features: Features,
    alignment: GeneAlignment,
    config: RunConfig,
    *,
    knowledge: Knowledge,
    encoded_path2: EncodedPath | None = None,
) -> TextView:
    """Make the text view of the cells from gene vectors or from a control.

    Parameters
    ----------
    encoded_path2
        Reads the cells' sentences with the encoder; path 2 is pooled if None.

    Raises
    ------
    InputUnusable
        If fewer than two highly variable genes have a text.
    """
    settings = config.semantics
    columns = features.top_genes[alignment.has_vector[features.top_genes]]
    if len(columns) < 2:  # noqa: PLR2004 - whitening needs two texts
        raise InputUnusable(
            f"{len(columns)} of {len(features.top_genes)} highly variable genes have a text in {alignment.store_id}, "
            "2 are needed; build the store for more genes, or use --knowledge none"
        )
    expression = features.expression[:, columns]
    vectors = apply_knowledge(alignment.vectors[columns], knowledge=knowledge, seed=config.seed)
    whitening = fit_whitening(vectors, rank=settings.rank)
    whitened = whitening(vectors)
    path1 = expression_weighted(expression, whitened)
    if encoded_path2 is not None:
        path2 = encoded_path2(expression, columns, whitening)
    else:
        path2 = ranked_sentence(expression, whitened, n_top=settings.sentence_genes)
    return TextView(
        z=mix_paths(path1, path2, path1_weight=settings.path1_weight),
        paths=(path1, path2),
        whitening=whitening,
        gene_vectors=_of_top_genes(whitened, columns, features),
        raw_gene_vectors=_of_top_genes(vectors, columns, features),
        path2_encoded=encoded_path2 is not None,
    )


def _of_top_genes(given: GeneVectors, columns: Int[np.ndarray, " gene"], features: Features) -> GeneVectors:
    """Vectors in the order of the highly variable genes, zero for those without one."""
    vectors = np.zeros((len(features.top_genes), given.shape[1]), dtype=np.float32)
    vectors[np.isin(features.top_genes, columns)] = given
    return vectors
