"""Explanation of clusters: marker genes, words, themes, enriched gene sets, attribution."""

__all__ = [
    "attribution",
    "clusters",
    "enrichment",
    "evidence",
    "groups",
    "marker_tables",
    "markers",
    "samples",
    "terms",
    "words",
]
