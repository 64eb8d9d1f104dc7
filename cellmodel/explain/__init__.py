"""What sets clusters apart: marker genes, words, themes, enriched gene sets, attribution."""

__all__ = ["enrichment", "evidence", "groups", "knowledge_effect", "markers", "permutations", "words"]
