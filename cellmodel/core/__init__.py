"""What every other room stands on: errors, types, settings, random streams, devices, tools."""

__all__ = ["arrays", "colors", "config", "device", "errors", "options", "random", "stages", "threads", "tools"]
