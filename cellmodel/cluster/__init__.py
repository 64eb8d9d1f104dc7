"""Clustering algorithms, and the number of clusters."""

__all__ = ["algorithms", "ensemble", "n_clusters", "soft"]
