"""Recipes by name."""

from cellmodel.errors import InputUnusable
from cellmodel.recipes.base import Recipe
from cellmodel.recipes.baselines import PCA_KMEANS, PCA_LEIDEN
from cellmodel.recipes.fused import RECIPE as FUSED

RECIPES = {recipe.name: recipe for recipe in (FUSED, PCA_KMEANS, PCA_LEIDEN)}


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
