"""Names of clusters and cells: candidate types, label transfer, free-text search, matches between data sets."""

__all__ = [
    "candidates",
    "classify",
    "compare",
    "label_transfer",
    "marker_overlap",
    "match_clusters",
    "name_cells",
    "search",
    "shared_genes",
]
