"""Models that run on this machine."""

__all__ = ["batches", "encoder", "files", "onnx", "remote_code", "static"]
