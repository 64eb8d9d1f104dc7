"""Recipes: one system a file."""
