"""Stores: manifest, writing, reading, verifying."""

__all__ = [
    "card",
    "croissant",
    "home",
    "integrity",
    "lockfile",
    "manifest",
    "notes",
    "reader",
    "vectors",
    "verify",
    "writer",
]
