"""Free-text search: cells and clusters that fit a query, by the weights of genes that the query stands for."""

__all__ = ["cells"]
