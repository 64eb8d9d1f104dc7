"""Models that run on this machine."""

__all__ = ["cutting", "encoder", "engine", "files", "remote_code", "static"]
