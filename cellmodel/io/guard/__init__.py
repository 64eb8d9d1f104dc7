"""Checks before a file is read: damage, declared sizes, links that lead out of it."""

__all__ = ["declared_sizes", "external_links", "read_errors"]
