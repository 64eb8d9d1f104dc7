"""Errors, types, settings, random streams, arrays and threads, stages, tools: what other rooms stand on."""

__all__ = ["arrays", "colors", "config", "errors", "random", "stages", "tools"]
