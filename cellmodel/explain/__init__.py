"""What sets clusters apart: marker genes, words, themes, enriched gene sets, attribution."""

__all__ = ["evidence", "evidence_tables", "groups", "knowledge_effect", "markers", "words"]
