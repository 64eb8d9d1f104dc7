"""What each part of a recipe contributes to one data set: the same run with the part replaced or left out."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, get_args

from cellmodel.bench.changes import WITHOUT, Change
from cellmodel.bench.jobs import BenchConfig, DataSet, parse_variant, run_job
from cellmodel.bench.runner import plan_jobs
from cellmodel.bench.tables import COMPLETE, PairedRow, header, line, paired_rows
from cellmodel.core.config import Knowledge
from cellmodel.recipes.registry import find_recipe
from genekb.core.progress import progress

SHOWN: Final = ("same_clusters", "neighbours", "n_clusters", "accuracy", "nmi", "ari", "macro_f1", "purity")
_PATHS: Final = {"1.0": "path 1 alone", "0.0": "path 2 alone"}  # by the share of the first


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

    recipe: str
    n_clusters: str
    seeds: tuple[int, ...]
    rows: tuple[AblationRow, ...]
    skipped: tuple[str, ...] = ()


def ablation_changes(name: str, *, knowledge: Knowledge) -> tuple[list[Change], list[str]]:
    """List what is changed in a recipe, one at a time, and in words what would change nothing.

    Returns each control of the knowledge; each text path alone; each objective left out.
    """
    recipe = find_recipe(name)
    found: list[Change] = []
    skipped: list[str] = []
    if not recipe.uses_text or knowledge == "none":
        skipped.append(f"knowledge and text paths: {recipe.name} reads no text here")
    else:
        kinds: tuple[Knowledge, ...] = get_args(Knowledge)
        others = [kind for kind in kinds if kind != knowledge and not (kind == "none" and recipe.needs_text)]
        if recipe.needs_text:
            skipped.append(f"knowledge none: {recipe.name} cannot do without texts")
        found += [Change("knowledge", kind) for kind in others]
        found += [Change("path1_weight", 1.0), Change("path1_weight", 0.0)]
    if len(recipe.objectives) > 1:
        found += [Change(WITHOUT, name) for name in recipe.objectives]
    else:
        skipped.append(f"objectives: {recipe.name} has {len(recipe.objectives)}, two are needed to leave one out")
    return found, skipped


def ablate(data: DataSet, config: BenchConfig) -> Ablation:
    """Run a recipe as it is and with each change, and measure all as :func:`cellmodel.bench.jobs.run_job` does."""
    name, knowledge, _ = parse_variant(config.variants[0])
    changes, skipped = ablation_changes(name, knowledge=knowledge if config.stores else "none")
    first, *others = plan_jobs([data], replace(config, changes=tuple(changes)))
    complete = run_job(first)
    rows = complete.rows
    for number, job in enumerate(others):
        rows += run_job(job, complete=complete.clusters).rows
        progress("ablation", number + 1, len(others))
    return Ablation(
        recipe=name,
        n_clusters=config.n_clusters[0],
        seeds=config.seeds,
        rows=tuple(
            AblationRow(
                variant=_variant(row), n_seeds=len(config.seeds), mean=row.mean, difference=row.difference, sd=row.sd
            )
            for row in paired_rows(rows)
        ),
        skipped=tuple(skipped),
    )


def _variant(row: PairedRow) -> str:
    """Name a change in words."""
    return _PATHS.get(row.value) or f"{row.setting} {row.value}".strip() or COMPLETE


def ablation_lines(found: Ablation) -> Iterator[str]:
    """Markdown: one line a variant, mean and paired difference from the complete run."""
    measures = [name for name in SHOWN if name in found.rows[0].mean]
    yield from header("variant", *measures)
    for row in found.rows:
        differences = (f" ({row.difference[name]:+.3f} ± {row.sd[name]:.3f})" for name in measures)
        shown = differences if row.variant != COMPLETE else [""] * len(measures)
        yield line(row.variant, *(f"{row.mean[name]:.3f}{more}" for name, more in zip(measures, shown, strict=True)))
