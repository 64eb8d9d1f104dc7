"""What each part of a recipe contributes to one data set: the same run with the part replaced or left out."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, get_args

import numpy as np

import genekb
from cellmodel.bench.metrics import score
from cellmodel.bench.runner import Progress, header, line
from cellmodel.cluster.algorithms import order_by_size
from cellmodel.core.arrays import Labels
from cellmodel.core.config import Knowledge, RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.explain.attribution import neighbour_agreement
from cellmodel.io.cells import Cells, ReadConfig, obs_columns, read_cells
from cellmodel.recipes.base import Representation
from cellmodel.recipes.heads import find_head
from cellmodel.recipes.registry import find_recipe
from cellmodel.tl._run import prepare

log = logging.getLogger(__name__)
COMPLETE: Final = "complete"


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A run with one thing changed: other settings, or objectives that are left out."""

    name: str
    config: RunConfig
    off: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationRow:
    """Measures of one variant."""

    variant: str
    n_seeds: int
    mean: dict[str, float]  # by measure, over the seeds
    # difference, sd: of the paired differences from the complete run: mean and standard deviation over the seeds
    difference: dict[str, float]
    sd: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ablation:
    """What was run, and the measures of every variant; the first row is the complete run."""

    config: RunConfig
    seeds: tuple[int, ...]
    rows: tuple[AblationRow, ...]
    skipped: tuple[str, ...] = ()


def variants(config: RunConfig) -> tuple[list[Variant], list[str]]:
    """List the variants of a run, and in words those that would change nothing.

    Returns the complete run; each control of the knowledge; each text path alone; each objective left out.
    """
    recipe = find_recipe(config.recipe)
    found, skipped = [Variant(name=COMPLETE, config=config)], []
    if not recipe.uses_text or config.knowledge == "none":
        skipped.append(f"knowledge and text paths: {recipe.name} reads no text here")
    else:
        kinds: tuple[Knowledge, ...] = get_args(Knowledge)
        others = [kind for kind in kinds if kind != config.knowledge and not (kind == "none" and recipe.needs_text)]
        if recipe.needs_text:
            skipped.append(f"knowledge none: {recipe.name} cannot do without texts")
        found += [Variant(name=f"knowledge {kind}", config=replace(config, knowledge=kind)) for kind in others]
        for name, weight in (("path 1 alone", 1.0), ("path 2 alone", 0.0)):
            semantics = replace(config.semantics, path1_weight=weight)
            found.append(Variant(name=name, config=replace(config, semantics=semantics)))
    if len(recipe.objectives) > 1:
        found += [Variant(name=f"without {name}", config=config, off=frozenset({name})) for name in recipe.objectives]
    else:
        skipped.append(f"objectives: {recipe.name} has {len(recipe.objectives)}, two are needed to leave one out")
    return found, skipped


def ablate(
    cells: Cells,
    kb: genekb.Store | None,
    config: RunConfig,
    *,
    seeds: Sequence[int],
    y_true: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Ablation:
    """Run every variant with every seed and measure it; labels enter the measures alone.

    Measures without labels: ``same_clusters``, the ARI with the clusters of the complete run of the same seed, and
    ``neighbours``, the fraction of a cell's neighbors in the embedding that are in its cluster of the complete run. The
    embedding is the joint space where the recipe has one, which text and objectives change.
    With labels: ``accuracy``, ``nmi``, ``ari``, ``macro_f1``, and ``purity``, the fraction of a cell's neighbors that
    are of its type.
    """
    planned, skipped = variants(config)
    measured: dict[str, list[dict[str, float]]] = {variant.name: [] for variant in planned}
    for number, seed in enumerate(seeds):
        complete: Labels | None = None
        for place, variant in enumerate(planned):
            representation, clusters = _run(cells, kb, variant, seed)
            complete = clusters if complete is None else complete
            measured[variant.name].append(_measures(representation, clusters, complete, config, y_true))
            if progress:
                progress("ablation", number * len(planned) + place + 1, len(seeds) * len(planned))
    rows = tuple(_row(name, values, measured[COMPLETE]) for name, values in measured.items())
    return Ablation(config=config, seeds=tuple(seeds), rows=rows, skipped=tuple(skipped))


def _run(cells: Cells, kb: genekb.Store | None, variant: Variant, seed: int) -> tuple[Representation, Labels]:
    config = replace(variant.config, seed=seed)
    recipe = find_recipe(config.recipe)
    prepared = prepare(cells, kb if config.knowledge != "none" else None, config)
    if variant.off and recipe.train is not None:
        representation = recipe.train(prepared.views, seed, off=variant.off)
    else:
        representation = recipe.represent(prepared.views, seed)
    head = find_head(config.head) if config.head else recipe.head
    return representation, order_by_size(head(representation, prepared.views, config.n_clusters, seed).labels)


def _measures(
    representation: Representation,
    clusters: Labels,
    complete: Labels,
    config: RunConfig,
    y_true: Sequence[str] | None,
) -> dict[str, float]:
    z = np.ascontiguousarray(representation.z if representation.z_joint is None else representation.z_joint)
    found = {
        "same_clusters": score(complete.tolist(), clusters.tolist()).ari,
        "neighbours": neighbour_agreement(z, complete, graph=config.graph),
        "n_clusters": float(clusters.max() + 1),
    }
    if y_true is None:
        return found
    labels = np.array(y_true)
    has_label = labels != ""
    if not has_label.any():
        raise InputUnusable("no cell has a label; is --truth the right column?")
    scores = asdict(score(labels[has_label].tolist(), clusters[has_label].tolist()))
    types = np.unique(labels, return_inverse=True)[1]
    kept = {name: scores[name] for name in ("accuracy", "nmi", "ari", "macro_f1")}
    return found | kept | {"purity": neighbour_agreement(z[has_label], types[has_label], graph=config.graph)}


def _row(name: str, values: list[dict[str, float]], complete: list[dict[str, float]]) -> AblationRow:
    import pandas as pd

    table = pd.DataFrame(values)
    differences = table - pd.DataFrame(complete)
    return AblationRow(
        variant=name,
        n_seeds=len(values),
        mean=dict(zip(values[0], table.mean().tolist(), strict=True)),
        difference=dict(zip(values[0], differences.mean().tolist(), strict=True)),
        sd=dict(zip(values[0], differences.std(ddof=0).tolist(), strict=True)),
    )


def ablate_file(
    path: Path,
    kb: genekb.Store | None,
    config: RunConfig,
    *,
    read: ReadConfig,
    seeds: Sequence[int],
    truth: str | None,
    progress: Progress | None = None,
) -> Ablation:
    """Read cells and, if named, their labels, and run :func:`ablate`."""
    cells = read_cells(path, read)
    labels = obs_columns(cells.adata, (truth,), source=cells.source)[truth] if truth else None
    return ablate(cells, kb, config, seeds=seeds, y_true=labels, progress=progress)


def ablation_lines(found: Ablation) -> Iterator[str]:
    """Markdown: one line a variant, mean and paired difference from the complete run."""
    measures = list(found.rows[0].mean)
    yield from header("variant", *measures)
    for row in found.rows:
        differences = (f" ({row.difference[name]:+.3f} ± {row.sd[name]:.3f})" for name in measures)
        shown = differences if row.variant != COMPLETE else [""] * len(measures)
        yield line(row.variant, *(f"{row.mean[name]:.3f}{more}" for name, more in zip(measures, shown, strict=True)))
