"""Stores made: planned, encoded, assembled, updated, compared."""

__all__ = ["assemble", "diff", "encode", "engine", "lineage", "plan", "update"]
