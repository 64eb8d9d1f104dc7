"""Gene-level tasks: what the vectors of a store predict of genes, beside controls and published figures."""

__all__ = ["ridge", "scores", "tables"]
