"""Cells and a store in, all that a recipe may see of the cells out."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

import genekb
from cellmodel.core import random as seeding
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.types import CellByGene
from cellmodel.io.cells import Cells
from cellmodel.io.value_kind import ValueKind
from cellmodel.pp.features import Features, make_features
from cellmodel.pp.gene_weights import load_adapter
from cellmodel.recipes.base import CellViews
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


def prepare(cells: Cells, kb: genekb.Store | None, config: RunConfig, *, progress: Progress | None = None) -> Prepared:
    """Align genes, make the expression side and the text side, and put them together for a recipe.

    Raises ``InputUnusable`` if there are too few cells or genes, or a store is needed and not given;
    ``AlignmentTooLow`` if too few genes are known to the store.
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

    Raises ``InputUnusable`` if there are too few, or none is given.
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

    Raises ``InputUnusable`` if there are fewer.
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

    ``expression``: (cell, gene) of the highly variable genes. ``depth``: (cell,) sum of all values of each.
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
