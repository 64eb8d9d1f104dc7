"""Names of genes resolved, species, coverage, and the text of a gene."""

__all__ = ["coverage", "resolve", "species", "taxa", "texts", "words"]
