"""Documents made wrong at random: JSON, TOML, XML, and what describes itself in JSON (safetensors, zarr).

Every function takes a `random.Random` and draws all that it does from it: same state, same bytes.
"""

import json
import random
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tomli_w
from numcodecs import Zstd

ODD_TEXTS = (
    *("", " ", "-", "0", "-1", "1.5", "NaN", "inf", "1e999", "true", "null", "[1, 2]", "{}", "2-Sep", "../../x", "a/b"),
    *("9" * 25, "x" * 70_000, "\0", "\ufeff", "\u202egene", "ﬁ", "é", "\u2028", "'", '"', "|", "\\", ",", "#", "\r"),
)
ODD_NUMBERS = (0, 1, -1, 7, 127, 255, 65_535, 2**31 - 1, -(2**31), 2**32, 2**63 - 1, -(2**63))
ODD_VALUES = (
    *(None, True, -1, 0, 2**31, 2**63, 10**30, 1.5, float("nan"), float("inf"), "", "x" * 1000, "../x", "\ud800"),
    *([], {}, [[]], [None], {"": None}, "2", [1, "a"]),
)
ZARR_METADATA = {".zarray", ".zattrs", ".zgroup", "zarr.json"}
ZARR_ODD: dict[str, tuple[Any, ...]] = {
    "shape": ([0], [1], [13], [2**31], [10**9, 10**9], [10**15], [-1], [12, 8, 1], []),
    "chunks": ([0], [1], [1, 1], [2**31], [10**15], [10**9, 10**9], [-1], []),
    "chunk_shape": ([0], [1], [1, 1], [2**31], [10**15], [10**9, 10**9], [-1], []),
    "dtype": ("|O", "<M8[ns]", "<U9999999", "|V8", "<f2", ">i8", "|b1", "<c16", "|S0", [["a", "<i4"]]),
    "data_type": ("bool", "string", "int8", "complex128", "float16", "r24", {"name": "numpy.datetime64"}),
    "fill_value": (1, -1, "NaN", "Infinity", [1, 2], 2**64),
    "order": ("F", "A"),
    "compressor": (None, *({"id": name} for name in ("gzip", "blosc", "lz4", "lzma", "pickle", "odd"))),
    "filters": ([{"id": "zlib"}], [{"id": "pickle"}], [{"id": "delta", "dtype": "<f4"}], [{"id": "vlen-utf8"}]),
    "codecs": ([], [{"name": "bytes"}], [{"name": "gzip"}], [{"name": "vlen-utf8"}, {"name": "crc32c"}]),
    "zarr_format": (1, 2, 3, 4),
    "node_type": ("group", "array"),
    "encoding-type": ("csr_matrix", "csc_matrix", "dataframe", "categorical", "array", "string-array", "null", "x"),
    "column-order": (["a"], [], ["depth", "depth"], "depth"),
}
ZSTD = b"\x28\xb5\x2f\xfd"


def harm_json(path: Path, rng: random.Random) -> None:
    """Change one value of a JSON document, remove it, repeat it, or give it another name."""
    content = json.loads(path.read_text(encoding="utf-8"))
    parents = list(containers(content))
    if not parents or rng.random() < 0.03:
        path.write_text(json.dumps(rng.choice(ODD_VALUES)), encoding="utf-8")
        return
    harm_container(rng.choice(parents), rng)
    path.write_text(json.dumps(content), encoding="utf-8")


def containers(value: Any) -> list[Any]:
    """Objects and lists that hold something."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return ([value] if inner else []) + [found for one in inner for found in containers(one)]


def harm_container(container: Any, rng: random.Random) -> None:
    keys = list(container) if isinstance(container, dict) else range(len(container))
    key = rng.choice(keys)
    way = rng.randrange(5)
    if way < 3:
        container[key] = rng.choice(ODD_VALUES)
    elif way == 3:
        del container[key]
    elif isinstance(container, dict):
        container[rng.choice(ODD_TEXTS[:20])] = container[key]
    else:
        container.append(container[key])


def harm_zarr(path: Path, rng: random.Random) -> None:
    """Change what a zarr store says of an array or a group, or change the file itself."""
    if rng.random() < 0.1:
        _harm_place(path, rng)
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    places = [(one, key) for one in containers(content) if isinstance(one, dict) for key in one if key in ZARR_ODD]
    if not places or rng.random() < 0.4:
        harm_json(path, rng)
        return
    container, key = rng.choice(places)
    container[key] = rng.choice(ZARR_ODD[key])
    path.write_text(json.dumps(content), encoding="utf-8")


def harm_packed(path: Path, rng: random.Random) -> None:
    """Change the values in a chunk, or how many there are, up to far more than were declared."""
    way = rng.randrange(7)
    if way == 0:
        _harm_place(path, rng)
        return
    codec = Zstd()
    values = bytearray(codec.decode(path.read_bytes()))
    if way == 1:
        del values[len(values) // 2 :]
    elif way == 2:
        values *= 2
    elif way == 3:
        values = bytearray(rng.choice((0, 10**6, 10**8)))
    else:
        place = rng.randrange(max(1, len(values) // 4)) * 4
        values[place : place + 4] = (rng.choice(ODD_NUMBERS) % 2**32).to_bytes(4, "little")
    path.write_bytes(codec.encode(bytes(values)))


def _harm_place(path: Path, rng: random.Random) -> None:
    """Remove a file, put a folder or a link in its place, or let it change places with another."""
    others = sorted(other for other in path.parent.parent.rglob("*") if other.is_file() and other != path)
    content = path.read_bytes()
    path.unlink()
    way = rng.randrange(4)
    if way == 1:
        path.mkdir()
    elif way == 2 and others:
        path.symlink_to(rng.choice(others))
    elif way == 3 and others:
        other = rng.choice(others)
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)


def harm_xml(path: Path, rng: random.Random) -> None:
    """Change, remove, repeat or nest an element of an XML document."""
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    parents = {child: parent for parent in root.iter() for child in parent}
    found = rng.choice(list(parents))
    way = rng.randrange(7)
    if way == 0:
        parents[found].remove(found)
    elif way == 1:
        parents[found].extend([found] * rng.choice((1, 2, 300)))
    elif way == 2:
        found.tag = rng.choice([other.tag for other in parents])
    elif way == 3:
        found.set(rng.choice(("uid", "value", "x")), rng.choice(ODD_TEXTS))
    elif way == 4:
        rng.choice(list(parents)).append(ElementTree.Element(found.tag, found.attrib))
    else:
        found.text = rng.choice((*ODD_TEXTS, *map(str, ODD_NUMBERS)))
    text = ElementTree.tostring(root, encoding="unicode")
    if rng.random() < 0.05:
        text = "<a>" * 5000 + text + "</a>" * 5000
    elif rng.random() < 0.05:
        text = f'<!DOCTYPE x [<!ENTITY a "{"b" * 1000}">]>{text}'
    path.write_text(text, encoding="utf-8", errors="surrogateescape")


def harm_toml(path: Path, rng: random.Random) -> None:
    """Change one value of a TOML document, remove it, repeat it, or give it another name."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    harm_container(rng.choice(containers(content)), rng)
    path.write_text(tomli_w.dumps(content), encoding="utf-8")


def harm_safetensors(path: Path, rng: random.Random) -> None:
    """Change the header of a safetensors file, and keep its length right."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    content = json.loads(raw[8 : 8 + size])
    harm_container(rng.choice(containers(content)), rng)
    header = json.dumps(content).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + size :])
