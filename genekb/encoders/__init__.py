"""Encoders: text to vectors by a recipe that has an identity."""

from genekb.encoders.base import EncodedTexts, Encoder, EncoderSpec
from genekb.encoders.registry import load_encoder, models, reopen_encoder

__all__ = [
    "EncodedTexts",
    "Encoder",
    "EncoderSpec",
    "api",
    "base",
    "imported",
    "kinds",
    "load_encoder",
    "models",
    "registry",
    "reopen_encoder",
]
