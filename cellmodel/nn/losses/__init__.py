"""Loss terms: pure functions of tensors."""

__all__ = ["alignment", "clustering", "contrastive", "correlation", "reconstruction", "structure"]
