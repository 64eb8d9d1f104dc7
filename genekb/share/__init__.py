"""Sharing: push and pull, stores opened where they lie, catalogue, lock file, signatures."""
