"""Scores against true labels, and the protocol that measures recipes; the only room that sees labels."""

__all__ = ["ablation", "changes", "integration", "jobs", "metrics", "n_shot", "perturbations", "runner", "tables"]
