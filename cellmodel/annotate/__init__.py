"""Names of clusters and cells: candidate types, label transfer, free-text search, matches between data sets."""

__all__ = [
    "candidates",
    "cell_types",
    "classify",
    "label_transfer",
    "levels",
    "marker_lists",
    "marker_overlap",
    "match_clusters",
    "name_cells",
    "ontology",
    "search",
    "shared_genes",
]
