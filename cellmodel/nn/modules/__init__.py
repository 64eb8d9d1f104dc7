"""Modules of the recipes."""

__all__ = ["aligner", "dual_view", "siamese", "structured_aligner"]
