"""Words, characters and word contexts of a store's texts as one encoder, without a neural model."""

__all__ = ["encoder", "fit", "svd"]
