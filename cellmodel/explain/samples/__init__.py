"""Samples as replicates: pseudobulk, differential expression and composition, tested between samples and not cells."""

__all__ = ["composition", "design", "differential", "markers", "pseudobulk"]
