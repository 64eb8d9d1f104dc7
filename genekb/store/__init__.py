"""Stores: manifest, writing, reading, verifying."""

__all__ = [
    "card",
    "croissant",
    "files",
    "home",
    "lockfile",
    "manifest",
    "reader",
    "vectors",
    "verify",
    "writer",
]
