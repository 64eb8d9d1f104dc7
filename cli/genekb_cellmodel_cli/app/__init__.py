"""What both commands share: options, output, errors, interruption."""

__all__ = ["choices", "locks", "option_groups", "options", "output", "running"]
