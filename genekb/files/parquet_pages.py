"""Headers of the pages of a Parquet file, read without decompressing a page.

A footer may say of its pages what it likes; what a reader allocates, it takes from the header in front of each page.
The headers are structs of Thrift's compact protocol (`Parquet format`_), of which the few fields needed are read here.

.. _Parquet format: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

_DICTIONARY_PAGE: Final = 2
_HEADERS: Final = {0: (5, 1, 2), _DICTIONARY_PAGE: (7, 1, 2), 3: (8, 1, 4)}  # page type: field of its header, of counts
_MAX_NESTING: Final = 8


class Encoding(IntEnum):
    """How the values of a page are written."""

    PLAIN = 0
    PLAIN_DICTIONARY = 2
    RLE = 3
    RLE_DICTIONARY = 8
    BYTE_STREAM_SPLIT = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What the header of one page says."""

    is_dictionary: bool  # whether it holds the values that other pages point to
    n_bytes: int  # size when decompressed
    n_values: int  # values, missing ones among them
    encoding: int  # number of the encoding, perhaps none of :class:`Encoding`

    @property
    def points_to_dictionary(self) -> bool:
        """Whether its values are numbers of a dictionary's values."""
        pointers = (Encoding.PLAIN_DICTIONARY, Encoding.RLE_DICTIONARY)
        return not self.is_dictionary and self.encoding in pointers


def walk_pages(content: memoryview, *, start: int, n_bytes: int) -> Iterator[Page]:
    """Give the pages of one column chunk.

    ``content``: the file. ``start``, ``n_bytes``: where the chunk lies, as the footer says. Raises ``ValueError`` if
    there is no page header where one must be, or a page lies outside the chunk.
    """
    position, end = start, start + n_bytes
    if not 0 < start <= end <= len(content):
        raise ValueError("a column lies outside the file")
    while position < end:
        reader = _Compact(content, position)
        header = reader.struct()
        try:
            kind, size, stored = (int(header[field]) for field in (1, 2, 3))
            place, counts, encoding = _HEADERS[kind]
            page = Page(
                is_dictionary=kind == _DICTIONARY_PAGE,
                n_bytes=size,
                n_values=int(header[place][counts]),
                encoding=int(header[place][encoding]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError("a page has no header") from error
        if min(size, stored, page.n_values) < 0 or reader.position + stored > end:
            raise ValueError("a page lies outside its column")
        yield page
        position = reader.position + stored


class _Compact:
    """Reader of Thrift's compact protocol; a struct becomes a dict of field number → value."""

    def __init__(self, content: memoryview, position: int) -> None:
        self._content = content
        self.position = position

    def _byte(self) -> int:
        if self.position >= len(self._content):
            raise ValueError("a page header is cut off")
        self.position += 1
        return self._content[self.position - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - the last byte has no high bit
                return value
            shift += 7
            if shift > 63:  # noqa: PLR2004 - bits of the longest number
                raise ValueError("a page header holds a number that is too long")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Read one struct."""
        if depth > _MAX_NESTING:
            raise ValueError("a page header is nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while True:
            head = self._byte()
            if head == 0:
                return fields
            number = number + (head >> 4) if head >> 4 else self._integer()
            fields[number] = self._value(head & 0x0F, depth)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):  # a boolean is in its type
            return kind == 1
        if kind == 3:  # noqa: PLR2004 - kinds of Thrift's compact protocol, here and below
            return self._byte()
        if kind in (4, 5, 6):
            return self._integer()
        if kind == 8:  # noqa: PLR2004
            length = self._varint()
            self.position += length
            return None
        if kind == 12:  # noqa: PLR2004
            return self.struct(depth + 1)
        raise ValueError("a page header holds a value of an unknown kind")
