"""Cells and a store in, all that a recipe may see of the cells out."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float, Int

import genekb
from cellmodel import seeding
from cellmodel.align import GeneAlignment, align_genes
from cellmodel.choices import Knowledge
from cellmodel.config import RunConfig
from cellmodel.errors import AlignmentTooLow, InputUnusable
from cellmodel.features import Features, make_features
from cellmodel.informativeness import load_adapter
from cellmodel.io import Cells
from cellmodel.knowledge import apply_knowledge
from cellmodel.recipes.base import CellViews
from cellmodel.semantics import Whitening, expression_weighted, fit_whitening, mix_paths, ranked_sentence
from cellmodel.sentence_cache import Progress, read_sentences, sentence_folder
from cellmodel.sentences import Read, SentenceReading, SentenceRecord, read_path2
from cellmodel.types import CellByGene, Embedding, GeneVectors
from cellmodel.values import ValueKind

log = logging.getLogger(__name__)


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
        Whether path 2 is the encoder's reading of the sentences; else the vectors of their genes were pooled.
    reading, sentences
        How the encoder reads sentences, and what was found when it did; None where it reads none.
    """

    z: Embedding
    paths: tuple[Embedding, Embedding]
    whitening: Whitening
    gene_vectors: GeneVectors
    raw_gene_vectors: GeneVectors
    path2_encoded: bool
    reading: SentenceReading | None = None
    sentences: SentenceRecord | None = None


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


def prepare(cells: Cells, kb: genekb.Store | None, config: RunConfig, *, progress: Progress | None = None) -> Prepared:
    """Align genes, make the expression side and the text side, and put them together for a recipe.

    Raises
    ------
    InputUnusable
        If there are too few cells or genes, or a store is needed and not given.
    AlignmentTooLow
        If too few genes are known to the store.
    """
    check_cells(cells.shape, cells.source, kb=kb, config=config)
    seconds: dict[str, float] = {}
    with timed(seconds, "align"):
        totals = np.asarray(cells.matrix.sum(axis=0), dtype=np.float64).ravel()
        alignment = align_if_known(cells.names, kb, config, totals=totals)
    with timed(seconds, "features"):
        features = make_features(cells, config, from_text=_from_text(alignment, config))
    with timed(seconds, "text"):
        text = _text_view(cells, kb, alignment, features, config, progress=progress)
    views = _views(cells, features, text, config)
    return Prepared(alignment=alignment, features=features, text=text, views=views, seconds=seconds)


def check_cells(shape: tuple[int, int], source: str, *, kb: genekb.Store | None, config: RunConfig) -> None:
    """Check that there are cells and genes to compare, and a store where one is needed.

    Raises
    ------
    InputUnusable
        If there are too few, or none is given.
    """
    n_cells, n_genes = shape
    if n_cells < 3 or n_genes < 2:  # noqa: PLR2004 - below this nothing can be compared
        raise InputUnusable(
            f"{source} has {n_cells} cells x {n_genes} genes; at least 3 x 2 are needed, with fewer there is nothing "
            "to compare"
        )
    if kb is None and config.knowledge != "none":
        raise InputUnusable(f"knowledge {config.knowledge!r} needs a store; give --kb NAME, or --knowledge none")


def check_n_clusters(config: RunConfig, *, n_cells: int) -> None:
    """Check that there are as many cells as clusters are asked for.

    Raises
    ------
    InputUnusable
        If there are fewer.
    """
    if config.n_clusters is not None and config.n_clusters > n_cells:
        raise InputUnusable(
            f"{config.n_clusters} clusters were asked for, there are {n_cells} cells; ask for fewer (--n-clusters)"
        )


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
    totals = np.asarray(cells.matrix.sum(axis=0), dtype=np.float64).ravel()
    return align_names(cells.names, kb, config, totals=totals)


def align_if_known(
    names: Sequence[str], kb: genekb.Store | None, config: RunConfig, *, totals: Float[np.ndarray, " gene"]
) -> GeneAlignment | None:
    """Align genes with a store; None without one, and where they are unknown to it but no knowledge is asked for.

    Raises
    ------
    AlignmentTooLow
        If too few genes are known to the store, and knowledge is asked for.
    """
    if kb is None:
        return None
    try:
        return align_names(names, kb, config, totals=totals)
    except AlignmentTooLow as error:
        if config.knowledge == "none":
            log.warning("%s; they are clustered without (--knowledge none)", error)
            return None
        raise AlignmentTooLow(f"{error} (--knowledge none clusters without texts of genes)") from error


def align_names(
    names: Sequence[str], kb: genekb.Store, config: RunConfig, *, totals: Float[np.ndarray, " gene"]
) -> GeneAlignment:
    """Align genes by name, with the sum of each over the cells."""
    return align_genes(
        names,
        kb,
        counts=totals,
        encoder=config.encoder,
        use_orthologs=config.use_orthologs,
        min_coverage=config.min_coverage,
    )


def _views(cells: Cells, features: Features, text: TextView | None, config: RunConfig) -> CellViews:
    made = make_views(
        features,
        text,
        config,
        expression=features.expression[:, features.top_genes],
        depth=np.asarray(cells.matrix.sum(axis=1), dtype=np.float64).ravel(),
    )
    return replace(made, counts=cells.matrix[:, features.top_genes]) if cells.kind == ValueKind.COUNTS else made


def make_views(
    features: Features,
    text: TextView | None,
    config: RunConfig,
    *,
    expression: CellByGene,
    depth: Float[np.ndarray, " cell"],
) -> CellViews:
    """Put both sides together, without counts.

    Parameters
    ----------
    expression
        (cell, gene) of the highly variable genes.
    depth
        (cell,) sum of all values of each.
    """
    return CellViews(
        expression=expression,
        pcs=features.pcs,
        graph=features.graph,
        smoothed=features.smoothed,
        text=text.z if text else None,
        knn=features.knn,
        depth=depth,
        text_paths=text.paths if text else None,
        gene_vectors=text.gene_vectors if text else None,
        raw_gene_vectors=text.raw_gene_vectors if text else None,
        text_path2_encoded=text.path2_encoded if text else False,
        spatial=features.spatial,
        n_clusters=config.n_clusters,
        gene_weights=features.gene_weights,
        compute=config.compute,
    )


def _text_view(
    cells: Cells,
    kb: genekb.Store | None,
    alignment: GeneAlignment | None,
    features: Features,
    config: RunConfig,
    *,
    progress: Progress | None,
) -> TextView | None:
    if alignment is None or kb is None or config.knowledge == "none":
        return None
    if config.semantics.sentences == "pooled":
        return text_view(features, alignment, config, knowledge=config.knowledge)
    if config.knowledge != "real":
        log.warning("sentences hold no %s texts: path 2 is pooled, and no sentence is read", config.knowledge)
        return text_view(features, alignment, config, knowledge=config.knowledge)
    read = find_reader(kb, alignment.encoder_id, progress=progress)
    return text_view(features, alignment, config, knowledge="real", read=(cells.names, read))


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

    Parameters
    ----------
    read
        Names of all genes, and what reads sentences of them; path 2 is pooled and nothing compared if None.

    Raises
    ------
    InputUnusable
        If fewer than two highly variable genes have a text.
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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GeneText:
    """Text side of the highly variable genes that have a text.

    Parameters
    ----------
    columns
        Of the cells' genes.
    vectors
        (gene, dim) as the encoder or the control gave them.
    whitening
        The map fitted to them.
    whitened
        (gene, rank) after it.
    """

    columns: Int[np.ndarray, " gene"]
    vectors: GeneVectors
    whitening: Whitening
    whitened: GeneVectors

    def of(self, top_genes: Int[np.ndarray, " gene"]) -> tuple[GeneVectors, GeneVectors]:
        """Whitened and own vectors in the order of all highly variable genes, zero for those without a text."""
        return _of_top_genes(self.whitened, self.columns, top_genes), _of_top_genes(
            self.vectors, self.columns, top_genes
        )


def gene_text(
    top_genes: Int[np.ndarray, " gene"], alignment: GeneAlignment, config: RunConfig, *, knowledge: Knowledge
) -> GeneText:
    """Whiten the vectors of the highly variable genes that have a text, or a control in their place.

    Raises
    ------
    InputUnusable
        If fewer than two have one.
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
