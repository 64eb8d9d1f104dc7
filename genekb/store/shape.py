"""JSON that others wrote, compared with the shape that is needed before any of it is used."""

from collections.abc import Iterator
from types import EllipsisType
from typing import Any, Final

Shape = type | list["Shape"] | dict[str | EllipsisType, "Shape"]
_NAMES: Final = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number", bool: "a truth"}


def find_misfit(value: Any, shape: Shape, *, place: str) -> str:
    """Tell the first place at which a value is not of a shape, in words; an empty text if there is none.

    Parameters
    ----------
    value
        What was parsed.
    shape
        A type; a list of one shape, which each item must have; or an object of the keys that are needed, where ``...``
        stands for every key. A whole number must not be negative.
    place
        What to call the value.
    """
    return next(_misfits(value, shape, place), "")


def _misfits(value: Any, shape: Shape, place: str) -> Iterator[str]:
    needed = shape if isinstance(shape, type) else type(shape)
    is_of_type = isinstance(value, needed) and not (needed is int and isinstance(value, bool))
    if not is_of_type:
        found = "null" if value is None else _NAMES.get(type(value), "something else")
        yield f"{place} is {found}, {_NAMES[needed]} is needed"
    elif needed is int and value < 0:
        yield f"{place} is {str(value)[:20]}, a number from 0 on is needed"
    elif isinstance(shape, list):
        for number, item in enumerate(value):
            yield from _misfits(item, shape[0], f"{place}[{number}]")
    elif isinstance(shape, dict):
        for key, inner in shape.items():
            for name in list(value) if isinstance(key, EllipsisType) else [key]:
                if name in value:
                    yield from _misfits(value[name], inner, f"{place}.{name[:40]}")
                else:
                    yield f"{place} has no {name!r}"
