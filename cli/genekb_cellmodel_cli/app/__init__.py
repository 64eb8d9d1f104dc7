"""What both commands share: options, output, errors, interruption."""

__all__ = ["choices", "locks", "options", "output", "running"]
