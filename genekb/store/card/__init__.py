"""The card of a store: README, licences, Croissant."""

__all__ = ["croissant", "readme"]
