"""What makes a function a tool: stores by name, Python's words in errors, progress."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar, overload

import genekb
from genekb.core.progress import progress
from genekb.core.python import for_python

P = ParamSpec("P")
Result = TypeVar("Result")
Kb = genekb.Store | str | Path  # an opened store, its name or its folder


def tool(function: Callable[P, Result]) -> Callable[P, Result]:
    """Make a tool of a function: it shows its progress, and speaks as :func:`for_python` says."""

    @wraps(function)
    def shown(*args: P.args, **options: P.kwargs) -> Result:
        progress(function.__name__, 0, 0)
        return function(*args, **options)

    return for_python(shown)


@overload
def open_kb(kb: Kb) -> genekb.Store: ...
@overload
def open_kb(kb: None) -> None: ...
def open_kb(kb: Kb | None) -> genekb.Store | None:
    """Open a store that is given by name or folder; one that is open is itself."""
    if kb is None or isinstance(kb, genekb.Store):
        return kb
    if isinstance(kb, str | Path):
        return genekb.open(kb)
    raise TypeError(f"kb is a store's name, its folder or an opened store, not {type(kb).__name__}")
