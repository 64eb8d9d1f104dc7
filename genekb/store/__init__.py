"""Stores: manifest, writing, reading, verifying."""

__all__ = [
    "card",
    "files",
    "home",
    "lockfile",
    "manifest",
    "reader",
    "search",
    "vectors",
    "verify",
    "writer",
]
