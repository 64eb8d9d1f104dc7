"""Named vectors out of a pickle, without running anything that the pickle asks for.

A pickle is a program: it names functions and has them called. This reader answers every name with an inert stand-in of
its own that only records plain data, and refuses a name that is not on a short closed list before anything happens. It
reads a dict of name → list or NumPy array, as gene embeddings are shared, and nothing else. A crafted file cannot run
code. What it claims about sizes is checked before it is read, but it may still bring the process down.
"""

import pickle
import pickletools
import re
from collections.abc import Mapping, Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from genekb.core.errors import SourceUnusable

MAX_BYTES: Final = 8 << 30  # of a file
_WAY_OUT: Final = "convert it to .npy, Parquet or JSON where you trust it"
_INTEGER_BITS: Final = 64
UnpicklingError = pickle.UnpicklingError  # raised by PyTorch too, where a pickle asks for more than tensors
# What the standard library raises on bytes that are no pickle.
_MALFORMED: Final = (
    UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    MemoryError,
)

_BYTES_OF_LENGTH: Final = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}

Vector = np.ndarray | list[Any]


def read_pickled_vectors(path: Path) -> list[tuple[str, Vector]]:
    """Read a pickled dict of name → vector; nothing in the file is executed.

    Returns names, integers among them as text, and their vectors as the file has them: a numeric array, or a list.
    Raises ``SourceUnusable`` if the file is larger than :data:`MAX_BYTES`, is no pickle, asks for anything but plain
    containers and numeric NumPy arrays (the message names what), or holds anything but a dict of vectors.
    """
    n_bytes = path.stat().st_size
    if n_bytes > MAX_BYTES:
        raise SourceUnusable(f"{path} has {n_bytes:,} bytes, a pickle may have {MAX_BYTES:,}; {_WAY_OUT}")
    with path.open("rb") as stream:
        try:
            with mmap(stream.fileno(), 0, access=ACCESS_READ) as raw:
                _check_sizes(raw)
            content = _InertUnpickler(stream, path=path, n_bytes=n_bytes).load()
        except _NotPlainError as error:
            raise SourceUnusable(f"{path}: {error}; {_WAY_OUT}") from error
        except _MALFORMED as error:
            raise SourceUnusable(f"{path} is no pickle of vectors ({type(error).__name__}); {_WAY_OUT}") from error
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
            raise SourceUnusable(f"{path} repeats vectors to more values than it has bytes; {_WAY_OUT}")
        found.append((str(name), vector))
    return found


_PUTS: Final = {b"q": 1, b"r": 4, b"\x94": 0}  # instructions that note an object under a number, and bytes of it
_LINES: Final = {  # instructions with so many lines of text
    operation.code.encode("latin-1"): 2 if operation.code in "ci" else 1
    for operation in pickletools.opcodes
    if operation.arg is not None and operation.arg.n == pickletools.UP_TO_NEWLINE
}
_LENGTHS: Final = {  # instructions with a length of so many bytes, and content of that length
    operation.code.encode("latin-1"): _BYTES_OF_LENGTH[operation.arg.n]
    for operation in pickletools.opcodes
    if operation.arg is not None and operation.arg.n in _BYTES_OF_LENGTH
}
# A run of instructions of fixed length: nearly the whole of a file of numbers, and passed at the speed of a regex.
_RUN: Final = re.compile(
    b"(?s)(?:"
    + b"|".join(
        re.escape(operation.code.encode("latin-1")) + b".{%d}" % (operation.arg.n if operation.arg else 0)
        for operation in pickletools.opcodes
        if (operation.arg is None or operation.arg.n >= 0) and operation.code not in ".qr\x94"
    )
    + b")*+"
)


def _check_sizes(content: mmap) -> None:
    """Walk over the instructions, obeying none: a claimed length or number must not make the reader take memory."""
    position = n_puts = 0
    while True:
        position = _RUN.match(content, position).end()  # type: ignore[union-attr]  # it matches nothing at the least
        code = content[position : position + 1]
        start = end = position + 1
        number = n_puts
        if code == b".":
            return
        if code in _PUTS:
            end = start + _PUTS[code]
            number = int.from_bytes(content[start:end], "little") if end > start else n_puts
        elif code in _LENGTHS:
            start += _LENGTHS[code]
            end = start + int.from_bytes(content[position + 1 : start], "little")
        elif code in _LINES:
            for _ in range(_LINES[code]):
                end = content.find(b"\n", end) + 1 or len(content) + 1
            number = int(content[start:end]) if code == b"p" else n_puts
        else:
            raise _NotPlainError("it ends too early or holds an unknown instruction")
        if end > len(content) or not 0 <= number <= n_puts:
            raise _NotPlainError("a length or a number in it does not fit the file")
        n_puts += code in _PUTS or code == b"p"
        position = end


class _NotPlainError(Exception):
    """A pickle uses a permitted name for something else than plain data."""


class _InertUnpickler(pickle.Unpickler):
    """Answers every name with a stand-in, and with an error where it has none."""

    def __init__(self, stream: IO[bytes], *, path: Path, n_bytes: int) -> None:
        super().__init__(stream)
        self._path = path
        self._answers = _answers(n_bytes)

    def find_class(self, module_name: str, global_name: str, /) -> "_Answer":
        """Never import: look the name up in the closed list."""
        answer = self._answers.get(f"{module_name}.{global_name}")
        if answer is None:
            asked = ascii(f"{module_name}.{global_name}"[:80])
            raise SourceUnusable(f"{self._path} asks for {asked}, which is refused and was not run; {_WAY_OUT}")
        return answer

    def persistent_load(self, pid: object, /) -> object:
        """Refuse objects that live outside the file."""
        raise SourceUnusable(f"{self._path} refers to objects outside the file; {_WAY_OUT}")


class _Answer:
    """What stands in for a callable: it takes plain data, gives plain data, and cannot be changed by the pickle."""

    __slots__ = ()

    def __call__(self, *args: object) -> object:
        raise _NotPlainError("this name may not be called")

    def __setstate__(self, state: object) -> None:
        raise _NotPlainError("this name has no state")


class _ArrayType(_Answer):
    """Stands for ``numpy.ndarray``, which is only named, never called."""

    __slots__ = ()


class _EmptyContainer(_Answer):
    """Stands for a container's type; items are set by the pickle's own instructions."""

    __slots__ = ("_make",)

    def __init__(self, make: type[dict[Any, Any]] | type[list[Any]]) -> None:
        self._make = make

    def __call__(self, *args: object) -> object:
        if any(not isinstance(arg, _EmptyContainer) for arg in args):  # defaultdict names the type of its values
            raise _NotPlainError("a container is filled item by item")
        return self._make()


class _Latin1(_Answer):
    """Stands for ``_codecs.encode``, by which old protocols write bytes; in all no more bytes than the file has."""

    __slots__ = ("_left",)

    def __init__(self, n_bytes: int) -> None:
        self._left = n_bytes

    def __call__(self, *args: object) -> bytes:
        match args:
            case (str(text), "latin1" | "latin-1") if type(text) is str and len(text) <= self._left:
                self._left -= len(text)
                return text.encode("latin-1")
        raise _NotPlainError("only bytes written as latin1 text are read")


class _Dtype:
    """A numeric dtype by its code, and its byte order once the state is set."""

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

    @property
    def n_bytes(self) -> int:
        """Bytes of one number."""
        return int(self.code[1])

    def to_numpy(self) -> np.dtype[Any]:
        """Give the dtype of NumPy."""
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]  # one of the four, checked


_DTYPE_CODES: Final = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"})


class _DtypeMaker(_Answer):
    """Stands for ``numpy.dtype``; makes numeric ones only, so no array of objects."""

    __slots__ = ()

    def __call__(self, *args: object) -> _Dtype:
        match args:
            case (str(code), *_) if code in _DTYPE_CODES:
                return _Dtype(str(code))
        raise _NotPlainError("only arrays of numbers are read")


class _Array:
    """An array with one axis that is not made yet: its dtype and its bytes."""

    __slots__ = ("_content", "_dtype")

    def __init__(self) -> None:
        self._dtype = _Dtype("f4")
        self._content: bytes | bytearray = b""

    def __setstate__(self, state: object) -> None:
        match state:
            case (_, (int(length),), _Dtype() as dtype, _, bytes() | bytearray() as content) if (
                length * dtype.n_bytes == len(content)
            ):
                self._dtype, self._content = dtype, content
            case _:
                raise _NotPlainError("only arrays of numbers with one axis are read")

    def to_numpy(self) -> np.ndarray:
        """Give the array, a view of the bytes."""
        return np.frombuffer(self._content, dtype=self._dtype.to_numpy())


class _EmptyArray(_Answer):
    """Stands for ``numpy`` 's ``_reconstruct``: an array whose state follows."""

    __slots__ = ()

    def __call__(self, *args: object) -> _Array:
        if not args or not isinstance(args[0], _ArrayType):
            raise _NotPlainError("only plain arrays are read")
        return _Array()


class _ArrayOfBuffer(_Answer):
    """Stands for ``numpy`` 's ``_frombuffer``, by which protocol 5 writes arrays."""

    __slots__ = ()

    def __call__(self, *args: object) -> _Array:
        match args:
            case (content, dtype, shape, _):
                array = _Array()
                array.__setstate__((1, shape, dtype, False, content))
                return array
        raise _NotPlainError("the buffer of an array is damaged")


class _Scalar(_Answer):
    """Stands for ``numpy`` 's ``scalar``: one number."""

    __slots__ = ()

    def __call__(self, *args: object) -> float:
        match args:
            case (_Dtype() as dtype, bytes(content)):
                return float(np.frombuffer(content, dtype=dtype.to_numpy(), count=1)[0])
        raise _NotPlainError("a number is damaged")


def _answers(n_bytes: int) -> dict[str, _Answer]:
    """List the names that a pickle may ask for; NumPy 2 renamed its own."""
    answers: dict[str, _Answer] = {
        "numpy.ndarray": _ArrayType(),
        "numpy.dtype": _DtypeMaker(),
        "_codecs.encode": _Latin1(n_bytes),
        "collections.OrderedDict": _EmptyContainer(dict),
        "collections.defaultdict": _EmptyContainer(dict),
        "builtins.dict": _EmptyContainer(dict),
        "builtins.list": _EmptyContainer(list),
        "__builtin__.dict": _EmptyContainer(dict),  # the name that protocols 0 to 2 write
        "__builtin__.list": _EmptyContainer(list),
    }
    parts: Sequence[tuple[str, _Answer]] = (
        ("multiarray._reconstruct", _EmptyArray()),
        ("multiarray.scalar", _Scalar()),
        ("numeric._frombuffer", _ArrayOfBuffer()),
    )
    return answers | {f"numpy.{core}.{name}": answer for core in ("core", "_core") for name, answer in parts}
