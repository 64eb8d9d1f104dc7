"""What every other room stands on: addresses without secrets, messages, words, plug-ins, limits of the machine."""

__all__ = ["addresses", "errors", "messages", "plugins", "resources", "words"]
