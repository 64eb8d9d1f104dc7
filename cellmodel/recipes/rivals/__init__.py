"""Recipes of others, written from their papers, so that anyone can run them beside ours; no text is read."""

__all__ = ["contrastive_sc", "desc", "scmae"]
