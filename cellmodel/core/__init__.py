"""What every other room stands on: errors, types, settings, random streams, arrays and threads, stages, tools."""

__all__ = ["arrays", "colors", "config", "errors", "random", "stages", "tools"]
