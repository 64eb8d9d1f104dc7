"""Which version made a result."""

from importlib.metadata import PackageNotFoundError, version


def installed_version(name: str = "genekb-cellmodel") -> str:
    """Version of a distribution, this one if none is named; ``source tree`` where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "source tree"
