"""What every other room stands on: addresses without secrets, messages, words, plug-ins, limits, progress, Python."""

__all__ = ["addresses", "errors", "messages", "plugins", "progress", "python", "resources", "words"]
