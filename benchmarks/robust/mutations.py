"""Valid files made wrong at random, in ways that each format allows: by bytes, lines, fields, JSON values, arrays.

Every function takes a `random.Random` and draws all that it does from it: same state, same bytes.
"""

import gzip
import json
import random
import tomllib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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
N_CHANGES = (1, 1, 1, 2, 3)
UNFIT = (  # what a change by format ends with where an earlier change has made the file something else
    *(OSError, EOFError, ValueError, LookupError, TypeError, RuntimeError, OverflowError, MemoryError, zlib.error),
    pa.ArrowException,
    ElementTree.ParseError,
)
BY_BYTES = 0.25  # share of changes that know nothing of the format


def harm(folder: Path, rng: random.Random) -> None:
    """Change one to three things in the files of a folder, bytes last: no library is to write to a damaged file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    chosen = [(rng.random() < BY_BYTES, rng.choice(files)) for _ in range(rng.choice(N_CHANGES))]
    for by_bytes, path in sorted(chosen):
        if path.is_file() and (by_bytes or not _harm_content(path, rng)) and path.is_file():
            path.write_bytes(harm_bytes(path.read_bytes(), rng))


def _harm_content(path: Path, rng: random.Random) -> bool:
    """Change a file as its format allows; False where an earlier change has made it something else."""
    way = _way_of(path)
    try:
        way(path, rng)
    except UNFIT:
        return False
    return True


def _way_of(path: Path) -> Callable[[Path, random.Random], None]:
    """Tell by its name, or by its first bytes, how a file is changed."""
    if path.name in ZARR_METADATA:
        return harm_zarr
    if path.is_file() and path.read_bytes()[:4] == ZSTD:
        return harm_packed
    return WAYS.get(path.suffix if path.suffix != ".gz" else Path(path.stem).suffix, harm_text)


def harm_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat, insert or overwrite bytes."""
    raw = bytearray(content)
    place = rng.randrange(len(raw) + 1)
    end = min(len(raw), place + rng.choice((1, 2, 4, 8, 64, 4096)))
    way = rng.randrange(6)
    if way == 0:
        for _ in range(rng.randint(1, 8)):
            if raw:
                raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    elif way == 1:
        del raw[place:]
    elif way == 2:
        del raw[place:end]
    elif way == 3:
        raw[place:place] = raw[place:end] * rng.choice((1, 2, 50))
    elif way == 4:
        raw[place:place] = rng.randbytes(rng.choice((1, 3, 16)))
    else:
        raw[place : place + 8] = (rng.choice(ODD_NUMBERS) % 2**64).to_bytes(8, "little")
    return bytes(raw)


def harm_text(path: Path, rng: random.Random) -> None:
    """Change lines or fields of a text, gzipped or not; the separator is the one that the first line has most of."""
    is_packed = path.suffix == ".gz"
    content = gzip.decompress(path.read_bytes()) if is_packed else path.read_bytes()
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    separator = max("\t, ;", key=lines[0].count)
    (_harm_lines if rng.random() < 0.3 else _harm_field)(lines, separator, rng)
    end = rng.choice(("\n",) * 8 + ("\r\n", "\r"))
    content = end.join(lines).encode("utf-8", "surrogateescape")
    path.write_bytes(gzip.compress(content, mtime=0) if is_packed else content)


def _harm_lines(lines: list[str], separator: str, rng: random.Random) -> None:
    place = rng.randrange(len(lines))
    way = rng.randrange(6)
    if way == 0:
        del lines[place]
    elif way == 1:
        lines[place:place] = [lines[place]] * rng.choice((1, 2, 300))
    elif way == 2:
        rng.shuffle(lines)
    elif way == 3:
        lines[place] = rng.choice(ODD_TEXTS)
    elif way == 4:
        lines[place] = lines[place].replace(separator, rng.choice("\t, ;|"))
    else:
        lines[:] = [separator.join(line.split(separator)[:-1]) for line in lines]


def _harm_field(lines: list[str], separator: str, rng: random.Random) -> None:
    place = rng.randrange(len(lines))
    fields = lines[place].split(separator)
    column = rng.randrange(len(fields))
    way = rng.randrange(5)
    if way < 3:
        fields[column] = rng.choice(ODD_TEXTS)
    elif way == 3:
        del fields[column]
    else:
        fields.insert(column, fields[column])
    lines[place] = separator.join(fields)


def harm_npy(path: Path, rng: random.Random) -> None:
    """Write the array with another type or shape, or with values that are no numbers."""
    values = np.load(path, allow_pickle=False)
    kind = rng.choice(("<f2", ">f8", "<i8", "<c8", "<U3", "?", "<M8[s]", "shape", "nan"))
    if kind == "shape":
        values = values.reshape(rng.choice(((-1,), (1, -1), (-1, 1), (1, *values.shape))))
    elif kind == "nan":
        values = values.astype(np.float64)
        values.flat[rng.randrange(values.size)] = rng.choice((np.nan, np.inf, 1e300))
    else:
        values = values.astype(kind)
    np.save(path, values)


def harm_parquet(path: Path, rng: random.Random) -> None:
    """Write a table without a column, with one more, with another type, with gaps or repeats."""
    table = pq.read_table(path)
    place = rng.randrange(table.num_columns)
    name = table.column_names[place]
    way = rng.randrange(7)
    if way == 0:
        table = table.drop_columns([name])
    elif way == 1:
        table = table.rename_columns([rng.choice(ODD_TEXTS[:20]) if one == name else one for one in table.column_names])
    elif way == 2:
        table = table.set_column(place, name, _other_type(table[name], rng))
    elif way == 3:
        keep = pa.array([rng.random() < 0.7 for _ in range(table.num_rows)])
        table = (
            table.filter(keep) if rng.random() < 0.5 else table.set_column(place, name, _with_gaps(table[name], keep))
        )
    elif way == 4:
        table = pa.concat_tables([table, table.slice(0, rng.choice((1, 2, table.num_rows)))])
    elif way == 5:
        table = table.append_column(name, table[name])
    else:
        table = table.take(pa.array(rng.sample(range(table.num_rows), table.num_rows), pa.int64()))
    pq.write_table(table, path, compression=rng.choice(("none", "snappy", "zstd")))


def _with_gaps(column: pa.ChunkedArray, keep: pa.Array) -> pa.Array:
    values = [value if kept else None for value, kept in zip(column.to_pylist(), keep.to_pylist(), strict=True)]
    return pa.array(values, column.type)


def _other_type(column: pa.ChunkedArray, rng: random.Random) -> pa.Array:
    n_rows = len(column)
    columns: tuple[Callable[[], pa.Array], ...] = (
        lambda: pa.array([str(value) for value in column.to_pylist()]),
        lambda: pa.array([rng.choice(ODD_NUMBERS) for _ in range(n_rows)], pa.int64()),
        lambda: pa.array([rng.choice((1.5, float("nan"), 1e300)) for _ in range(n_rows)]),
        lambda: pa.array([[float(value)] * rng.randint(0, 3) for value in range(n_rows)]),
        lambda: pa.array([rng.choice(ODD_TEXTS) for _ in range(n_rows)]),
        lambda: pa.array([b"\xff\xfe"] * n_rows, pa.binary()),
        lambda: pa.nulls(n_rows),
        lambda: pa.array([{"a": 1}] * n_rows),
        lambda: pa.array([str(value) for value in column.to_pylist()]).dictionary_encode(),
    )
    return rng.choice(columns)()


def harm_hdf5(path: Path, rng: random.Random) -> None:
    """Change an attribute, a group or an array of an HDF5 file."""
    with h5py.File(path, "r+") as file:
        places: list[str] = []
        file.visit(places.append)
        found = file[rng.choice(["/", *sorted(places)])]
        attributes = sorted(found.attrs)
        if attributes and rng.random() < 0.4:
            _harm_attribute(found, rng.choice(attributes), rng)
        elif isinstance(found, h5py.Dataset):
            _harm_array(found, rng)
        else:
            _harm_group(found, rng)


def _harm_attribute(found: h5py.HLObject, name: str, rng: random.Random) -> None:
    if rng.random() < 0.2:
        del found.attrs[name]
        return
    odd = (
        *("", "x", "csc_matrix", "csr_matrix", "array", "dataframe", "categorical", "9.9.9", b"\xff", 0, -1, 2**62),
        *(np.array([0, 0]), np.array([-1, 5]), np.array([2**40, 2**20]), np.array([5]), np.array([], np.int64), 1.5),
    )
    found.attrs[name] = rng.choice(odd)


def _harm_group(group: h5py.Group, rng: random.Random) -> None:
    names = sorted(group)
    if not names:
        group.attrs["encoding-type"] = rng.choice(("csr_matrix", "dataframe", "null"))
        return
    name = rng.choice(names)
    way = rng.randrange(4)
    if way == 0:
        del group[name]
    elif way == 1:
        group.move(name, rng.choice(("X", "obs", "odd", "é", "indptr", "matrix")))
    elif way == 2:
        del group[name]
        group.create_group(name)
    else:
        group[f"{name}2"] = h5py.SoftLink("/nowhere") if rng.random() < 0.5 else h5py.ExternalLink("x.h5", "/")


def _harm_array(found: h5py.Dataset, rng: random.Random) -> None:
    parent, name, attributes = found.parent, found.name.rpartition("/")[2], dict(found.attrs)
    values = _other_values(np.asarray(found[()]), rng)
    del parent[name]
    if rng.random() < 0.1:  # declares much and holds nothing
        new = parent.create_dataset(name, shape=(rng.choice((10**6, 10**11, 10**15)),), dtype="f4", chunks=(1024,))
    else:
        new = parent.create_dataset(name, data=values)
    for key, value in attributes.items():
        new.attrs[key] = value


def _other_values(values: np.ndarray, rng: random.Random) -> np.ndarray:
    others: tuple[Callable[[], np.ndarray], ...] = (
        lambda: values[:-1] if values.ndim else np.array([1, 2]),
        lambda: np.concatenate([values, values]) if values.ndim else values,
        lambda: values.reshape(-1, 1),
        lambda: np.array([text.encode() for text in ("", "é", "x")]),
        lambda: np.array(rng.choice(ODD_NUMBERS)),
    )
    way = rng.randrange(len(others) + 2)
    if way < len(others):
        return others[way]()
    if values.dtype.kind in "iuf" and values.size:
        values = values.astype(rng.choice(("<i8", "<f8", "<i4", "<u2", "<f2")))
        odd = (-1, 2**15, 0, 1) if values.dtype.kind in "iu" else (np.nan, np.inf, -1, 0.5)
        values.flat[rng.randrange(values.size)] = rng.choice(odd)
        return values
    return np.zeros(values.shape, dtype=rng.choice(("<i8", "<f4", "?")))


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


WAYS: dict[str, Callable[[Path, random.Random], None]] = {
    ".json": harm_json,
    ".xml": harm_xml,
    ".toml": harm_toml,
    ".lock": harm_toml,
    ".parquet": harm_parquet,
    ".safetensors": harm_safetensors,
    ".npy": harm_npy,
    ".h5": harm_hdf5,
    ".h5ad": harm_hdf5,
    ".h5mu": harm_hdf5,
    ".loom": harm_hdf5,
}
