"""Recipes of others with the settings that were published, so that anyone can run them beside ours; no text is read."""

__all__ = ["contrastive_sc", "desc", "scmae"]
