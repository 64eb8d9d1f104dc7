"""Clustering algorithms, the tree above clusters, and how well clusters hold up."""

__all__ = ["algorithms", "structure"]
