"""Encoders behind a paid API."""

__all__ = ["client", "encoder"]
