"""Grids of cases of which a few run in the quick tests."""

from collections.abc import Iterable
from typing import Any

import pytest


def mostly_slow(values: Iterable[Any], *quick: Any) -> list[Any]:
    """Mark all values slow but those that the quick tests keep."""
    return [value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values]
