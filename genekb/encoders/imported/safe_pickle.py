"""Vectors out of a pickle, without running anything that the pickle asks for.

A pickle is a program: it names functions and has them called. ``find_class`` allows a few names alone, as the
documentation of :mod:`pickle` advises, and even these are functions of ours that build plain data. A crafted file may
still claim sizes that it does not have; they end at the limit of the process (``limit_memory``).
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from genekb.core.errors import SourceUnusable
from genekb.core.resources import raise_resource_fault

UnpicklingError = pickle.UnpicklingError  # raised by PyTorch too, where a pickle asks for more than tensors
_HINT: Final = "convert it to .npy, Parquet or JSON where you trust it"
# What the standard library and NumPy raise on bytes that are no pickle of vectors.
_MALFORMED: Final = (UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
_NUMBERS: Final = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"})


def read_pickled(path: Path) -> dict[Any, Any]:
    """Read a pickled dict of plain containers, numbers, and numeric arrays with one axis.

    Raises ``SourceUnusable`` if the file is no pickle, holds anything else, or asks for it: the message says what.
    """
    try:
        with path.open("rb") as stream:
            content = _PlainUnpickler(stream).load()
    except (MemoryError, *_MALFORMED) as error:
        raise_resource_fault(error)
        reason = str(error).partition("\n")[0][:100] or type(error).__name__
        raise SourceUnusable(f"{path} is no pickle of vectors ({reason}); {_HINT}") from error
    if type(content) is not dict:
        raise SourceUnusable(f"{path} holds a {type(content).__name__.strip('_')}, a dict of name → vector is needed")
    if sum(len(value) for value in content.values() if hasattr(value, "__len__")) > path.stat().st_size:
        raise SourceUnusable(f"{path} repeats vectors to more values than it has bytes; {_HINT}")
    return content


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> "_Allowed":
        """Give what builds the data of an allowed name, which is never imported."""
        name = f"{module_name}.{global_name}".replace("numpy._core.", "numpy.core.")  # as NumPy 2 calls its own
        if name not in _ALLOWED:
            raise UnpicklingError(f"asks for {name[:80]!a}, which is refused and was not run")
        return _ALLOWED[name]

    def persistent_load(self, pid: object, /) -> object:
        """Refuse objects outside the file."""
        raise UnpicklingError("refers to objects outside the file")


class _Allowed:
    """An allowed name, which builds plain data from plain data and cannot be changed by a pickle."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable[..., object]) -> None:
        self._build = build

    def __call__(self, *args: object) -> object:
        """Build; a builder raises one of :data:`_MALFORMED`, or gives None, for what it does not know."""
        built = self._build(*args)
        if built is None:
            raise UnpicklingError("an allowed name is called for something else than numbers or an empty container")
        return built

    def __setstate__(self, state: object) -> None:
        raise UnpicklingError("an allowed name has no state")


class _Dtype:
    """A numeric dtype, in the byte order of its state."""

    __slots__ = ("numpy",)

    def __init__(self, code: str) -> None:
        self.numpy = np.dtype(code)

    def __setstate__(self, state: tuple[int, str]) -> None:
        self.numpy = self.numpy.newbyteorder(state[1])  # type: ignore[arg-type]  # checked by NumPy


class _Array(np.ndarray):
    """An array with one axis, whose state is checked before NumPy reads it."""

    def __setstate__(self, state: Any, /) -> None:
        match state:
            case (_, (int(length),), _Dtype(numpy=dtype), _, bytes() | bytearray() as content) if (
                length * dtype.itemsize == len(content)
            ):
                super().__setstate__((1, (length,), dtype, False, bytes(content)))  # type: ignore[arg-type]  # NumPy's own
            case _:
                raise UnpicklingError("only arrays of numbers with one axis are read")


def _empty(kind: type) -> _Allowed:
    """Container that a pickle fills item by item; a defaultdict names the type of its values."""
    return _Allowed(lambda *args: kind() if all(type(each) is _Allowed for each in args) else None)


_NDARRAY: Final = _Allowed(lambda *_: None)
_ALLOWED: Final = {
    **dict.fromkeys(("collections.OrderedDict", "collections.defaultdict"), _empty(dict)),
    **{f"{module}.{kind.__name__}": _empty(kind) for module in ("builtins", "__builtin__") for kind in (dict, list)},
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": _Allowed(lambda code, *_: _Dtype(code) if code in _NUMBERS else None),
    "numpy.core.multiarray._reconstruct": _Allowed(lambda kind, *_: _Array(0) if kind is _NDARRAY else None),
    "numpy.core.multiarray.scalar": _Allowed(lambda dtype, content: np.frombuffer(content, dtype.numpy).item()),
    "numpy.core.numeric._frombuffer": _Allowed(
        lambda content, dtype, shape, *_: np.frombuffer(content, dtype.numpy) if len(shape) == 1 else None
    ),
    "_codecs.encode": _Allowed(lambda text, encoding: str.encode(text, "latin1") if encoding == "latin1" else None),
}
