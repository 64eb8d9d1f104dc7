"""Encoders: text to vectors by a recipe that has an identity."""

from genekb.encoders.base import EncodedTexts, Encoder, EncoderSpec
from genekb.encoders.catalogue import ModelEntry
from genekb.encoders.registry import list_models, load_encoder, shuffle_encoder, split_control
from genekb.encoders.reopening import reopen_encoder

__all__ = [
    "EncodedTexts",
    "Encoder",
    "EncoderSpec",
    "ModelEntry",
    "list_models",
    "load_encoder",
    "reopen_encoder",
    "shuffle_encoder",
    "split_control",
]
