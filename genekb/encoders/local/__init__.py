"""Models that run on this machine."""

__all__ = ["cutting", "encoder", "engine", "files", "models", "remote_code", "static"]
