"""Clustering algorithms, and the number of clusters."""

__all__ = ["algorithms", "domains", "ensemble", "hierarchy", "n_clusters", "soft"]
