"""Stores at remote addresses: pushed, pulled, locked, signed."""

__all__ = ["catalog", "lock", "open", "pull", "push", "remotes", "signing", "transfer"]
