"""Cells and a store in, all that a recipe may see of the cells out."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

import genekb
from cellmodel.core import random as seeding
from cellmodel.core.arrays import CellByGene
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.stages import AnyStages, MemoryStages
from cellmodel.io.backed import AnyCells, BackedCells, Scan
from cellmodel.io.cells import Cells
from cellmodel.io.matrix import ValueKind
from cellmodel.pp.blocks import LogExpression
from cellmodel.pp.features import Features, kept_counts, make_features, scan_cells
from cellmodel.pp.gene_weights import load_adapter
from cellmodel.recipes.base import CellViews
from cellmodel.recipes.registry import find_recipe
from cellmodel.text.align import GeneAlignment, align_if_known
from cellmodel.text.sentence_cache import Progress
from cellmodel.text.view import TextView, find_reader, text_view

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Both sides of the cells, and the views made of them."""

    alignment: GeneAlignment | None  # genes found in the store; None without one
    features: Features
    text: TextView | None  # None without knowledge
    views: CellViews
    seconds: dict[str, float]  # by stage


def prepare(
    cells: AnyCells,
    kb: genekb.Store | None,
    config: RunConfig,
    *,
    progress: Progress | None = None,
    stages: AnyStages | None = None,
) -> Prepared:
    """Align genes, make the expression side and the text side, and put them together for a recipe.

    ``stages``: where arrays are kept; in memory if None. Raises ``InputUnusable`` if there are too few cells or genes,
    or a store is needed and not given; ``AlignmentTooLow`` if too few genes are known to the store.
    """
    _check_cells(cells, kb=kb, config=config)
    stages, seconds = stages or MemoryStages(), dict[str, float]()
    with timed(seconds, "align"):
        scanned = scan_cells(cells)
        alignment = align_if_known(cells.names, kb, config, totals=scanned.totals)
    with timed(seconds, "features"):
        from_text = _from_text(alignment, config)
        features = make_features(cells, config, from_text=from_text, stages=stages, scanned=scanned)
    with timed(seconds, "text"):
        text = None
        if alignment is not None and kb is not None and config.knowledge != "none":
            text = _text_view(cells, kb, alignment, features, config, stages=stages, progress=progress)
    counts = _counts(cells, features, config, scanned=scanned, stages=stages)
    views = _views(features, text, config, scanned=scanned, counts=counts)
    return Prepared(alignment=alignment, features=features, text=text, views=views, seconds=seconds)


def _check_cells(cells: AnyCells, *, kb: genekb.Store | None, config: RunConfig) -> None:
    """Check that there are cells and genes to compare, and a store where one is needed."""
    n_cells, n_genes = cells.shape
    if n_cells < 3 or n_genes < 2:  # noqa: PLR2004 - below this nothing can be compared
        raise InputUnusable(
            f"{cells.source} has {n_cells} cells x {n_genes} genes; at least 3 x 2 are needed, with fewer there is "
            "nothing to compare"
        )
    if kb is None and config.knowledge != "none":
        raise InputUnusable(f"knowledge {config.knowledge!r} needs a store; give --kb NAME, or --knowledge none")


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


def _text_view(
    cells: AnyCells,
    kb: genekb.Store,
    alignment: GeneAlignment,
    features: Features,
    config: RunConfig,
    *,
    stages: AnyStages,
    progress: Progress | None,
) -> TextView:
    """Make the text view; sentences are read where that is asked for, and the texts are those of the genes."""
    read = None
    if config.semantics.sentences != "pooled" and config.knowledge == "real":
        read = (cells.names, find_reader(kb, alignment.encoder_id, progress=progress))
    elif config.semantics.sentences != "pooled":
        log.warning("sentences hold no %s texts: path 2 is pooled, and no sentence is read", config.knowledge)
    backed = None
    if isinstance(cells, BackedCells):
        backed = LogExpression(matrix=cells.matrix, kind=cells.kind, columns=features.top_genes)
    return text_view(
        features.expression,
        features.top_genes,
        alignment,
        config,
        knowledge=config.knowledge,
        stages=stages,
        read=read,
        backed=backed,
    )


def _counts(
    cells: AnyCells, features: Features, config: RunConfig, *, scanned: Scan, stages: AnyStages
) -> CellByGene | None:
    """Raw counts of the highly variable genes; of backed cells only for a recipe that reads them."""
    if cells.kind != ValueKind.COUNTS:
        return None
    if isinstance(cells, Cells):
        return cells.matrix[:, features.top_genes]
    if not find_recipe(config.recipe).uses_counts:
        return None
    return kept_counts(cells, features.top_genes, scanned, stages)


def _views(
    features: Features, text: TextView | None, config: RunConfig, *, scanned: Scan, counts: CellByGene | None
) -> CellViews:
    """Put both sides together."""
    return CellViews(
        expression=features.expression,
        pcs=features.pcs,
        graph=features.graph,
        smoothed=features.smoothed,
        text=text.z if text else None,
        knn=features.knn,
        depth=scanned.depth,
        counts=counts,
        text_paths=text.paths if text else None,
        gene_vectors=text.text_map.gene_vectors if text else None,
        raw_gene_vectors=text.text_map.raw_gene_vectors if text else None,
        text_path2_encoded=text.sentences_encoded if text else False,
        spatial=features.spatial,
        n_clusters=config.n_clusters,
        gene_weights=features.gene_weights,
        compute=config.compute,
    )
