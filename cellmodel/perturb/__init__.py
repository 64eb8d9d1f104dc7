"""Effects of perturbations never seen: predicted from those that were, by the texts of both genes."""

__all__ = ["effects", "model", "predict", "texts"]
