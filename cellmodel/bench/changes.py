"""What may differ from a run as it is: one of its settings, cells with less in them, an objective that is left out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np
from jaxtyping import Int

from cellmodel.core import random as seeding
from cellmodel.core.config import (
    GraphConfig,
    Knowledge,
    PreprocessConfig,
    RunConfig,
    SemanticsConfig,
    TrainingConfig,
)
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
_WHOLE: Final[Mapping[str, Any]] = {"knowledge": Knowledge, "low_data": bool}
_ALIASES: Final = {"n_pcs": "n_components"}


class Change(NamedTuple):
    """One thing that differs from the run as it is."""

    setting: str
    value: Value


def _settings() -> Iterator[tuple[str, str, Any]]:
    """Name of each setting of a run that a sweep may change, the part of the settings that holds it, and its type."""
    yield from ((name, "", hint) for name, hint in _WHOLE.items())
    for part, kind in _PARTS.items():
        yield from ((name, part, hint) for name, hint in get_type_hints(kind).items())


_SETTINGS: Final = {name: (part, hint) for name, part, hint in _settings()}
SETTINGS: Final = (*_SETTINGS, *_ALIASES, *UNCHANGED)


def parse_setting(text: str) -> list[Change]:
    """Read ``KEY=a,b,c``.

    Raises ``UnknownName`` if there is no such setting; ``ValueError`` if a value is none of that setting.
    """
    name, is_there, values = (part.strip() for part in text.partition("="))
    if not is_there or not values:
        raise ValueError(f"{text!r} does not read KEY=a,b,c, for example n_top_genes=500,1000,2000")
    if name in UNCHANGED:
        return parse_fractions(name, values)
    if name not in SETTINGS:
        raise UnknownName(f"{name!r} is none of the settings {', '.join(SETTINGS)}{did_you_mean(name, SETTINGS)}")
    name = _ALIASES.get(name, name)
    found = [Change(name, _read(name, value.strip(), _SETTINGS[name][1])) for value in values.split(",")]
    for change in found:
        changed_config(RunConfig(), change)  # each part of the settings checks its ranges
    return found


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


def parse_fractions(name: str, text: str) -> list[Change]:
    """Read the fractions of a corruption, ``0.5,0.25``; ``ValueError`` if one does not lie between 0 and 1."""
    try:
        found = [Change(name, float(part)) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{name} takes fractions parted by commas, such as 0.5,0.25, not {text!r}") from error
    wrong = next((change.value for change in found if not 0 < float(change.value) < 1), None)
    if wrong is not None:
        raise ValueError(f"{name} takes fractions between 0 and 1, not {wrong}")
    return found


def _read(name: str, text: str, hint: Any) -> Value:
    """Read a value of a setting by its type."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] if get_origin(hint) is not Literal else []
    kind = kinds[0] if kinds else hint
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError(
                f"{name} is one of {', '.join(get_args(kind))}, not {text!r}{did_you_mean(text, get_args(kind))}"
            )
        return text
    if kind is bool:
        if text.lower() not in {"true", "false"}:
            raise ValueError(f"{name} is true or false, not {text!r}")
        return text.lower() == "true"
    try:
        return int(text) if kind is int else float(text)
    except ValueError as error:
        raise ValueError(f"{name} is {'a whole number' if kind is int else 'a number'}, not {text!r}") from error


def default_of(setting: str) -> Value | None:
    """Value of a setting in the run as it is; None where each recipe has its own, or it is no setting."""
    if setting in UNCHANGED:
        return UNCHANGED[setting]
    if setting not in _SETTINGS:
        return None
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
    if part:
        inner: Any = getattr(config, part)
        new = {part: replace(inner, **new)}
    return replace(config, **new)


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


def left_out(change: Change | None) -> frozenset[str]:
    """Objectives that a change leaves out."""
    return frozenset({str(change.value)}) if change is not None and change.setting == WITHOUT else frozenset()
