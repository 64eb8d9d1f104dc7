"""Losses: pure functions from tensors to a scalar, one family a file."""
