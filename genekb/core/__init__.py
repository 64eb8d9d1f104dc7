"""What every other room stands on: addresses without secrets, messages, words, plug-ins, limits, Python callers."""

__all__ = ["addresses", "errors", "messages", "plugins", "python", "resources", "words"]
