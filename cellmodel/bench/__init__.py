"""Scores against true labels, and the protocol that measures recipes; the only room that sees labels."""

__all__ = ["ablation", "datasets", "metrics", "n_shot", "runner"]
