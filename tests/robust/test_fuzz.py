"""Readers of files that were made wrong at random, and what the fuzzer has found: a result or an error of ours."""

import json
import random
from importlib.util import find_spec
from shutil import copytree, rmtree

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.robust import fuzz_base, fuzz_readers, fuzz_targets, mutations

N_CASES = {  # of the quick profile, whose default are 10 examples
    "gene_info": 15,
    "other NCBI files": 15,
    "data_report": 20,
    "tables of genes": 15,
    "vectors": 20,
    "lists and panels": 20,
    "store": 4,
    "saved model": 20,
    "h5ad": 8,
    "10x h5": 15,
    "10x mtx": 15,
    "zarr 2": 3,
    "zarr 3": 3,
    "entrez": 4,
    "notes and keys": 5,
}
if find_spec("mudata"):
    N_CASES["h5mu"] = 8
if find_spec("loompy"):
    N_CASES["loom"] = 10


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """Give the folder with the valid input of a reader, written once."""
    written = {}

    def folder_of(name):
        if name not in written:
            written[name] = tmp_path_factory.mktemp("valid") / "input"
            written[name].mkdir()
            fuzz_targets.TARGETS[name].write(written[name])
        return written[name]

    return folder_of


@pytest.mark.filterwarnings("ignore")  # of libraries, at what is wrong in a file
@pytest.mark.parametrize("name", N_CASES)
def test_a_file_made_wrong_at_random_gives_a_result_or_an_error_of_ours(name, valid, tmp_path):
    target, case = fuzz_targets.TARGETS[name], tmp_path / "case" / "input"

    @settings(
        max_examples=N_CASES[name] * settings.default.max_examples // 10, derandomize=True, database=None,
        deadline=None, suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    @given(seed=st.integers(0, 2**32 - 1), is_promised=st.booleans())
    def read(seed, is_promised):
        rmtree(case.parent, ignore_errors=True)
        copytree(valid(name), case)
        mutations.harm(case, random.Random(seed))
        if target.promise and is_promised:
            target.promise(case)
        try:
            target.read(case)
        except fuzz_base.own_errors() as error:
            assert "\n" not in str(error)  # noqa: PT017 - a result is as good as an error

    read()


@pytest.mark.parametrize("name", N_CASES)
def test_the_valid_input_of_each_reader_is_read(name, valid, tmp_path):
    copytree(valid(name), tmp_path / "case" / "input")
    assert fuzz_targets.TARGETS[name].read(tmp_path / "case" / "input")


def test_a_case_is_made_of_its_number_alone(valid, tmp_path):
    made = []
    for place in ("first", "second"):
        fuzz_readers.make_case("tables of genes", valid("tables of genes"), tmp_path / place, seed=3, number=5)
        made.append({path.name: path.read_bytes() for path in (tmp_path / place).iterdir()})
    assert made[0] == made[1]
    assert any(content != (valid("tables of genes") / name).read_bytes() for name, content in made[0].items())


@pytest.mark.parametrize(
    ("error", "is_well", "told"),
    [
        (KeyError("symbol"), False, "KeyError in"),
        (MemoryError(), False, "MemoryError in"),
        ("SourceUnusable", True, "SourceUnusable"),
        ("SourceUnusable: malloc of size 9 failed", False, "memory: "),
    ],
)
def test_what_is_no_error_of_ours_is_a_finding(error, is_well, told, tmp_path):
    from genekb.core.errors import SourceUnusable

    def read(_folder):
        raise SourceUnusable(error) if isinstance(error, str) else error

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fuzz_targets.TARGETS, "broken", fuzz_base.Target(write=print, read=read))
        found = fuzz_readers.outcome("broken", tmp_path)
    assert found[0] is is_well
    assert found[1].startswith(told)


def rewritten(path, old, new):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def generifs_without_a_text(folder):
    rewritten(folder / "generifs_basic", b"Insulin lowers glucose.", b" ")


def column_name_no_utf8(folder):
    rewritten(folder / "genes.parquet", b"aliases", b"alia\xff\xfes")


def aliases_of_numbers(folder):
    table = {"gene_id": [3630], "symbol": ["INS"], "summary": ["hormone"], "aliases": [["IDDM"]]}
    pq.write_table(pa.table(table | {"aliases": [[1.5]]}), folder / "genes.parquet")


def texts_no_utf8(folder):
    pq.write_table(pq.read_table(folder / "genes.parquet"), folder / "genes.parquet", compression="none")
    rewritten(folder / "genes.parquet", b"lowers glucose", b"lowers \xff\xfeucose")


def names_that_are_records(folder):
    pq.write_table(pa.table({"symbol": [{"a": 1}], "vector": [[1.0, 2.0]]}), folder / "vectors.parquet")


def npy_header_with_an_open_bracket(folder):
    rewritten(folder / "vectors.npy", b"(3, 4)", b"(3, 4 ")


def table_with_a_column_twice(folder):
    path = folder / "store" / "names.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("kind", table["kind"]), path)


def vocabulary_with_half_a_character(folder):
    path = next((folder / "store" / "embeddings").glob("wcp-*/wcp-vocabulary.json"))
    vocabularies = json.loads(path.read_text())
    path.write_text(json.dumps(vocabularies | {"words": ["\ud800", *vocabularies["words"][1:]]}))


def vectors_under_another_name(folder):
    path = next((folder / "store" / "embeddings").glob("hash-*/part-00000.parquet"))
    table = pq.read_table(path)
    pq.write_table(table.rename_columns(["odd" if name == "vector" else name for name in table.column_names]), path)


def pointers_beyond_the_entries(folder):
    with h5py.File(folder / "cells.h5ad", "r+") as file:
        pointers = file["layers/counts/indptr"][:].astype("<u2")
        del file["layers/counts/indptr"]
        pointers[11] = 2**15  # unsigned: no difference of them is negative
        file["layers/counts/indptr"] = pointers


def pointers_that_are_a_group(folder):
    with h5py.File(folder / "cells.h5ad", "r+") as file:
        del file["X/indptr"]
        file.create_group("X/indptr")


def pointers_of_two_axes(folder):
    with h5py.File(folder / "cells.h5ad", "r+") as file:
        pointers = file["X/indptr"][:]
        del file["X/indptr"]
        file["X/indptr"] = pointers.reshape(-1, 1)


def encoding_that_is_a_list(folder):
    with h5py.File(folder / "cells.h5ad", "r+") as file:
        file["layers/counts"].attrs["encoding-type"] = np.array([2**40, 2**20])


def infinitely_many_genes(folder):
    with h5py.File(folder / "cells.h5", "r+") as file:
        del file["matrix/shape"]
        file["matrix/shape"] = np.array([np.inf, 12])


def shape_that_is_a_group(folder):
    with h5py.File(folder / "cells.h5", "r+") as file:
        del file["matrix/shape"]
        file.create_group("matrix/shape")


def numbers_of_six_bytes(folder):
    with h5py.File(folder / "cells.h5", "r+") as file:
        kind = h5py.h5t.STD_I64LE.copy()
        kind.set_precision(48)
        kind.set_size(6)
        h5py.h5d.create(file["matrix"].id, b"odd", kind, h5py.h5s.create_simple((4,)))


def matrix_with_a_nul(folder):
    rewritten(folder / "matrix.mtx", b"\n3 1 ", b"\n3 1 7 \0\xc8\n3 1 ")


def matrix_with_a_huge_number(folder):
    rewritten(folder / "matrix.mtx", b"\n3 1 ", b"\n3 1 99999999999999999999999")


def data_that_are_a_group(folder):
    rmtree(folder / "cells.zarr" / "X" / "data")
    (folder / "cells.zarr" / "X" / "data").mkdir()
    (folder / "cells.zarr" / "X" / "data" / ".zgroup").write_text('{"zarr_format": 2}')


def shape_of_texts(folder):
    path = folder / "cells.zarr" / "X" / "data" / ".zarray"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shape": ["x"]}))


def chunks_of_no_length(folder):
    path = folder / "cells.zarr" / "layers" / "dense" / ".zarray"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chunks": [0, 8]}))


def free_list_that_leads_nowhere(folder):
    content = bytearray((folder / "cells.h5ad").read_bytes())
    place = content.index(b"HEAP") + 16  # where the free part of the names of a group begins
    content[place : place + 8] = (2**40).to_bytes(8, "little")
    (folder / "cells.h5ad").write_bytes(bytes(content))


def name_no_utf8(folder):
    with h5py.File(folder / "cells.h5ad", "r+") as file:
        file[b"layers/\xff"] = np.ones(3)


def type_with_a_name(folder):
    with h5py.File(folder / "cells.h5ad", "r+") as file:
        file["layers/odd"] = np.dtype("f8")


def shape_of_one_number(folder):
    with h5py.File(folder / "cells.h5ad", "r+") as file:
        file["X"].attrs["shape"] = 12
        del file["layers/counts"]


def indices_that_are_fractions(folder):
    with h5py.File(folder / "cells.h5ad", "r+") as file:
        indices = file["layers/counts/indices"][:].astype(float)
        indices[3] = np.nan
        del file["layers/counts/indices"]
        file["layers/counts/indices"] = indices


def kept_answer_no_xml(folder):
    (folder / "fetched" / "esearch-00000.xml").write_text("<eSearchResult><Count>\0</Count></eSearchResult>")


def answer_no_utf8(folder):
    rewritten(folder / "answers" / "esearch.xml", b"<Count>", b"<Count>\xf6")


def species_beyond_every_number(folder):
    for name in ("answers/esummary.xml", "fetched/esummary-00000.xml"):
        rewritten(folder / name, b"<TaxID>9606<", b"<TaxID>4294967296<")


def address_with_half_a_character(folder):
    path = folder / "pulled.json"
    notes = json.loads(path.read_text())
    (note,) = notes.values()
    path.write_text(json.dumps(notes | {next(iter(notes)): note | {"url": "\ud800"}}))


FOUND = {
    generifs_without_a_text: ("other NCBI files", None),
    column_name_no_utf8: ("tables of genes", "can't decode byte 0xff .*; save it as UTF-8"),
    aliases_of_numbers: ("tables of genes", None),
    texts_no_utf8: ("tables of genes", "Invalid UTF8"),
    names_that_are_records: ("vectors", "cannot be read as parquet: Unsupported cast from struct"),
    npy_header_with_an_open_bracket: ("vectors", "cannot be read as npy"),
    table_with_a_column_twice: ("store", "'kind', or several"),
    vocabulary_with_half_a_character: ("store", "the state of wcp-4.* is damaged"),
    vectors_under_another_name: ("store", "it has no column 'vector'"),
    pointers_beyond_the_entries: ("h5ad", "pointers that do not rise from 0 on"),
    pointers_that_are_a_group: ("h5ad", "X of .* has a part that is not one-dimensional"),
    pointers_of_two_axes: ("h5ad", "X of .* has a part that is not one-dimensional"),
    encoding_that_is_a_list: ("h5ad", "cannot be read cell by cell"),
    infinitely_many_genes: ("10x h5", "cannot convert float infinity to integer"),
    shape_that_is_a_group: ("10x h5", "shape is not one-dimensional"),
    numbers_of_six_bytes: ("10x h5", "data type '<i6' not understood"),
    matrix_with_a_nul: ("10x mtx", "holds a NUL, so it is no text"),
    matrix_with_a_huge_number: ("10x mtx", "Integer out of range"),
    data_that_are_a_group: ("zarr 2", "X of .* has a part that is not one-dimensional"),
    shape_of_texts: ("zarr 2", "Expected an iterable of integers"),
    chunks_of_no_length: ("zarr 2", "the chunks of layers/dense have no length"),
    free_list_that_leads_nowhere: ("h5ad", "bad heap free list"),
    name_no_utf8: ("h5ad", "no text in UTF-8"),
    type_with_a_name: ("h5ad", "cannot be read"),
    indices_that_are_fractions: ("h5ad", "indices of type float64, which are no whole numbers"),
    shape_of_one_number: ("h5ad", "is declared as 12, but has pointers"),
    kept_answer_no_xml: ("entrez", "esearch-00000.xml is damaged .*; delete it"),
    species_beyond_every_number: ("entrez", "an answer with a value that is none of NCBI's"),
    address_with_half_a_character: ("notes and keys", None),
    answer_no_utf8: ("entrez", "the answer is cut off, an error, or not of esearch"),
}


@pytest.mark.filterwarnings("ignore:.*encoding")
@pytest.mark.parametrize("harm", FOUND)
def test_what_the_fuzzer_has_found_stays_mended(harm, valid, tmp_path):
    name, told = FOUND[harm]
    case = tmp_path / "case" / "input"
    copytree(valid(name), case)
    harm(case)
    if fuzz_targets.TARGETS[name].promise:
        fuzz_targets.TARGETS[name].promise(case)
    if told is None:
        assert fuzz_targets.TARGETS[name].read(case)
    else:
        with pytest.raises(fuzz_base.own_errors(), match=told):
            fuzz_targets.TARGETS[name].read(case)
