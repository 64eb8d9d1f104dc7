"""Stores made: planned, encoded, assembled, updated, compared."""

__all__ = ["assemble", "diff", "engine", "estimate", "import_vectors", "lineage", "plan", "update"]
