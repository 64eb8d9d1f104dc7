"""Stores: manifest, writing, reading, verifying."""
