"""Effects of perturbations never seen: predicted from those that were, by the texts of both genes."""

__all__ = ["auc", "effects", "neighbors", "predict", "tables", "texts"]
