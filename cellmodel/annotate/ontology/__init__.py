"""The Cell Ontology: its terms, and the terms that labels of cell types mean."""

__all__ = ["labels", "terms"]
