"""Runs of tasks on cells: the pipeline, in memory, from file to file, of several files, and its slots."""

__all__ = ["files", "pipeline", "slots", "task", "within"]
