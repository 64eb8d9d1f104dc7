"""Encoders: text to vectors by a recipe that has an identity."""

from genekb.encoders.base import EncodedTexts, Encoder, EncoderSpec
from genekb.encoders.registry import list_models, load_encoder
from genekb.encoders.reopen import reopen_encoder

__all__ = [
    "EncodedTexts",
    "Encoder",
    "EncoderSpec",
    "api",
    "base",
    "imported",
    "kinds",
    "list_models",
    "load_encoder",
    "registry",
    "reopen_encoder",
]
