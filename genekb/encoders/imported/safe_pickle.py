"""Named vectors out of a pickle, without running anything that the pickle asks for.

A pickle is a program: it names functions and has them called. ``find_class`` allows the few names that dicts, lists and
numeric NumPy arrays are pickled with, and gives for each a function of ours that builds plain data; it imports nothing,
and refuses any other name before it is used. A crafted file cannot run code. It may claim sizes that it does not have;
these end at the limit of the process (:func:`genekb.core.resources.limit_memory`).
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from genekb.core.errors import SourceUnusable
from genekb.core.resources import raise_resource_fault

MAX_BYTES: Final = 8 << 30  # of a file
UnpicklingError = pickle.UnpicklingError  # raised by PyTorch too, where a pickle asks for more than tensors
_HINT: Final = "convert it to .npy, Parquet or JSON where you trust it"
# What the standard library raises on bytes that are no pickle.
_MALFORMED: Final = (UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
_NUMBERS: Final = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"})
_LATIN: Final = ("latin1", "latin-1")

Vector = np.ndarray | list[Any]


def read_pickled_vectors(path: Path) -> list[tuple[str, Vector]]:
    """Read a pickled dict of name → vector, a numeric array or a list; integers among the names become text.

    Raises ``SourceUnusable`` if the file is larger than :data:`MAX_BYTES`, is no pickle, asks for anything but plain
    containers and numeric NumPy arrays (the message names what), or holds anything but a dict of vectors.
    """
    n_bytes = path.stat().st_size
    if n_bytes > MAX_BYTES:
        raise SourceUnusable(f"{path} has {n_bytes:,} bytes, a pickle may have {MAX_BYTES:,}; {_HINT}")
    with path.open("rb") as stream:
        try:
            content = _PlainUnpickler(stream).load()
        except _NotPlainError as error:
            raise SourceUnusable(f"{path}{error}; {_HINT}") from error
        except (MemoryError, *_MALFORMED) as error:
            raise_resource_fault(error)
            raise SourceUnusable(f"{path} is no pickle of vectors ({type(error).__name__}); {_HINT}") from error
    if type(content) is not dict:
        raise SourceUnusable(f"{path} holds a {type(content).__name__.strip('_')}, a dict of name → vector is needed")
    found = [(_name(name, path), _vector(name, value, path)) for name, value in content.items()]
    if sum(map(len, (vector for _, vector in found))) > n_bytes:  # one vector under many names
        raise SourceUnusable(f"{path} repeats vectors to more values than it has bytes; {_HINT}")
    return found


def _name(name: object, path: Path) -> str:
    if type(name) is str or (type(name) is int and abs(name) < 1 << 64):
        return str(name)
    raise SourceUnusable(f"{path} has a key of type {type(name).__name__.strip('_')} that is no name of a gene")


def _vector(name: object, value: object, path: Path) -> Vector:
    match value:
        case _Array():
            return value.numbers
        case list() | tuple():
            return list(value)
    raise SourceUnusable(f"{path}: {str(name)[:40]!r} is a {type(value).__name__.strip('_')}, not a vector")


class _NotPlainError(Exception):
    """A pickle asks for another name, or uses an allowed one for something else than plain data."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> "_Allowed":
        """Give what builds the data of an allowed name, which is never imported."""
        name = f"{module_name}.{global_name}".replace("numpy._core.", "numpy.core.")  # as NumPy 2 calls its own
        if name not in _ALLOWED:
            raise _NotPlainError(f" asks for {name[:80]!a}, which is refused and was not run")
        return _ALLOWED[name]

    def persistent_load(self, pid: object, /) -> object:
        """Refuse objects outside the file."""
        raise _NotPlainError(" refers to objects outside the file")


class _Allowed:
    """An allowed name: builds plain data from plain data, or says what is wrong, and cannot be changed by a pickle."""

    __slots__ = ("_build", "_refusal")

    def __init__(self, build: Callable[..., object], refusal: str) -> None:
        self._build, self._refusal = build, refusal

    def __call__(self, *args: object) -> object:
        """Build; a builder gives None for what it does not know."""
        built = self._build(*args)
        if built is None:
            raise _NotPlainError(f": {self._refusal}")
        return built

    def __setstate__(self, state: object) -> None:
        raise _NotPlainError(": this name has no state")


class _Dtype:
    """A numeric dtype, in the byte order of its state."""

    __slots__ = ("numpy",)

    def __init__(self, code: str) -> None:
        self.numpy = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        match state:
            case (_, "<" | ">" | "|" | "=" as order, *_):
                self.numpy = self.numpy.newbyteorder(order)
            case _:
                raise _NotPlainError(": the state of a dtype is damaged")


class _Array:
    """An array with one axis: a view of its bytes, once the state is set."""

    __slots__ = ("numbers",)

    def __init__(self) -> None:
        self.numbers = np.empty(0, dtype=np.float32)

    def __setstate__(self, state: object) -> None:
        match state:
            case (_, (int(length),), _Dtype() as dtype, _, bytes() | bytearray() as content) if (
                length * dtype.numpy.itemsize == len(content)
            ):
                self.numbers = np.frombuffer(content, dtype=dtype.numpy)
            case _:
                raise _NotPlainError(": only arrays of numbers with one axis are read")


def _array_of_buffer(content: object = None, dtype: object = None, shape: object = None, *_: object) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, False, content))
    return array


def _number(dtype: object = None, content: object = None) -> float | None:
    match dtype, content:
        case _Dtype(), bytes(content) if len(content) == dtype.numpy.itemsize:
            return float(np.frombuffer(content, dtype=dtype.numpy)[0])
    return None


def _empty(kind: type) -> _Allowed:
    """Container that a pickle fills item by item; a defaultdict names the type of its values."""
    return _Allowed(
        lambda *args: kind() if all(isinstance(each, _Allowed) for each in args) else None,
        "a container is filled item by item",
    )


_NDARRAY: Final = _Allowed(lambda *_: None, "this name may not be called")
_ALLOWED: Final = {
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": _Allowed(
        lambda code="", *_: _Dtype(code) if code in _NUMBERS else None, "only arrays of numbers are read"
    ),
    "numpy.core.multiarray._reconstruct": _Allowed(
        lambda kind=None, *_: _Array() if kind is _NDARRAY else None, "only plain arrays are read"
    ),
    "numpy.core.multiarray.scalar": _Allowed(_number, "a number is damaged"),
    "numpy.core.numeric._frombuffer": _Allowed(_array_of_buffer, "the buffer of an array is damaged"),
    "_codecs.encode": _Allowed(
        lambda text, encoding: text.encode(encoding) if type(text) is str and encoding in _LATIN else None,
        "only bytes written as latin1 text are read",
    ),
    "collections.OrderedDict": _empty(dict),
    "collections.defaultdict": _empty(dict),
    **{f"{module}.{kind.__name__}": _empty(kind) for module in ("builtins", "__builtin__") for kind in (dict, list)},
}
