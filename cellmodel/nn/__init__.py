"""Neural networks: modules, losses, the training loop, several processes."""

__all__ = ["distributed", "losses", "modules", "soft_assignment", "train"]
