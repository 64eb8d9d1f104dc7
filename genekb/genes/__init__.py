"""Names of genes resolved, species, coverage, and the text of a gene."""

__all__ = ["coverage", "identifiers", "resolve", "species", "taxa", "texts", "words"]
