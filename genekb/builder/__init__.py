"""Stores made: planned, encoded, assembled, updated, compared."""

__all__ = ["assemble", "build", "diff", "encode", "engine", "lineage", "plan", "update"]
