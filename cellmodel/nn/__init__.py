"""Modules: parameters and a forward pass, no loss and no data."""
