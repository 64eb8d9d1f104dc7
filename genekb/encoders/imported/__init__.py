"""Vectors of genes: read from files of others, or fitted to annotations."""

__all__ = ["files", "safe_pickle", "terms", "vectors"]
