"""What a target of the fuzzer is, and how it may end."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One reader."""

    write: Callable[[Path], None]  # makes a valid input in a folder
    read: Callable[[Path], Any]  # reads all of what lies in a folder
    promise: Callable[[Path], None] | None = None  # brings checksums in line with what was made wrong


def own_errors() -> tuple[type[Exception], ...]:
    """Errors that a reader may end with."""
    from cellmodel.core.errors import CellModelError
    from genekb.core.errors import GeneKBError

    return GeneKBError, CellModelError


def read_each(things: list[Any], read: Callable[[Any], Any]) -> list[Any]:
    """Read several things; an error of ours at one does not keep the others from being read."""
    found, refused = [], None
    for thing in things:
        try:
            found.append(read(thing))
        except own_errors() as error:
            refused = error
    if refused is not None:
        raise refused
    return found
