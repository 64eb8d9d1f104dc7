"""Neural networks: modules, losses, the training loop, several processes."""

__all__ = [
    "alignment",
    "graph_modules",
    "graphs",
    "losses",
    "modules",
    "similarity",
    "soft_assignment",
    "sparse",
    "train",
]
