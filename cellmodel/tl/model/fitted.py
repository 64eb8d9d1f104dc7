"""A fitted model: what is kept of a run, its files, and the clusters that it gives to new cells.

Arrays are kept as safetensors, all else as JSON; nothing in a model is ever executed.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int

import genekb
from cellmodel.core.arrays import CellByGene, CellGraph, Embedding, Labels
from cellmodel.core.config import BatchConfig, GraphConfig, PreprocessConfig, RunConfig, SemanticsConfig, TrainingConfig
from cellmodel.core.errors import AlignmentTooLow, InputUnusable, LineageMismatch
from cellmodel.io.backed import AnyCells
from cellmodel.io.cells import Cells, ObsCategories, obs_categories
from cellmodel.io.graph import read_folder, write_folder
from cellmodel.io.records import Lineage, digest_of, holds_same
from cellmodel.io.writers import MODEL
from cellmodel.pp.features import Components
from cellmodel.pp.integrate import map_to_reference
from cellmodel.pp.neighbors import attach, nearest_votes, smooth
from cellmodel.pp.normalize import log_expression
from cellmodel.pp.text.view import TextMap, mix_paths
from cellmodel.recipes.base import Embed, NewCells, Representation
from cellmodel.recipes.registry import find_recipe
from cellmodel.tl._run.pipeline import RunResult
from genekb.core.errors import SpeciesMismatch
from genekb.core.plugins import installed_version
from genekb.files import atomic as files

log = logging.getLogger(__name__)
MIN_GENES: Final = 0.5  # share of the model's genes that new cells must have
N_VOTERS: Final = 15  # fitted cells that decide the cluster of a new one


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FittedModel:
    """What a run found, fit to be kept."""

    config: RunConfig
    # names, gene_ids: genes that it reads: as the cells called them, and as the store knows them (0: not at all)
    names: tuple[str, ...]
    gene_ids: Int[np.ndarray, " gene"]
    # mean, components: principal components of new expression x are ``(x - mean) @ components``
    mean: Float[np.ndarray, " gene"]
    components: Float[np.ndarray, "gene dim"]
    pcs: Embedding  # pcs, features, labels: of the fitted cells: components, what the head clustered, clusters
    features: Embedding
    labels: Labels
    lineage: Lineage  # what it was fitted with; empty without knowledge
    text: TextMap | None  # None without knowledge
    state: Mapping[str, np.ndarray]  # what the recipe itself keeps


@dataclass(frozen=True, kw_only=True, slots=True)
class Predicted:
    """What a model makes of new cells."""

    representation: Representation
    labels: Labels  # cluster of each cell, in the numbers of the fitted run
    confidence: Float[np.ndarray, " cell"]  # share of the nearest fitted cells that lie in it
    share_genes: float  # share of the model's genes that the new cells have; the others are taken at their mean


def fit_model(cells: AnyCells, result: RunResult) -> FittedModel:
    """Keep what is needed of a run; ``InputUnusable`` if its recipe or settings cannot place new cells."""
    config, features = result.config, result.features
    check_can_predict(config)
    if result.labels is None or features.components is None:
        raise InputUnusable("a model is kept of a run with clusters; use cluster, not embed")
    columns = features.top_genes
    ids = result.alignment.gene_ids[columns] if result.alignment else np.zeros(len(columns), dtype=np.int64)
    return FittedModel(
        config=config,
        names=tuple(cells.names[column] for column in columns),
        gene_ids=np.asarray(ids, dtype=np.int64),
        mean=features.components.mean,
        components=features.components.loadings,
        pcs=features.pcs,
        features=result.representation.features,
        labels=result.labels,
        lineage=result.alignment.lineage if result.alignment else Lineage(store_id=""),
        text=result.text.text_map if result.text else None,
        state=result.representation.state,
    )


def check_can_predict(config: RunConfig) -> Embed:
    """Find out how models of a run place new cells; ``InputUnusable`` if they cannot."""
    recipe = find_recipe(config.recipe)
    if recipe.embed is None:
        able = "a recipe that can, such as fused, or `cellmodel classify` with `reference`"
        raise InputUnusable(f"recipe {recipe.name!r} has no way to place new cells; use {able}")
    if config.spatial is not None:
        raise InputUnusable("a model fitted with spatial=True cannot place cells of other tissue; leave `spatial` out")
    if config.use_rep is not None:
        raise InputUnusable("a model fitted with `use_rep` cannot place new cells; leave `use_rep` out")
    if config.semantics.sentences == "encoded":
        raise InputUnusable('a model fitted with sentences="encoded" cannot place new cells; use sentences="pooled"')
    return recipe.embed


def predict(model: FittedModel, cells: Cells, kb: genekb.Store | None, *, batch_key: str | None = None) -> Predicted:
    """Embed new cells and give each the cluster of the fitted cells around it.

    Genes are matched by GeneID where the model has one, else by name. Where the batches of the fitted cells were
    integrated, new cells are moved onto these: each batch of ``batch_key``, a column of their obs, or all as one.
    """
    check_store(model, kb)
    batches = _new_batches(model, cells, batch_key)
    columns = _columns(model, cells, kb)
    has_gene = columns >= 0
    if has_gene.mean() < MIN_GENES:
        raise AlignmentTooLow(
            f"{int(has_gene.sum())} of the {len(columns)} genes of the model are among the {len(cells.names)} of "
            f"{cells.source}, {MIN_GENES:.0%} are needed; is it the right model, species and `gene_key`?"
        )
    present = log_expression(cells)[:, columns[has_gene]]
    pcs = Components(mean=model.mean[has_gene], loadings=model.components[has_gene])(present)
    if batches is not None:
        pcs = map_to_reference(pcs, batches.codes, model.pcs)
    graph = attach(pcs, model.pcs, config=model.config.graph)
    representation = _embed(model, has_gene, present, pcs=pcs, graph=graph)
    votes = nearest_votes(representation.features, model.features, model.labels, n_neighbors=N_VOTERS)
    return Predicted(
        representation=representation,
        labels=votes.argmax(axis=1),
        confidence=votes.max(axis=1),
        share_genes=float(has_gene.mean()),
    )


def _new_batches(model: FittedModel, cells: Cells, batch_key: str | None) -> ObsCategories | None:
    """Batches of new cells, all of them one if there is no key; None where the model integrated none."""
    if model.config.integration == "none":
        if batch_key is not None:
            raise InputUnusable("the model was fitted without batches; leave `batch_key` out, or fit it with one")
        return None
    if batch_key is not None:
        return obs_categories(cells.adata, batch_key, source=cells.source)
    log.info("all %d cells are taken for one new batch; `batch_key` names several", cells.shape[0])
    return ObsCategories(key="", names=("new",), codes=np.zeros(cells.shape[0], dtype=np.int64))


def check_store(model: FittedModel, kb: genekb.Store | None) -> None:
    """Refuse a store that does not hold what the model was fitted with, or none where one is needed."""
    fitted_with = model.lineage.store_id
    if holds_same(kb, model.lineage) if kb is not None else not fitted_with:
        return
    given = f"{kb.store_id} was given" if kb is not None else "none was given"
    hint = f'give kb="{digest_of(model.lineage)}"' if fitted_with else "leave `kb` out"
    raise LineageMismatch(f"the model was fitted with store {fitted_with or '(none)'}, {given}; {hint}")


def _columns(model: FittedModel, cells: Cells, kb: genekb.Store | None) -> Int[np.ndarray, " gene"]:
    """Column of the cells for each gene of the model, -1 where there is none; of several the one with most counts."""
    totals = np.asarray(cells.matrix.sum(axis=0)).ravel()
    lowest_first = np.argsort(totals, kind="stable").tolist()
    by_name = {cells.names[column]: column for column in lowest_first}
    by_id: dict[int, int] = {}
    if kb is not None:
        resolution = kb.resolve(cells.names, use_orthologs=model.config.use_orthologs)
        try:
            kb.check_species(resolution)
        except SpeciesMismatch as error:
            raise AlignmentTooLow(str(error)) from error
        by_id = {int(resolution.gene_ids[column]): column for column in lowest_first}
    pairs = zip(model.names, model.gene_ids.tolist(), strict=True)
    return np.array([by_id.get(gene_id, -1) if gene_id else by_name.get(name, -1) for name, gene_id in pairs])


def _embed(
    model: FittedModel, has_gene: Bool[np.ndarray, " gene"], expression: CellByGene, *, pcs: Embedding, graph: CellGraph
) -> Representation:
    embed, text = check_can_predict(model.config), model.text
    if text is not None:  # of those genes that the new cells have
        by_gene = ("has_vector", "gene_vectors", "raw_gene_vectors", "mean", "deviation")
        text = replace(text, **{name: getattr(text, name)[has_gene] for name in by_gene})
    settings, n_smoothing = model.config.semantics, model.config.preprocess.n_smoothing
    paths = text.paths(expression, n_top=settings.sentence_genes) if text else None
    new = NewCells(
        expression=expression,
        pcs=pcs,
        smoothed=smooth(np.vstack([model.pcs, pcs]), graph, n_steps=n_smoothing)[len(model.pcs) :],
        text=mix_paths(*paths, path1_weight=settings.path1_weight) if paths else None,
        text_paths=paths,
        gene_vectors=text.gene_vectors if text else None,
        raw_gene_vectors=text.raw_gene_vectors if text else None,
        has_gene=has_gene,
        fitted_pcs=model.pcs,
        graph=graph,
    )
    try:
        found = embed(new, model.state)
        if found.features.shape[1:] != model.features.shape[1:]:
            raise KeyError("features")
    except KeyError as error:
        recipe = model.config.recipe_name
        raise LineageMismatch(f"the model is damaged: it has no {error} of recipe {recipe!r}; fit it again") from error
    return found


_BY_MODEL: Final = ("gene_ids", "mean", "components", "pcs", "features", "labels")
_BY_TEXT: Final = tuple(field.name for field in fields(TextMap))


def save_model(model: FittedModel, folder: Path, *, overwrite: bool = False) -> None:
    """Write a model to a folder of two files; it takes its name when it is complete."""
    arrays = {name: getattr(model, name) for name in _BY_MODEL}
    if model.text is not None:
        arrays |= {f"text.{name}": getattr(model.text, name) for name in _BY_TEXT}
    arrays |= {f"state.{name}": values for name, values in model.state.items()}
    description = {
        "config": model.config.to_dict(),
        "names": list(model.names),
        **asdict(model.lineage),
        "version": installed_version(),
    }
    write_folder(folder, MODEL, arrays, description, overwrite=overwrite)


def load_model(folder: Path, *, address: str = "") -> FittedModel:
    """Read a model; ``address``: where it was pulled from, which errors then name in place of the folder."""
    return read_folder(folder, MODEL, _model, address=address)


def _model(content: dict[str, Any], path: Path) -> FittedModel:
    arrays = files.read_arrays(path)
    text = {name: arrays[f"text.{name}"] for name in _BY_TEXT if f"text.{name}" in arrays}
    model = FittedModel(
        config=_config(content["config"]),
        names=tuple(content["names"]),
        lineage=Lineage(**{name: content[name] for name in ("store_id", "encoder_id", "content_id")}),
        text=TextMap(**text) if text else None,
        state={name.removeprefix("state."): values for name, values in arrays.items() if name.startswith("state.")},
        **{name: arrays[name] for name in _BY_MODEL},
    )
    _check_axes(model)
    return model


def _check_axes(model: FittedModel) -> None:
    """Refuse arrays that disagree on how many genes, cells or components there are."""
    texts = [*asdict(model.lineage).values(), *model.names]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a name is no text")
    genes = {len(model.names), *map(len, (model.gene_ids, model.mean, model.components))}
    if model.text is not None:
        genes |= {len(getattr(model.text, name)) for name in _BY_TEXT if name != "center"}
    cells = {len(model.pcs), len(model.features), len(model.labels)}
    components = {model.components.shape[1:], model.pcs.shape[1:]}
    for axis, found in (("genes", genes), ("cells", cells), ("components", components)):
        if len(found) > 1:
            raise ValueError(f"its parts disagree on the number of {axis}: {sorted(found)}")


def _config(content: dict[str, Any]) -> RunConfig:
    nested = {"preprocess": PreprocessConfig, "graph": GraphConfig, "semantics": SemanticsConfig}
    if content.get("batch") is not None:
        nested["batch"] = BatchConfig
    if "training" in content:
        nested["training"] = TrainingConfig
    return RunConfig(**content | {name: kind(**content[name]) for name, kind in nested.items()})
