"""Encoders of the Hugging Face format, run here."""

__all__ = ["batches", "encoder", "folder", "locate", "onnx", "remote_code", "static"]
