"""Neural networks: modules, losses, graphs, the training loop."""

__all__ = [
    "graph_modules",
    "graphs",
    "losses",
    "modules",
    "similarity",
    "soft_assignment",
    "sparse",
    "train",
]
