"""Named vectors out of a pickle, without running anything that the pickle asks for.

A pickle is a program: it names functions and has them called. ``find_class`` allows the few names that dicts, lists and
numeric NumPy arrays are pickled with, and gives for each a function of ours that builds plain data; it imports nothing,
and refuses any other name before it is used. A crafted file cannot run code. It may claim sizes that it does not have;
these end at the limit of the process (:func:`genekb.core.resources.limit_memory`).
"""

import pickle
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from genekb.core.errors import SourceUnusable
from genekb.core.resources import raise_resource_fault

MAX_BYTES: Final = 8 << 30  # of a file
_HINT: Final = "convert it to .npy, Parquet or JSON where you trust it"
_INTEGER_BITS: Final = 64
UnpicklingError = pickle.UnpicklingError  # raised by PyTorch too, where a pickle asks for more than tensors
# What the standard library raises on bytes that are no pickle.
_MALFORMED: Final = (UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
_DTYPE_CODES: Final = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"})

Vector = np.ndarray | list[Any]


def read_pickled_vectors(path: Path) -> list[tuple[str, Vector]]:
    """Read a pickled dict of name → vector; nothing in the file is executed.

    Returns names, integers among them as text, and their vectors as the file has them: a numeric array, or a list.
    Raises ``SourceUnusable`` if the file is larger than :data:`MAX_BYTES`, is no pickle, asks for anything but plain
    containers and numeric NumPy arrays (the message names what), or holds anything but a dict of vectors.
    """
    n_bytes = path.stat().st_size
    if n_bytes > MAX_BYTES:
        raise SourceUnusable(f"{path} has {n_bytes:,} bytes, a pickle may have {MAX_BYTES:,}; {_HINT}")
    with path.open("rb") as stream:
        try:
            content = _PlainUnpickler(stream, path=path).load()
        except _NotPlainError as error:
            raise SourceUnusable(f"{path}: {error}; {_HINT}") from error
        except (MemoryError, *_MALFORMED) as error:
            raise_resource_fault(error)
            raise SourceUnusable(f"{path} is no pickle of vectors ({type(error).__name__}); {_HINT}") from error
    if type(content) is not dict:
        raise SourceUnusable(f"{path} holds a {type(content).__name__.strip('_')}, a dict of name → vector is needed")
    return _named_vectors(content, path=path, n_bytes=n_bytes)


def _named_vectors(content: Mapping[object, object], *, path: Path, n_bytes: int) -> list[tuple[str, Vector]]:
    """Check what was read; one vector under many names may not amount to more than the file could hold."""
    found: list[tuple[str, Vector]] = []
    n_values = 0
    for name, value in content.items():
        if type(name) is not str and not (type(name) is int and name.bit_length() < _INTEGER_BITS):
            raise SourceUnusable(f"{path} has a key of type {type(name).__name__.strip('_')} that is no name of a gene")
        vector = value.to_numpy() if isinstance(value, _Array) else value
        if isinstance(vector, tuple):
            vector = list(vector)
        if not isinstance(vector, np.ndarray | list):
            raise SourceUnusable(f"{path}: {str(name)[:40]!r} is a {type(value).__name__.strip('_')}, not a vector")
        n_values += vector.size if isinstance(vector, np.ndarray) else len(vector)
        if n_values > n_bytes:
            raise SourceUnusable(f"{path} repeats vectors to more values than it has bytes; {_HINT}")
        found.append((str(name), vector))
    return found


class _NotPlainError(Exception):
    """A pickle uses an allowed name for something else than plain data."""


class _PlainUnpickler(pickle.Unpickler):
    """Looks every name up in :data:`_ALLOWED`, and never imports one."""

    def __init__(self, stream: IO[bytes], *, path: Path) -> None:
        super().__init__(stream)
        self._path = path

    def find_class(self, module_name: str, global_name: str, /) -> "_Allowed":
        """Give what builds the data of an allowed name."""
        allowed = _ALLOWED.get(f"{module_name}.{global_name}")
        if allowed is None:
            asked = ascii(f"{module_name}.{global_name}"[:80])
            raise SourceUnusable(f"{self._path} asks for {asked}, which is refused and was not run; {_HINT}")
        return allowed

    def persistent_load(self, pid: object, /) -> object:
        """Refuse objects outside the file."""
        raise SourceUnusable(f"{self._path} refers to objects outside the file; {_HINT}")


class _Allowed:
    """An allowed name: builds plain data from plain data, and cannot be changed by the pickle."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable[..., object]) -> None:
        self._build = build

    def __call__(self, *args: object) -> object:
        return self._build(*args)

    def __setstate__(self, state: object) -> None:
        raise _NotPlainError("this name has no state")


class _Dtype:
    """A numeric dtype: its code, and its byte order once the state is set."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "="

    def __setstate__(self, state: object) -> None:
        match state:
            case (_, "<" | ">" | "|" | "=" as order, *_):
                self.order = order
            case _:
                raise _NotPlainError("the state of a dtype is damaged")

    def read(self, content: bytes | bytearray) -> np.ndarray:
        """Give numbers as a view of their bytes."""
        dtype = np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]  # one of the four, checked
        return np.frombuffer(content, dtype=dtype)


class _Array:
    """An array with one axis: its dtype and its bytes, once the state is set."""

    __slots__ = ("_content", "_dtype")

    def __init__(self) -> None:
        self._dtype = _Dtype("f4")
        self._content: bytes | bytearray = b""

    def __setstate__(self, state: object) -> None:
        match state:
            case (_, (int(length),), _Dtype() as dtype, _, bytes() | bytearray() as content) if length * int(
                dtype.code[1]
            ) == len(content):
                self._dtype, self._content = dtype, content
            case _:
                raise _NotPlainError("only arrays of numbers with one axis are read")

    def to_numpy(self) -> np.ndarray:
        """Give the array, a view of the bytes."""
        return self._dtype.read(self._content)


def _build_dtype(*args: object) -> _Dtype:
    """``numpy.dtype`` of numbers, so no array of objects."""
    match args:
        case (str(code), *_) if code in _DTYPE_CODES:
            return _Dtype(str(code))
    raise _NotPlainError("only arrays of numbers are read")


def _build_array(*args: object) -> _Array:
    """NumPy's ``_reconstruct``: an array whose state follows."""
    if not args or args[0] is not _NDARRAY:
        raise _NotPlainError("only plain arrays are read")
    return _Array()


def _build_array_of_buffer(*args: object) -> _Array:
    """NumPy's ``_frombuffer``, by which protocol 5 writes arrays."""
    match args:
        case (content, dtype, shape, _):
            array = _Array()
            array.__setstate__((1, shape, dtype, False, content))
            return array
    raise _NotPlainError("the buffer of an array is damaged")


def _build_scalar(*args: object) -> float:
    """NumPy's ``scalar``: one number."""
    match args:
        case (_Dtype() as dtype, bytes(content)) if len(content) == int(dtype.code[1]):
            return float(dtype.read(content)[0])
    raise _NotPlainError("a number is damaged")


def _build_bytes(*args: object) -> bytes:
    """``_codecs.encode``, by which old protocols write bytes."""
    match args:
        case (str(text), "latin1" | "latin-1"):
            return text.encode("latin-1")
    raise _NotPlainError("only bytes written as latin1 text are read")


def _build_container(kind: type[dict[Any, Any]] | type[list[Any]], *args: object) -> object:
    """Make an empty container, which the pickle fills item by item; a defaultdict names the type of its values."""
    if any(not isinstance(arg, _Allowed) for arg in args):
        raise _NotPlainError("a container is filled item by item")
    return kind()


def _refuse_call(*_: object) -> object:
    raise _NotPlainError("this name may not be called")


_NDARRAY: Final = _Allowed(_refuse_call)
_DICT: Final = _Allowed(partial(_build_container, dict))
_LIST: Final = _Allowed(partial(_build_container, list))
_ALLOWED: Final[Mapping[str, _Allowed]] = {
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": _Allowed(_build_dtype),
    "_codecs.encode": _Allowed(_build_bytes),
    "collections.OrderedDict": _DICT,
    "collections.defaultdict": _DICT,
    "builtins.dict": _DICT,
    "builtins.list": _LIST,
    "__builtin__.dict": _DICT,  # the name that protocols 0 to 2 write
    "__builtin__.list": _LIST,
    **{
        f"numpy.{core}.{name}": _Allowed(build)  # NumPy 2 renamed its own
        for core in ("core", "_core")
        for name, build in (
            ("multiarray._reconstruct", _build_array),
            ("multiarray.scalar", _build_scalar),
            ("numeric._frombuffer", _build_array_of_buffer),
        )
    },
}
