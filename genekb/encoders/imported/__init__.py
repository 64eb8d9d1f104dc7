"""Vectors that others made, read from their files."""

__all__ = ["files", "safe_pickle", "vectors"]
