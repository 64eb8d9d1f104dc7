"""Models that run on this machine."""

__all__ = ["cutting", "encoder", "engine", "files", "onnx", "remote_code", "static"]
