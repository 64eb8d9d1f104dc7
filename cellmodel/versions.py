"""Which versions made a result."""

from importlib.metadata import PackageNotFoundError, version


def installed_version(name: str) -> str:
    """Version of a distribution; ``source tree`` where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "source tree"
