"""What every other room stands on: errors, types, settings, random streams, threads and devices, tools."""

__all__ = ["arrays", "colors", "compute", "config", "errors", "random", "stages", "tools"]
