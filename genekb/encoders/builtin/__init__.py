"""Encoders without weights: latent semantic analysis, hashing, controls."""

__all__ = ["controls", "hashing", "lsa"]
