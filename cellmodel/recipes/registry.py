"""Recipes by name: our own, and those of plug-ins. No recipe is imported before it is asked for."""

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Final

from cellmodel.core.config import NamedRecipe
from cellmodel.core.errors import UnknownName
from genekb.core.messages import check_choice
from genekb.core.plugins import find_plugins, load_plugin, unusable

if TYPE_CHECKING:
    from cellmodel.recipes.base import Recipe

GROUP: Final = "cellmodel.recipes"  # entry points of plug-ins: each names a Recipe
BUILT_IN: Final = {
    "fused": "fused:RECIPE",
    "scllm-dsc": "scllm_dsc:RECIPE",
    "scsiameseclu": "scsiameseclu:RECIPE",
    "scrcl": "scrcl:RECIPE",
    "scrcl-text": "scrcl:RECIPE_TEXT",
    "lowsample": "lowsample:RECIPE",
    "pca-kmeans": "baselines:PCA_KMEANS",
    "pca-leiden": "baselines:PCA_LEIDEN",
    "genept-w": "baselines:GENEPT_W",
    "genept-s": "baselines:GENEPT_S",
}
BASELINES: Final = tuple(name for name, place in BUILT_IN.items() if place.startswith("baselines:"))


@cache
def plugins() -> dict[str, EntryPoint]:
    """Find the recipes of other packages by name; none is imported."""
    return find_plugins(GROUP, is_taken=BUILT_IN.__contains__)


def recipe_names() -> tuple[str, ...]:
    """Names of all recipes, our own first; nothing of a recipe is imported."""
    return (*BUILT_IN, *plugins())


def check_name(name: str) -> str:
    """Check that there is a recipe of that name, and give it back."""
    check_choice("recipe", name, recipe_names(), error=UnknownName)
    return name


def find_recipe(recipe: str | NamedRecipe) -> "Recipe":
    """Find a recipe by name; a `Recipe` is given back as it is; ``NotAvailable`` if it is of a broken plug-in."""
    from cellmodel.recipes.base import Recipe

    if isinstance(recipe, Recipe):
        return recipe
    if not isinstance(recipe, str):
        raise TypeError(f"recipe is a name or a Recipe, not {type(recipe).__name__}")
    plugin = plugins().get(check_name(recipe))
    if plugin is not None:
        found = load_plugin(plugin)
        if not isinstance(found, Recipe) or found.name != plugin.name:
            name = f" named {found.name!r}" if isinstance(found, Recipe) else ""
            raise unusable(plugin, f"{plugin.value} is a {type(found).__name__}{name}, a Recipe of that name is needed")
        return found
    module, _, attribute = BUILT_IN[recipe].partition(":")
    return getattr(import_module(f"cellmodel.recipes.{module}"), attribute)


def plugin_version(recipe: str | NamedRecipe) -> dict[str, str]:
    """Distribution of a plug-in's recipe and its version, for records; empty for all others."""
    plugin = plugins().get(recipe) if isinstance(recipe, str) else None
    return {plugin.dist.name: plugin.dist.version} if plugin is not None and plugin.dist is not None else {}
