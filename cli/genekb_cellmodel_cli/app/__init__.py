"""What both commands share: options, output, errors, interruption."""

__all__ = ["options", "output", "running", "signature"]
