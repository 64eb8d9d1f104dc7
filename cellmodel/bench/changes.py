"""What differs from a run as it is: a setting, cells with less in them, an objective that is left out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np
from jaxtyping import Int

from cellmodel.core import random as seeding
from cellmodel.core.config import GraphConfig, Knowledge, PreprocessConfig, RunConfig, SemanticsConfig, TrainingConfig
from cellmodel.core.errors import InputUnusable, UnknownName
from cellmodel.io.cells import Cells
from cellmodel.io.matrix import ValueKind
from cellmodel.recipes.registry import find_recipe
from genekb.core.messages import did_you_mean

Value = str | int | float | bool
WITHOUT: Final = "without"  # an objective
THIN: Final = "thin"  # fraction of a cell's counts that is kept
DROP_CELLS: Final = "drop_cells"  # fraction of the cells that is left out
DROPOUT: Final = "dropout"  # fraction of the values above zero that becomes zero
UNCHANGED: Final[Mapping[str, float]] = {THIN: 1.0, DROP_CELLS: 0.0, DROPOUT: 0.0}
_PARTS: Final[Mapping[str, Any]] = {
    "preprocess": PreprocessConfig,
    "graph": GraphConfig,
    "semantics": SemanticsConfig,
    "training": TrainingConfig,
}
# of each setting that may change: the part of the settings that holds it, and its type
_SETTINGS: Final[Mapping[str, tuple[str, Any]]] = {"knowledge": ("", Knowledge), "low_data": ("", bool)} | {
    name: (part, hint) for part, kind in _PARTS.items() for name, hint in get_type_hints(kind).items()
}
_ALIASES: Final = {"n_pcs": "n_components"}
SETTINGS: Final = (*_SETTINGS, *_ALIASES, *UNCHANGED)


class Change(NamedTuple):
    """One thing that differs from the run as it is."""

    setting: str
    value: Value


def parse_changes(settings: str | Sequence[str]) -> list[Change]:
    """Read ``KEY=a,b,c``, or several of them, into changes that are made one at a time.

    Raises ``UnknownName`` if there is no such setting; ``ValueError`` if a value is none of that setting.
    """
    found = []
    for text in [settings] if isinstance(settings, str) else settings:
        name, _, values = (part.strip() for part in text.partition("="))
        if not values:
            raise ValueError(f"{text!r} does not read KEY=a,b,c, for example n_top_genes=500,1000,2000")
        if name not in SETTINGS:
            raise UnknownName(f"{name!r} is none of the settings {', '.join(SETTINGS)}{did_you_mean(name, SETTINGS)}")
        name = _ALIASES.get(name, name)
        found += [Change(name, _read(name, value.strip())) for value in values.split(",")]
    for change in found:
        changed_config(RunConfig(), change)  # each part of the settings checks its ranges
    return found


def _read(name: str, text: str) -> Value:
    """Read a value of a setting by its type."""
    hint = float if name in UNCHANGED else _SETTINGS[name][1]
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] if get_origin(hint) is not Literal else []
    kind = kinds[0] if kinds else hint
    if kind is bool or get_origin(kind) is Literal:
        choices = ("true", "false") if kind is bool else get_args(kind)
        named = text.lower() if kind is bool else text
        if named not in choices:
            raise ValueError(f"{name} is one of {', '.join(choices)}, not {text!r}{did_you_mean(text, choices)}")
        return named == "true" if kind is bool else named
    try:
        value: int | float = int(text) if kind is int else float(text)
    except ValueError as error:
        raise ValueError(f"{name} is {'a whole number' if kind is int else 'a number'}, not {text!r}") from error
    if name in UNCHANGED and not 0 < value < 1:
        raise ValueError(f"{name} takes fractions between 0 and 1, not {value}")
    return value


def part_changes(name: str, *, knowledge: Knowledge) -> tuple[list[Change], list[str]]:
    """List the parts of a recipe to replace or leave out, one at a time, and in words what would change nothing.

    Returns each control of the knowledge; each text path alone; each objective left out.
    """
    recipe = find_recipe(name)
    found: list[Change] = []
    skipped: list[str] = []
    if not recipe.uses_text or knowledge == "none":
        skipped.append(f"knowledge and text paths: {recipe.name} reads no text here")
    else:
        if recipe.needs_text:
            skipped.append(f"knowledge none: {recipe.name} cannot do without texts")
        kept = {knowledge, "none"} if recipe.needs_text else {knowledge}
        found += [Change("knowledge", kind) for kind in get_args(Knowledge) if kind not in kept]
        found += [Change("path1_weight", 1.0), Change("path1_weight", 0.0)]
    if len(recipe.objectives) > 1:
        found += [Change(WITHOUT, name) for name in recipe.objectives]
    else:
        skipped.append(f"objectives: {recipe.name} has {len(recipe.objectives)}, two are needed to leave one out")
    return found, skipped


def default_of(setting: str) -> Value | None:
    """Value of a setting in the run as it is; None where each recipe has its own, or it is no setting."""
    if setting not in _SETTINGS:
        return UNCHANGED.get(setting)
    part, config = _SETTINGS[setting][0], RunConfig()
    found: Value | None = getattr(getattr(config, part) if part else config, setting)
    return found


def without_repeats(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Each change once; those to what the run has already are left out."""
    return tuple(change for change in dict.fromkeys(changes) if default_of(change.setting) != change.value)


def changed_config(config: RunConfig, change: Change | None) -> RunConfig:
    """Change a setting of a run."""
    if change is None or change.setting not in _SETTINGS:
        return config
    part = _SETTINGS[change.setting][0]
    new: dict[str, Any] = {change.setting: change.value}
    return replace(config, **({part: replace(getattr(config, part), **new)} if part else new))


def changed_cells(cells: Cells, change: Change | None, *, seed: int) -> tuple[Cells, Int[np.ndarray, " cell"]]:
    """Take counts, values or cells away at random, the same for every recipe; also gives the rows of the cells left.

    Raises ``InputUnusable`` if the values to be thinned are no counts.
    """
    rows = np.arange(cells.shape[0])
    if change is None or change.setting not in UNCHANGED:
        return cells, rows
    fraction, rng = float(change.value), seeding.generator(seed, f"{change.setting} {change.value}")
    if change.setting == DROP_CELLS:
        n_kept = max(round((1 - fraction) * len(rows)), 1)
        rows = np.sort(rng.choice(rows, n_kept, replace=False))
        return replace(cells, matrix=cells.matrix[rows], adata=cells.adata[rows]), rows
    matrix = cells.matrix.copy()
    if change.setting == THIN:
        if cells.kind != ValueKind.COUNTS:
            raise InputUnusable(f"{cells.source} holds {cells.kind} values; `thin` draws from counts, use `dropout`")
        matrix.data = rng.binomial(np.round(matrix.data).astype(np.int64), fraction).astype(matrix.data.dtype)
    else:
        matrix.data[rng.random(matrix.nnz) < fraction] = 0
    matrix.eliminate_zeros()
    return replace(cells, matrix=matrix), rows
