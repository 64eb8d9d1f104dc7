"""Files written whole or not at all, and limits on what is read."""

__all__ = ["atomic", "limits", "replace"]
