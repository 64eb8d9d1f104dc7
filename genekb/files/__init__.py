"""Files written whole or not at all, limits on what is read, small tables of text."""

__all__ = ["atomic", "endings", "limits", "replace", "tables"]
