"""Recipes by name."""

from importlib.util import find_spec
from typing import Final

from cellmodel.device import Compute, find_device
from cellmodel.errors import InputUnusable, NotAvailable
from cellmodel.recipes.base import Recipe
from cellmodel.recipes.baselines import GENEPT_S, GENEPT_W, PCA_KMEANS, PCA_LEIDEN
from cellmodel.recipes.fused import RECIPE as FUSED
from cellmodel.recipes.lowsample import RECIPE as LOWSAMPLE
from cellmodel.recipes.scllm_dsc import RECIPE as SCLLM_DSC
from cellmodel.recipes.scrcl import RECIPE as SCRCL
from cellmodel.recipes.scrcl import RECIPE_TEXT as SCRCL_TEXT
from cellmodel.recipes.scsiameseclu import RECIPE as SCSIAMESECLU

_EVERY: Final = (
    FUSED,
    SCLLM_DSC,
    SCSIAMESECLU,
    SCRCL,
    SCRCL_TEXT,
    LOWSAMPLE,
    PCA_KMEANS,
    PCA_LEIDEN,
    GENEPT_W,
    GENEPT_S,
)
RECIPES: Final = {recipe.name: recipe for recipe in _EVERY}
BASELINES: Final = (PCA_KMEANS.name, PCA_LEIDEN.name, GENEPT_W.name, GENEPT_S.name)


def find_recipe(name: str) -> Recipe:
    """Find a recipe by name.

    Raises
    ------
    InputUnusable
        If there is none of that name.
    """
    if name not in RECIPES:
        raise InputUnusable(f"recipe {name!r} is not one of {', '.join(RECIPES)}")
    return RECIPES[name]


def check_compute(recipe: Recipe, compute: Compute) -> None:
    """Check, before any work, that a recipe can be trained where it was asked for.

    Raises
    ------
    InputUnusable
        If several processes cannot train it.
    NotAvailable
        If the device or Ray is not there.
    """
    if compute.engine != "local" and not recipe.uses_workers:
        able = ", ".join(other.name for other in _EVERY if other.uses_workers)
        raise InputUnusable(
            f"recipe {recipe.name!r} cannot be trained by engine {compute.engine!r}; {able} can, or use --engine local"
        )
    if compute.engine == "ray" and find_spec("ray") is None:
        raise NotAvailable("--engine ray needs Ray; pip install 'genekb-cellmodel[ray]', or use --engine ddp")
    find_device(compute.device)
