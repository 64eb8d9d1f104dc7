"""Options that are text on the command line and something else behind it."""

from typing import Final

import typer

from cellmodel.core.config import SEEDS
from genekb_cellmodel_cli.app.option_groups import wrong_usage

RECIPES: Final = "RECIPE"  # the names of all recipes take its place where the help of a command shows them


def complete_recipe(incomplete: str) -> list[str]:
    """Names of the recipes, plug-ins' too, that begin with a text."""
    from cellmodel.recipes.registry import recipe_names

    return [name for name in recipe_names() if name.startswith(incomplete)]


def check_recipe(value: str) -> str:
    """Take the name of a recipe; one that none has is wrong usage."""
    from cellmodel.core.errors import UnknownName
    from cellmodel.recipes.registry import check_name

    with wrong_usage(UnknownName):
        return check_name(value)


_MOST_SEEDS: Final = 10_000


def check_seed(seed: int) -> int:
    """Take a seed that a file can hold."""
    if seed not in SEEDS:
        raise typer.BadParameter(f"a seed is a number from {SEEDS[0]} to {SEEDS[-1]}, not {seed}")
    return seed


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds: numbers or ranges parted by commas, each seed once."""
    seeds: dict[int, None] = {}
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            raise typer.BadParameter(f"--seeds are numbers or ranges parted by commas, such as 0-4, not {text!r}")
        start, end = check_seed(int(first)), check_seed(int(last or first))
        if end < start:
            raise typer.BadParameter(f"--seeds {part.strip()} ends below its start; write {end}-{start}")
        if end - start >= _MOST_SEEDS:
            raise typer.BadParameter(
                f"--seeds {part.strip()} names {end - start + 1:,} seeds, at most {_MOST_SEEDS:,} are run"
            )
        seeds |= dict.fromkeys(range(start, end + 1))
    return tuple(seeds)


def parse_n_clusters(text: str) -> int | None:
    """Read a number of clusters: a number >= 1, or None for auto."""
    if text == "auto":
        return None
    if text.isdigit() and int(text) >= 1:
        return int(text)
    raise typer.BadParameter(f"--n-clusters is a number >= 1 or auto, not {text!r}")
