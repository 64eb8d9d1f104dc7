"""Neural networks: modules, losses, graphs, the training loop."""

__all__ = ["graphs", "losses", "modules", "soft_assignment", "train"]
