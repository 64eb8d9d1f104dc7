"""Stores at remote addresses: pushed, pulled, locked, signed."""

__all__ = ["addresses", "catalog", "lock", "pull", "push", "remote_store", "remotes", "signing", "transfer"]
