"""What sets clusters apart: marker genes, words, themes, enriched gene sets, attribution."""

__all__ = [
    "attribution",
    "enrichment",
    "evidence",
    "groups",
    "marker_tables",
    "markers",
    "p_values",
    "set_names",
    "terms",
    "words",
]
