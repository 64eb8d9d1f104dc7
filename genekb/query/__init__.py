"""A store in use: search, comparison of encoders, export, removal of old versions."""

__all__ = ["compare", "export", "gc", "knowledge", "programs", "search", "tasks"]
