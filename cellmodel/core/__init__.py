"""What every other room stands on: errors, types, settings, random streams, devices."""

__all__ = ["arrays", "choices", "config", "device", "errors", "random", "stages", "types"]
