"""Vectors of genes from files made elsewhere: what is read, what is left out, and what no pickle may do."""

import copyreg
import importlib
import json
import os
import pickle
import re
import resource
from collections import OrderedDict, defaultdict
from contextlib import suppress
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from genekb.core.errors import MemoryLimitReached, SourceUnusable
from genekb.core.resources import limit_memory
from genekb.encoders.imported.vectors import foreign_spec, read_foreign

NAMES = ["INS", "GCG", "LYZ"]
MATRIX = np.array([[1.5, -2.0], [0.25, 3.0], [4.0, 0.125]], dtype=np.float32)
ROWS = {name: row.tolist() for name, row in zip(NAMES, MATRIX, strict=True)}


def write(path, content):
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
    return path


def write_word2vec(folder):
    lines = [f"{name} {' '.join(map(str, row))}" for name, row in ROWS.items()]
    return {"path": write(folder / "x.emb", "\n".join(["3 2", *lines, ""]))}


def write_npy(folder):
    np.save(folder / "x.npy", MATRIX.astype(">f8"))
    return {"path": folder / "x.npy", "names": write(folder / "names.txt", "INS\r\nGCG\r\nLYZ\r\n")}


def write_safetensors(folder):
    save_file({"vectors": MATRIX, "other": MATRIX * 2}, folder / "x.safetensors")
    names = write(folder / "names.json", json.dumps({"LYZ": 2, "INS": 0, "GCG": 1}))
    return {"path": folder / "x.safetensors", "names": names, "column": "vectors"}


def write_npz(folder):
    np.savez(folder / "x.npz", vectors=MATRIX, symbols=np.array(NAMES), made_by=np.array("somebody"))
    return {"path": folder / "x.npz"}


def write_parquet(folder, **columns):
    pq.write_table(pa.table({"symbol": NAMES, "tax_id": [9606] * 3} | columns), folder / "x.parquet")
    return {"path": folder / "x.parquet"}


def write_csv(folder):
    return {"path": write(folder / "x.csv", "symbol,a,b\nINS,1.5,-2\nGCG,0.25,3\nLYZ,4,0.125\n")}


def write_tsv(folder):
    text = "my name\ta\tb\nINS\t1.5\t-2\nGCG\t0.25\t3\nLYZ\t4\t0.125\n"
    return {"path": write(folder / "x.tsv", text), "column": "my name"}


def write_json(folder):
    return {"path": write(folder / "x.json", json.dumps(ROWS))}


WRITERS = {
    "word2vec": write_word2vec,
    "npy": write_npy,
    "npz": write_npz,
    "safetensors": write_safetensors,
    "parquet": partial(write_parquet, vector=pa.array(MATRIX.tolist(), pa.list_(pa.float16(), 2))),
    "csv": write_csv,
    "tsv": write_tsv,
    "json": write_json,
    "pickle": lambda folder: {"path": write(folder / "x.pkl", pickle.dumps(ROWS))},
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_names_and_values(tmp_path, kind):
    found = read_foreign(**WRITERS[kind](tmp_path))
    assert found.names == tuple(NAMES)
    assert found.vectors.dtype == np.float32
    np.testing.assert_array_equal(found.vectors, MATRIX)  # as given: not scaled
    assert (found.format, found.n_dropped) == (kind, {})


def test_numeric_columns_of_a_table_are_dimensions_and_identifiers_are_not(tmp_path):
    table = {"gene_id": [3630, 2641, 4069], "symbol": NAMES, "d0": MATRIX[:, 0], "d1": MATRIX[:, 1].astype(np.float64)}
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    found = read_foreign(tmp_path / "x.parquet")
    assert found.names == ("3630", "2641", "4069")
    np.testing.assert_array_equal(found.vectors, MATRIX)
    assert read_foreign(tmp_path / "x.parquet", column="symbol").names == tuple(NAMES)


def test_a_gene_called_na_and_dates_are_names_like_any_other(tmp_path):
    path = write(tmp_path / "x.csv", "symbol,a\nNA,1\nnan,2\n2021-03-01,3\n")
    assert read_foreign(path).names == ("NA", "nan", "2021-03-01")


def test_rows_that_cannot_serve_are_dropped_and_counted_by_reason(tmp_path):
    text = "symbol,a,b\nINS,nan,1\nINS,1,2\nINS,3,4\nGCG,0,0\n ,1,1\nLYZ,inf,1\nCD3D,1e300,1\nCD4,5,\nCD8A,7,8\n"
    found = read_foreign(write(tmp_path / "x.csv", text))
    assert found.names == ("INS", "CD8A")
    assert found.vectors.tolist() == [[1, 2], [7, 8]]
    assert found.n_dropped == {"not finite": 4, "repeated name": 1, "all zero": 1, "no name": 1}


def test_a_name_that_json_repeats_is_counted(tmp_path):
    found = read_foreign(write(tmp_path / "x.json", '{"INS": [1, 2], "GCG": [3, 4], "INS": [5, 6]}'))
    assert found.vectors.tolist() == [[1, 2], [3, 4]]
    assert found.n_dropped == {"repeated name": 1}


@given(
    matrix=hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.floats(1, 1e6, width=32)),
    kind=st.sampled_from(["emb", "json", "csv", "pkl"]),
)
def test_values_survive_every_way_of_writing_them_bit_by_bit(tmp_path_factory, matrix, kind):
    rows = {f"G{number}": row for number, row in enumerate(matrix)}
    texts = {name: " ".join(map(repr, row.tolist())) for name, row in rows.items()}
    content = {
        "emb": "\n".join([f"{len(matrix)} {matrix.shape[1]}", *(f"{name} {row}" for name, row in texts.items())]),
        "json": json.dumps({name: row.tolist() for name, row in rows.items()}),
        "csv": "\n".join(
            [",".join(["gene", *(f"d{column}" for column in range(matrix.shape[1]))])]
            + [f"{name} {row}".replace(" ", ",") for name, row in texts.items()]
        ),
        "pkl": pickle.dumps(rows),
    }
    found = read_foreign(write(tmp_path_factory.mktemp("x") / f"x.{kind}", content[kind]))
    assert found.names == tuple(rows)
    assert found.vectors.tobytes() == matrix.tobytes()


TEXT_CASES = {
    "empty.emb": ("", "the first line must be two counts"),
    "glove.txt": ("INS 1 2\nGCG 3 4\n", "the first line must be two counts"),
    "rows.emb": ("3 2\nINS 1 2\n", r"promises 3 rows of 2 numbers, there are \(1, 2\)"),
    "dims.emb": ("1 3\nINS 1 2\n", r"promises 1 rows of 3 numbers, there are \(1, 2\)"),
    "huge.emb": ("1 999999999\nINS 1 2\n", r"of 999999999 numbers, there are \(1, 2\)"),
    "words.emb": ("1 2\nINS one two\n", "could not convert string 'one' to float32"),
    "ragged.emb": ("2 2\nINS 1 2\nGCG 1\n", "the number of columns changed from 2 to 1"),
    "names.emb": ("2 2\nINS 1 2\nGCG\n", "not enough values"),
    "none.emb": ("0 2\n", "holds no vector"),
    "zeros.emb": ("1 2\nINS 0 0\n", r"none of 1 rows can be used \(1 all zero\)"),
    "empty.json": ("{}", "holds no vector"),
    "list.json": ("[1, 2]", "holds a list, an object of name"),
    "broken.json": ('{"INS": [1,', "cannot be read as json"),
    "deep.json": ("[" * 100_000, "cannot be read as json"),
    "ragged.json": ('{"INS": [1, 2], "GCG": [1]}', "'GCG' has 1 values, 'INS' has 2"),
    "text.json": ('{"INS": ["1", "2"]}', "'INS' holds something that is no number"),
    "nested.json": ('{"INS": [[1], [2]]}', "'INS' holds something that is no number"),
    "scalar.json": ('{"INS": 1}', "'INS' is of type int, not a list of numbers"),
    "large.json": ('{"INS": [1, ' + "9" * 400 + "]}", "integer that is too large"),
    "odd.json": ('{"a\\ud800": [1]}', "is no name of a gene"),
    "empty.csv": ("", "cannot be read as csv"),
    "ragged.csv": ("symbol,a\nINS,1,2\n", "cannot be read as csv"),
    "header.csv": ("symbol,a\n", "holds no vector"),
    "nameless.csv": ("id,a\nINS,1\n", "no column 'gene_id' or 'symbol' or 'gene' of names"),
    "words.csv": ("symbol,a,note\nINS,1,x\n", "the column 'note' holds something that is no number"),
    "twice.csv": ("symbol,a,a\nINS,1,2\n", "the column 'a' occurs twice"),
    "x.parquet": ("no parquet", "cannot be read as parquet"),
    "x.xlsx": ("", "the ending '.xlsx' is not known"),
}


@pytest.mark.parametrize("name", TEXT_CASES)
def test_a_file_that_breaks_its_promise_is_refused_in_one_line(tmp_path, name):
    content, told = TEXT_CASES[name]
    with pytest.raises(SourceUnusable, match=told) as caught:
        read_foreign(write(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_a_file_of_other_bytes_or_none_is_refused(tmp_path):
    with pytest.raises(SourceUnusable, match="does not exist"):
        read_foreign(tmp_path / "gone.emb")
    with pytest.raises(SourceUnusable, match=r"cannot be read as word2vec: .* byte 0xff in position 4"):
        read_foreign(write(tmp_path / "x.emb", b"1 1\n\xff 1\n"))


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"v": [[1.0, 2.0], [1.0], [3.0, 4.0]]}, "vectors have 1 to 2 values"),
        ({"v": [[1.0], None, [3.0]]}, "vectors have 0 to 1 values"),
        ({"v": [["a"], ["b"], ["c"]]}, "the lists hold string"),
        ({"v": [[1.0]] * 3, "w": [[1.0]] * 3}, "has 2 columns of lists"),
        ({"symbol": [None] * 3, "v": [[1.0]] * 3}, r"none of 3 rows can be used \(3 no name\)"),
    ],
)
def test_a_parquet_table_of_another_shape_is_refused(tmp_path, columns, told):
    with pytest.raises(SourceUnusable, match=told):
        read_foreign(**write_parquet(tmp_path, **columns))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("INS\nGCG\n", "has 2 names, x.npy has 3 rows"),
        ('["INS", "GCG"]', "has 2 names, x.npy has 3 rows"),
        ('{"INS": 0, "GCG": 1, "LYZ": 1}', "must have the rows 0 to 2, each once"),
        ('{"INS": 1, "GCG": 2, "LYZ": 3}', "must have the rows 0 to 2, each once"),
        ('{"INS": 0, "GCG": true}', "must have the rows 0 to 1, each once"),
        ("[[1]]", "must be a list of names"),
    ],
)
def test_names_that_do_not_fit_the_rows_are_refused(tmp_path, names, told):
    np.save(tmp_path / "x.npy", MATRIX)
    path = write(tmp_path / ("names.json" if names[0] in "[{" else "names.txt"), names)
    with pytest.raises(SourceUnusable, match=told):
        read_foreign(tmp_path / "x.npy", names=path)


def test_names_are_needed_where_a_file_has_none_and_refused_where_it_has_them(tmp_path):
    np.save(tmp_path / "x.npy", MATRIX)
    with pytest.raises(SourceUnusable, match="holds no names"):
        read_foreign(tmp_path / "x.npy")
    with pytest.raises(SourceUnusable, match="holds its names itself"):
        read_foreign(**write_json(tmp_path), names=tmp_path / "x.npy")
    with pytest.raises(SourceUnusable, match=r"names.txt does not exist"):
        read_foreign(tmp_path / "x.npy", names=tmp_path / "names.txt")


def test_a_matrix_that_is_none_is_refused(tmp_path):
    names = write(tmp_path / "names.txt", "INS\n")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object))
    np.save(tmp_path / "flat.npy", np.ones(1))
    np.savez(tmp_path / "texts.npz", a=np.array("a"))
    np.savez(tmp_path / "none.npz")
    np.savez(tmp_path / "pickled.npz", a=np.array([{"a": 1}], dtype=object))
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros((1 << 24, 2), dtype=np.float64))
    save_file({"a": MATRIX, "b": MATRIX}, tmp_path / "two.safetensors")
    cases = {
        "objects.npy": "cannot be read as npy",
        "flat.npy": r"float64 of shape \(1,\)",
        "texts.npz": r"<U1 of shape \(\)",
        "none.npz": r"float64 of shape \(0,\)",
        "pickled.npz": "cannot be read as npz",
        "bomb.npz": "it decompresses to 268,435,",
        "two.safetensors": r"holds 2 matrices \(a, b\)",
    }
    for name, told in cases.items():
        with pytest.raises(SourceUnusable, match=told):
            read_foreign(tmp_path / name, names=names)


def test_rows_without_a_name_or_with_numbers_are_named_by_a_list_a_table_or_a_row_of_either(tmp_path):
    np.save(tmp_path / "x.npy", MATRIX)
    table = write(tmp_path / "x.genes.tsv", "gene_id\tsymbol\n3630\tINS\n2641\tGCG\n4069\tLYZ\n")
    found = read_foreign(tmp_path / "x.npy")  # the table lies beside it, as an export writes it
    assert foreign_spec(name="x", vectors=found) == foreign_spec(
        name="x", vectors=read_foreign(tmp_path / "x.npy", names=table)
    )
    assert (found.names, found.second_column, found.second_names) == (("3630", "2641", "4069"), "symbol", tuple(NAMES))
    numbered = write(tmp_path / "x.emb", "2 2\n2 1 2\n0 3 4\n")
    named = [
        read_foreign(numbered, names=write(tmp_path / "rows.txt", "LYZ\nINS\n")),
        read_foreign(numbered, names=write(tmp_path / "all.txt", "INS\nGCG\nLYZ\n"), keys="row"),
    ]
    assert [each.names for each in named] == [("LYZ", "INS")] * 2
    assert named[0].vectors.tolist() == [[1, 2], [3, 4]]
    for keys, path, names, told in (
        ("row", numbered, tmp_path / "rows.txt", "x.emb has the key 2, .*rows.txt has the rows 0 to 1"),
        ("row", numbered, None, 'keys="row" needs a file with one name a row'),
        ("row", tmp_path / "x.npy", table, "x.npy has no keys that could be rows"),
        ("auto", numbered, table, "x.genes.tsv has 3 names, x.emb has 2 rows"),
    ):
        with pytest.raises(SourceUnusable, match=told):
            read_foreign(path, names=names, keys=keys)


def test_a_spec_tells_the_file_and_changes_with_its_bytes_its_names_and_its_column(tmp_path):
    found = read_foreign(**write_npy(tmp_path))
    spec = foreign_spec(name="theirs", vectors=found)
    assert (spec.kind, spec.model_id, spec.revision, spec.dim, spec.normalise) == ("foreign", "x.npy", "npy", 2, False)
    assert spec.weights_sha256 == found.sha256
    renamed = read_foreign(tmp_path / "x.npy", names=write(tmp_path / "other.txt", "A\nB\nC\n"))
    other = foreign_spec(name="theirs", vectors=renamed)
    assert other.weights_sha256 == spec.weights_sha256
    assert other.encoder_id != spec.encoder_id


def test_real_word2vec_vectors_are_those_that_numpy_reads(real_data):
    path = real_data / "vectors" / "Bjorklund_node2vec.emb"
    found = read_foreign(path)
    table = np.loadtxt(path, skiprows=1)
    assert found.names == tuple(str(int(name)) for name in table[:, 0])
    np.testing.assert_array_equal(found.vectors, table[:, 1:].astype(np.float32))
    assert (found.vectors.shape, found.n_dropped) == ((326, 128), {})


def test_a_real_vocabulary_names_the_rows_of_a_matrix(real_data, tmp_path):
    vocabulary = real_data / "vectors" / "scgpt_default_gene_vocab.json"
    rows = json.loads(vocabulary.read_text())
    np.save(tmp_path / "x.npy", np.arange(1, len(rows) + 1, dtype=np.float32)[:, None])
    found = read_foreign(tmp_path / "x.npy", names=vocabulary)
    assert len(found.names) + sum(found.n_dropped.values()) == len(rows) == 48_292
    assert all(value == rows[name] + 1 for name, value in zip(found.names, found.vectors[:, 0], strict=True))


PLAIN = {
    "lists": ROWS,
    "tuples": {name: tuple(row) for name, row in ROWS.items()},
    "arrays": dict(zip(NAMES, MATRIX, strict=True)),
    "doubles": dict(zip(NAMES, MATRIX.astype(np.float64), strict=True)),
    "big-endian": dict(zip(NAMES, MATRIX.astype(">f4"), strict=True)),
    "numbers": {name: list(row) for name, row in zip(NAMES, MATRIX, strict=True)},
    "ordered": OrderedDict(zip(NAMES, MATRIX, strict=True)),
    "default": defaultdict(list, ROWS),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", PLAIN)
def test_plain_pickles_of_every_protocol_are_read(tmp_path, kind, protocol):
    found = read_foreign(write(tmp_path / "x.pickle", pickle.dumps(PLAIN[kind], protocol=protocol)))
    assert found.names == tuple(NAMES)
    np.testing.assert_array_equal(found.vectors, MATRIX)


def test_pickles_of_older_numpy_and_integer_names_are_read(tmp_path):
    content = pickle.dumps({3630: MATRIX[0]}, protocol=2).replace(b"numpy._core.", b"numpy.core.")
    found = read_foreign(write(tmp_path / "x.pkl", content))
    assert found.names == ("3630",)
    assert found.vectors.tolist() == [MATRIX[0].tolist()]


class Calls:
    """Pickles as a call of any callable with any arguments."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def calls_of_real_functions(target):
    """Pickles that leave a file behind, or would get hold of what can, each with the name that gives it away."""
    command, code = f"touch {target}", f"open({str(target)!r}, 'w').close()"
    return {
        "posix.system": {"INS": Calls(os.system, command)},
        "builtins.eval": {"INS": Calls(eval, code)},
        "builtins.exec": {Calls(exec, code): [1.0]},
        "io.open": [Calls(open, str(target), "w")],
        "builtins.getattr": Calls(getattr, "INS", "upper"),
        "copyreg._reconstructor": Calls(copyreg._reconstructor, object, object, None),
        "numpy.load": Calls(np.load, str(target)),
        "numpy.save": Calls(np.save, str(target), 1),
        "functools.partial": Calls(partial, os.system, command),
        "importlib.import_module": Calls(importlib.import_module, "antigravity"),
        "builtins.set": {"INS": {1.0, 2.0}},
        "builtins.complex": {"INS": [1j]},
    }


@pytest.mark.parametrize("protocol", [0, 1, 2, 3])
@pytest.mark.parametrize("name", calls_of_real_functions(""))
def test_a_pickle_that_calls_anything_is_refused_by_its_name_and_runs_nothing(tmp_path, name, protocol):
    target = tmp_path / "created"
    content = pickle.dumps(calls_of_real_functions(target)[name], protocol=protocol, fix_imports=False)
    with pytest.raises(SourceUnusable, match=f"asks for '_?{re.escape(name)}', which is refused and was not run"):
        read_foreign(write(tmp_path / "x.pkl", content))
    assert [path.name for path in tmp_path.iterdir()] == ["x.pkl"]


def test_the_calls_that_are_refused_would_have_left_a_file(tmp_path):
    for number, name in enumerate(["posix.system", "builtins.eval", "numpy.save"]):
        target = tmp_path / f"created{number}.npy"
        pickle.loads(pickle.dumps(calls_of_real_functions(target)[name]))
        assert target.exists()


DTYPE = b"cnumpy\ndtype\n(Vf4\nI0\nI1\ntR"
CRAFTED = {
    "dotted name": (b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.", "asks for 'numpy.ndarray.__class__'"),
    "name of a permitted module": (b"cnumpy\nfromfile\n(V/etc/passwd\ntR.", "asks for 'numpy.fromfile'"),
    "name with a line feed": (b"\x80\x04\x8c\x02os\x8c\x03a\nb\x93.", r"asks for 'os.a\\nb'"),
    "old style instance": (b"(Vtouch x\nios\nsystem\n.", "asks for 'os.system'"),
    "another encoding": (b"c_codecs\nencode\n(Vabc\nVrot13\ntR.", "called for something else than numbers"),
    "objects": (b"cnumpy\ndtype\n(VO8\ntR.", "called for something else than numbers"),
    "state for a permitted name": (b"cnumpy\ndtype\n(N}V__call__\nI1\nstb.", "an allowed name has no state"),
    "state for a dtype": (DTYPE + b"(I3\nVx\ntb.", r"is no pickle of vectors \(byteorder not recognized"),
    "call of an array type": (b"cnumpy\nndarray\n(I9\ntR.", "called for something else than numbers"),
    "subclass of an array": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\nI0\ntR.",
        "called for something else than numbers",
    ),
    "bytes that are too few": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\ntR(I1\n(I999999999\nt" + DTYPE + b"I00\nC\x00tb.",
        "only arrays of numbers with one axis",
    ),
    "number without bytes": (b"cnumpy.core.multiarray\nscalar\n(" + DTYPE + b"Vx\ntR.", "is no pickle of vectors"),
    "filled container": (
        b"ccollections\nOrderedDict\n((lp0\ntR.",
        "called for something else than numbers or an empty container",
    ),
    "object outside the file": (b"Pname\n.", "refers to objects outside the file"),
    "memo of 64 GB": (b"(dr\xff\xff\xff\xff.", "too little memory"),
    "memo of any size": (b"(dp99999999999\n.", "too little memory"),
    "text of 4 GB": (b"(dX\xff\xff\xff\xff.", "too little memory|is no pickle of vectors"),
    "bytes of any size": (b"\x80\x05\x8e" + b"\xff" * 8 + b".", "is no pickle of vectors"),
    "line without end": (b"(dVINS", "is no pickle of vectors"),
    "extension code": (b"\x82\xf0.", "is no pickle of vectors"),
    "item of a permitted name": (b"cnumpy\ndtype\n(VINS\nI1\nu.", "is no pickle of vectors"),
    "new object of a permitted name": (b"cnumpy\ndtype\n)\x81.", "is no pickle of vectors"),
    "no pickle": (b"INS 1 2", "is no pickle of vectors"),
    "cut off": (pickle.dumps(ROWS)[:-9], "is no pickle of vectors"),
    "long integer as name": (pickle.dumps({10**5000: [1.0]}), "has a key of type int"),
    "another key": (pickle.dumps({("INS", 1): [1.0]}), "has a key of type tuple"),
    "no dict": (pickle.dumps([1.0, 2.0]), "holds a list, a dict of name"),
    "matrix": (pickle.dumps(MATRIX), "one axis"),
    "no vectors": (pickle.dumps({"INS": 1.0}), "'INS' is of type float, not a list of numbers"),
    "text": (pickle.dumps({"INS": ["1", "2"]}), "'INS' holds something that is no number"),
    "permitted name as vector": (b"(dVINS\ncnumpy\ndtype\ns.", "not a list of numbers"),
    "one vector many times": (pickle.dumps(dict.fromkeys(map(str, range(999)), [1.0] * 999)), "repeats vectors"),
}


@pytest.fixture(scope="module")
def little_memory():
    """Limits the memory of this process, as a command does."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit_memory(6 << 30)
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.mark.parametrize("kind", CRAFTED)
def test_a_crafted_pickle_is_refused_in_one_line(tmp_path, kind, little_memory):
    content, message = CRAFTED[kind]
    with pytest.raises((SourceUnusable, MemoryLimitReached), match=message) as caught:
        read_foreign(write(tmp_path / "x.pkl", content))
    assert "\n" not in str(caught.value)


def test_nested_lists_that_double_at_every_level_are_not_expanded(tmp_path):
    nested = [1.0]
    for _ in range(60):
        nested = [nested, nested]
    with pytest.raises(SourceUnusable, match="'INS' holds something that is no number"):
        read_foreign(write(tmp_path / "x.pkl", pickle.dumps({"INS": nested})))


def test_a_data_frame_is_refused_with_the_way_out(tmp_path):
    import pandas as pd

    pd.DataFrame(MATRIX, index=NAMES).to_pickle(tmp_path / "x.pkl")
    with pytest.raises(SourceUnusable, match=r"asks for 'pandas\..* convert it to .npy, Parquet or JSON"):
        read_foreign(tmp_path / "x.pkl")


@given(content=st.binary(max_size=60), protocol=st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"(d", b"}("]))
def test_bytes_of_any_kind_are_read_or_refused_and_nothing_else(tmp_path_factory, little_memory, content, protocol):
    path = write(tmp_path_factory.mktemp("x") / "x.pkl", protocol + content)
    with suppress(SourceUnusable, MemoryLimitReached):
        assert read_foreign(path).names
