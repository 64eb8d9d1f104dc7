"""Stores made: planned, encoded, assembled, updated, compared."""

__all__ = ["assemble", "build", "diff", "engine", "plan", "rebuild", "update"]
