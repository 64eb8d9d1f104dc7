"""Stores at remote addresses: pushed, pulled, locked, signed."""

__all__ = ["catalog", "lock", "pull", "push", "remotes", "signing", "transfer"]
