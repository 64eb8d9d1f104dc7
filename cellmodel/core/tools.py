"""Tools of Python: progress, Python's words in errors, and stores, files and names as arguments."""

from collections.abc import Callable, Collection, Sequence
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import ParamSpec, TypeVar, overload

import genekb
from genekb.core.messages import Paths, several
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


def forwards_to(
    target: Callable[..., object], *without: str, only: Collection[str] = ()
) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Show in the signature of a function, in place of its ``**settings``, the arguments of ``target``.

    ``without``: those that it does not take; ``only``: those that it takes, if not all. Arguments of the same name are
    its own.
    """

    def shown(function: Callable[P, Result]) -> Callable[P, Result]:
        own = signature(function)
        named = [one for one in own.parameters.values() if one.kind is not Parameter.VAR_KEYWORD]
        left_out = {*without, *own.parameters}
        given = signature(target).parameters.items()
        more = [one for name, one in given if name not in left_out and (not only or name in only)]
        function.__signature__ = own.replace(parameters=[*named, *more])  # type: ignore[attr-defined]  # read by inspect
        return function

    return shown


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


def path_of(path: str | Path | None) -> Path | None:
    """Give a file, if there is one, as a path."""
    return None if path is None else Path(path)


def paths_of(paths: Paths) -> tuple[Path, ...]:
    """Give one file or several as paths."""
    return tuple(map(Path, several(paths)))


def names_of(names: str | Sequence[str]) -> tuple[str, ...]:
    """Give names that are a list, or text with commas between them."""
    return tuple(part.strip() for part in names.split(",") if part.strip()) if isinstance(names, str) else tuple(names)
