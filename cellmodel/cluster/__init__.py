"""Clustering algorithms, and the number of clusters."""

__all__ = ["algorithms", "ensemble", "leiden_coarse", "n_clusters", "soft"]
