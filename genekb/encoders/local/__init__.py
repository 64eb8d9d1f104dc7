"""Models that run on this machine."""

__all__ = ["encoder", "engine", "files", "models"]
