"""The text view of cells: genes aligned with a store, gene vectors weighted by expression, cells as sentences."""

__all__ = ["align", "sentences", "view"]
