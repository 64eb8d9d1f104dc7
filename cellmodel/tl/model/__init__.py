"""A fitted model on disk: saved, used on new cells, pinned, shared."""

__all__ = ["fitted", "predict_files", "share"]
