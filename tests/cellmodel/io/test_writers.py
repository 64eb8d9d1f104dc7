"""Results in files: what is nested comes back, and a file is written whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import ReadConfig, read_cells
from cellmodel.io.records import h5ad_safe
from cellmodel.io.writers import can_be_copied, file_state, write_beside, write_cells

ROOT = Path(__file__).parents[3]
COUNTS = np.random.default_rng(0).poisson(1.0, (30, 8)).astype(np.float32)
FULL_DISK = """
import resource, sys
from pathlib import Path
import anndata, numpy as np, scipy.sparse as sp
from cellmodel.core.errors import InputUnusable
from cellmodel.io.writers import write_beside, write_cells
output, limit, source = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if source:
    cells = anndata.read_h5ad(source)
    cells.obsm["X_new"] = np.random.default_rng(0).random((cells.n_obs, 2000))
else:
    cells = anndata.AnnData(sp.random(1000, 300, 0.3, format="csr", dtype="f4", random_state=0))
    cells.uns = {f"key{row}": {"numbers": np.arange(50)} for row in range(50)}
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    if source:
        write_beside(cells, Path(source), output, slots=[("obsm", "X_new")], overwrite=True)
    else:
        write_cells(cells, output, overwrite=True)
except InputUnusable as error:
    sys.exit(3 if "cannot be written: File too large" in str(error) else 1)
"""


def make():
    names = [f"c{row}" for row in range(30)], [f"G{row}" for row in range(8)]
    return anndata.AnnData(sp.csr_matrix(COUNTS), obs=pd.DataFrame(index=names[0]), var=pd.DataFrame(index=names[1]))


def through_a_file(value, folder):
    adata = make()
    adata.uns["value"] = h5ad_safe(value)
    write_cells(adata, folder / "o.h5ad")
    return anndata.read_h5ad(folder / "o.h5ad").uns["value"]


@pytest.mark.parametrize(
    ("name", "compression"), [("i.h5ad", "gzip"), ("i.h5ad", "lzf"), ("i.h5ad", None), ("i.zarr", "gzip")]
)
def test_an_h5ad_is_compressed_as_the_file_that_its_cells_were_read_from(tmp_path, name, compression):
    source = tmp_path / name
    make().write_h5ad(source, compression=compression) if name == "i.h5ad" else write_cells(make(), source)
    write_cells(read_cells(source).adata, tmp_path / "o.h5ad", source=source)
    with h5py.File(tmp_path / "o.h5ad") as file:
        assert file["X/data"].compression == compression


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_writing_keeps_what_the_user_had_and_replaces_only_when_told_and_as_a_whole(tmp_path, suffix):
    adata, output = make(), tmp_path / f"o{suffix}"
    adata.obsm["X_mine"], adata.uns["mine"] = COUNTS[:, :2], {"a": 1}
    adata.layers["umi"] = sp.csr_matrix(COUNTS * 2)
    write_cells(adata, output)
    with pytest.raises(InputUnusable, match=rf"exists .* this result is in \S+/o-2\{suffix}: .*overwrite=True"):
        write_cells(make(), output)
    assert "X_mine" not in read_cells(tmp_path / f"o-2{suffix}").adata.obsm
    again = read_cells(output).adata
    np.testing.assert_array_equal(again.X.toarray(), COUNTS)
    np.testing.assert_array_equal(again.obsm["X_mine"], COUNTS[:, :2])
    np.testing.assert_array_equal(again.layers["umi"].toarray(), COUNTS * 2)
    assert again.uns["mine"] == {"a": 1}
    write_cells(make(), output, overwrite=True)
    assert "X_mine" not in read_cells(output).adata.obsm
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"o-2{suffix}", f"o{suffix}"]


@pytest.mark.parametrize("target", ["o.csv", "absent/o.h5ad"])
def test_a_target_that_cannot_be_written_leaves_nothing(tmp_path, target):
    with pytest.raises(InputUnusable, match="o\\."):
        write_cells(make(), tmp_path / target)
    assert list(tmp_path.iterdir()) == []


def code_on_full_disk(output, limit, source=""):
    """Exit code of a process that writes more than the limit on the size of files, which stands in for a full disk."""
    words = [sys.executable, "-c", FULL_DISK, output, str(limit), source]
    return subprocess.run(words, cwd=ROOT, check=False, timeout=120).returncode


@pytest.mark.parametrize(
    "limit", [5_000, *(pytest.param(limit, marks=pytest.mark.slow) for limit in (0, 200_000, 740_000, 780_000))]
)
@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_a_full_disk_leaves_nothing_and_the_old_file_whole_and_the_process_alive(tmp_path, suffix, limit):
    if suffix == ".zarr":
        limit //= 100  # zarr writes many small files
    write_cells(make(), tmp_path / f"o{suffix}")
    assert code_on_full_disk(tmp_path / f"o{suffix}", limit) == 3
    np.testing.assert_array_equal(read_cells(tmp_path / f"o{suffix}").matrix.toarray(), COUNTS)
    assert [path.name for path in tmp_path.iterdir()] == [f"o{suffix}"]


@pytest.mark.parametrize("name", ["o.h5ad", "o.zarr"])
def test_a_folder_of_other_files_is_never_replaced(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("mine")
    with pytest.raises(InputUnusable, match="folder of other files"):
        write_cells(make(), tmp_path / name, overwrite=True)
    assert (tmp_path / name / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_text_columns_are_categories_in_the_file_and_text_in_the_users_tables(tmp_path, suffix):
    adata = make()
    adata.obs["batch"] = ["a", "b"] * 15
    adata.obs["some"] = ["a", np.nan] * 15
    adata.var["part"] = ["x"] * 8
    adata.raw = adata
    write_cells(adata, tmp_path / f"o{suffix}")
    for table in (adata.obs, adata.var, adata.raw.var):
        assert not any(kind == "category" for kind in table.dtypes)
    assert adata.obs["batch"].tolist() == ["a", "b"] * 15
    again = read_cells(tmp_path / f"o{suffix}").adata
    assert again.obs["some"].cat.categories.tolist() == ["a"]
    assert again.raw.var["part"].tolist() == ["x"] * 8


def test_nested_settings_survive_a_real_file(tmp_path):
    read = ReadConfig(layer="umi", transpose=True)
    value = {
        "read": read, 1: "number", "path": Path("a/b.h5ad"), "scalar": np.float32(0.5), "flag": np.bool_(True),
        "pair": (1, 2), "mixed": [1, "a"], "deep": {"deeper": {"x": None}}, "empty": (), "flags": [True, False],
    }  # fmt: skip
    found = through_a_file(value, tmp_path)
    assert found["read"] == {"layer": "umi", "use_raw": False, "gene_key": "", "values": "auto", "transpose": True}
    assert (found["1"], found["path"], found["scalar"], found["flag"]) == ("number", "a/b.h5ad", 0.5, True)
    assert found["pair"].tolist() == [1, 2]
    assert found["mixed"].tolist() == ["1", "a"]
    assert found["deep"] == {"deeper": {"x": ""}}
    assert len(found["empty"]) == 0
    assert found["flags"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a/b": 1}, {"a_b": 1}),
        ({2, 1}, ["1", "2"]),
        ("x\0y", "x\\x00y"),
        ("\udcff", "\\udcff"),
        (b"x\xff", "x\\xff"),
        (2**70, str(2**70)),
        ([1, 2**70], ["1", str(2**70)]),
        ([None, "a"], ["", "a"]),
        ([[1, 2], [3]], {"0": [1, 2], "1": [3]}),
        ([np.array([1, 2])], {"0": [1, 2]}),
        ([{"a": 1}, "b"], {"0": {"a": 1}, "1": "b"}),
        (np.array([None, "b"], dtype=object), ["", "b"]),
    ],
)  # fmt: skip
def test_values_that_a_file_cannot_hold_as_they_are(tmp_path, value, expected):
    found = through_a_file(value, tmp_path)
    if isinstance(found, dict):
        found = {key: item.tolist() if isinstance(item, np.ndarray) else item for key, item in found.items()}
    assert (found.tolist() if isinstance(found, np.ndarray) else found) == expected


def test_a_table_with_missing_text_and_slashes(tmp_path):
    table = pd.DataFrame({"a": [None, "x"], "b/c": [1.5, np.nan], "mixed": [1, "y\0"]}, index=[7, 8])
    before = table.copy()
    found = through_a_file(table, tmp_path)
    assert found.columns.tolist() == ["a", "b_c", "mixed"]
    assert found["a"].tolist() == ["", "x"]
    assert found["mixed"].tolist() == ["1", "y\\x00"]
    assert found["b_c"].isna().tolist() == [False, True]
    assert found.index.tolist() == ["7", "8"]
    pd.testing.assert_frame_equal(table, before)


def test_slashes_in_the_users_names_are_kept_without_a_warning(tmp_path):
    adata = anndata.AnnData(
        COUNTS, obs=pd.DataFrame({"CD4/CD8": np.arange(30.0)}, index=[f"c{at}" for at in range(30)])
    )
    adata.obs.index.name = "donor/cell"
    write_cells(adata, tmp_path / "cells.h5ad")
    written = anndata.read_h5ad(tmp_path / "cells.h5ad").obs
    assert (list(written), written.index.name) == (["CD4/CD8"], "donor/cell")


@pytest.mark.parametrize("value", [{1: 2, "1": 3}, {"a/b": 1, "a_b": 2}])
def test_keys_that_become_equal_are_not_merged(value):
    with pytest.raises(ValueError, match="two keys become"):
        h5ad_safe(value)


def elements(path):
    """Every array and attribute of a file by its place, with its filter."""
    found = {}

    def note(name, item):
        value = None if getattr(item, "shape", None) is None else np.asarray(item).tolist()
        attributes = {key: np.asarray(kept).tolist() for key, kept in item.attrs.items()}
        found[name] = repr((attributes, getattr(item, "compression", None), value))

    with h5py.File(path) as file:
        file.visititems(note)
    return found


@pytest.mark.parametrize("compression", ["gzip", None])
def test_a_copy_with_new_slots_is_what_writing_anew_gives(tmp_path, compression):
    source = tmp_path / "i.h5ad"
    adata = make()
    adata.obs["mine"], adata.obsm["X_mine"], adata.uns["a"] = ["x", "y"] * 15, COUNTS[:, :2], {"b": 1}
    adata.layers["umi"] = sp.csc_matrix(COUNTS * 2)
    adata.raw = adata
    adata.write_h5ad(source, compression=compression)
    state, read = file_state(source), anndata.read_h5ad(source)
    read.obs["new"], read.uns["new"] = pd.Categorical(["u", "v", "w"] * 10), {"table": pd.DataFrame({"a": ["x"]})}
    read.obsm["X_new"], read.obsp["near"] = COUNTS[:, :3], sp.identity(30, format="csr")
    del read.uns["a"]
    slots = [("obs", "new"), ("uns", "new"), ("obsm", "X_new"), ("obsp", "near"), ("uns", "a"), ("uns", "none")]
    assert can_be_copied(source, tmp_path / "copy.h5ad", read_at=state)
    write_beside(read, source, tmp_path / "copy.h5ad", slots=slots)
    write_cells(read, tmp_path / "anew.h5ad", source=source)
    assert elements(tmp_path / "copy.h5ad") == elements(tmp_path / "anew.h5ad")


def test_a_file_that_was_changed_or_is_of_another_layout_is_not_copied(tmp_path):
    path, output = tmp_path / "i.h5ad", tmp_path / "o.h5ad"
    make().write_h5ad(path)
    state = file_state(path)
    assert can_be_copied(path, output, read_at=state)
    assert not can_be_copied(path, tmp_path / "o.zarr", read_at=state)
    assert not can_be_copied(path, output, read_at=None)
    os.utime(path, ns=(1, 1))
    assert not can_be_copied(path, output, read_at=state)
    with h5py.File(path, "r+") as file:
        del file.attrs["encoding-type"]
    assert not can_be_copied(path, output, read_at=file_state(path))
    path.unlink()
    assert (file_state(path), can_be_copied(path, output, read_at=state)) == (None, False)


@pytest.mark.parametrize("share", [pytest.param(0.5, marks=pytest.mark.slow), 1.5])
def test_a_disk_that_is_full_amid_a_copy_or_its_new_slots_leaves_the_file_that_was_there(tmp_path, share):
    make().write_h5ad(tmp_path / "i.h5ad")
    output = tmp_path / "o.h5ad"
    output.write_bytes(b"before")
    assert code_on_full_disk(output, int(share * (tmp_path / "i.h5ad").stat().st_size), tmp_path / "i.h5ad") == 3
    assert output.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i.h5ad", "o.h5ad"]
