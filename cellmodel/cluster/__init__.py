"""Clustering algorithms, the hierarchy above clusters, and how well clusters hold up."""

__all__ = ["algorithms", "soft", "structure"]
