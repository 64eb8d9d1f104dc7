"""Recipes: one published system, or our own, a file."""

__all__ = ["base", "heads", "registry"]
