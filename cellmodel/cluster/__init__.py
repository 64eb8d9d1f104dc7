"""Clustering algorithms, and the number of clusters."""

__all__ = ["algorithms", "ensemble", "hierarchy", "n_clusters", "soft"]
