"""Free-text search: cells and clusters that fit a query, by weights of genes."""

__all__ = ["cells"]
