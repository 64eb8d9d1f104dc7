"""Cell files as users have them: written here by hand, compared with scanpy where it reads them too."""

import gzip
import hashlib
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
from scipy.io import mmwrite

from cellmodel.demo import find_demo_cells
from cellmodel.errors import InputUnusable, NotCounts, SlotTaken
from cellmodel.io import (
    ReadConfig,
    cells_from_anndata,
    claim_slots,
    h5ad_safe,
    read_cells,
    read_gene_totals,
    read_obs_columns,
    write_cells,
)
from cellmodel.values import ValueKind

ROOT = Path(__file__).parents[2]
N_CELLS, N_GENES = 30, 8
COUNTS = np.random.default_rng(0).poisson(1.0, (N_CELLS, N_GENES)).astype(np.float32)
CELLS = [f"AAAC{row:02d}-1" for row in range(N_CELLS)]
GENES = ["CD3D", "MS4A1", "LYZ", "PPBP", "GNLY", "NKG7", "CD3-ADT", "HTO-1"]
TYPES = ["Gene Expression"] * 6 + ["Antibody Capture"] * 2


def make(matrix=None, *, types=False):
    matrix = sp.csr_matrix(COUNTS) if matrix is None else matrix
    var = pd.DataFrame({"feature_types": TYPES} if types else None, index=GENES[: matrix.shape[1]])
    return anndata.AnnData(matrix, obs=pd.DataFrame(index=CELLS[: matrix.shape[0]]), var=var)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_10x_h5(path, version):
    matrix = sp.csr_matrix(COUNTS.astype(np.int32))
    ids = [f"ENSG{row:011d}" for row in range(N_GENES)]
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "GRCh38")
        for key in ("data", "indices", "indptr"):
            group[key] = getattr(matrix, key)
        group["shape"] = np.array([N_GENES, N_CELLS])
        group["barcodes"] = np.array(CELLS, dtype="S")
        if version == 2:
            group["genes"], group["gene_names"] = np.array(ids, dtype="S"), np.array(GENES, dtype="S")
            return
        features = {"id": ids, "name": GENES, "feature_type": TYPES, "genome": ["GRCh38"] * N_GENES}
        for key, column in features.items():
            group[f"features/{key}"] = np.array(column, dtype="S")


def write_10x_folder(folder, version):
    folder.mkdir()
    mmwrite(folder / "matrix.mtx", sp.coo_matrix(COUNTS.T.astype(np.int32)))
    features = "".join(
        f"ENSG{row}\t{name}\t{kind}\n" for row, (name, kind) in enumerate(zip(GENES, TYPES, strict=True))
    )
    genes = "".join(f"ENSG{row}\t{name}\n" for row, name in enumerate(GENES))
    texts = {"barcodes.tsv": "\n".join(CELLS) + "\n"}
    texts |= {"features.tsv": features} if version == 3 else {"genes.tsv": genes}
    for name, text in texts.items():
        (folder / name).write_text(text)
    if version == 3:
        for path in list(folder.iterdir()):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("form", ["h5", "folder"])
@pytest.mark.filterwarnings("ignore::FutureWarning:scanpy", "ignore::FutureWarning:anndata")
def test_10x_of_both_versions_reads_as_scanpy_reads_it(tmp_path, version, form):
    import scanpy as sc

    path = tmp_path / ("cells.h5" if form == "h5" else "cells")
    (write_10x_h5 if form == "h5" else write_10x_folder)(path, version)
    theirs = sc.read_10x_h5(path, gex_only=True) if form == "h5" else sc.read_10x_mtx(path, gex_only=True)
    ours = read_cells(path)
    assert list(ours.names) == theirs.var_names.tolist()
    assert ours.adata.obs_names.tolist() == theirs.obs_names.tolist()
    np.testing.assert_array_equal(ours.matrix.toarray(), theirs.X.toarray())


def test_features_that_are_no_genes_are_left_out_counted_and_kept_in_the_output(tmp_path):
    write_10x_h5(tmp_path / "cells.h5", 3)
    cells = read_cells(tmp_path / "cells.h5")
    assert cells.names == tuple(GENES[:6])
    assert any("2 features of type Antibody Capture" in note for note in cells.notes)
    assert cells.adata.n_vars == N_GENES
    assert cells.var_rows.tolist() == list(range(6))


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t"), (".tsv.gz", "\t"), (".csv.gz", ",")])
@pytest.mark.parametrize("transpose", [False, True])
def test_text_tables_either_way_round(tmp_path, suffix, separator, transpose):
    table = pd.DataFrame(COUNTS.astype(int), index=CELLS, columns=GENES)
    (table.T if transpose else table).to_csv(tmp_path / f"t{suffix}", sep=separator)
    cells = read_cells(tmp_path / f"t{suffix}", ReadConfig(transpose=transpose))
    assert cells.names == tuple(GENES)
    assert cells.adata.obs_names.tolist() == CELLS
    np.testing.assert_array_equal(cells.matrix.toarray(), COUNTS)


@pytest.mark.parametrize("store", [sp.csr_matrix, sp.csc_matrix, sp.csr_array, np.asarray])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_any_matrix_becomes_csr_float32_and_the_users_x_stays_as_it_was(store, dtype):
    adata = make(store(COUNTS.astype(dtype)))
    cells = cells_from_anndata(adata)
    assert isinstance(cells.matrix, sp.csr_matrix)
    assert cells.matrix.dtype == np.float32
    np.testing.assert_array_equal(cells.matrix.toarray(), COUNTS)
    assert type(adata.X) is type(store(COUNTS))
    assert adata.X.dtype == dtype


def test_the_demo_cells_are_read_from_raw_because_x_is_scaled():
    cells = read_cells(find_demo_cells())
    assert (cells.kind, cells.matrix.shape) == (ValueKind.LOG1P, (700, 765))
    assert any("X is scaled" in note and ".raw is used instead" in note for note in cells.notes)
    assert cells.var_rows is None


def test_the_layer_of_counts_wins_over_x_and_what_the_user_names_wins_over_both():
    adata = make(sp.csr_matrix(np.log1p(COUNTS)))
    adata.layers["counts"], adata.layers["other"] = sp.csr_matrix(COUNTS), sp.csr_matrix(COUNTS * 2)
    adata.raw = make(sp.csr_matrix(COUNTS * 3))
    for read, factor in ((ReadConfig(), 1), (ReadConfig(layer="other"), 2), (ReadConfig(use_raw=True), 3)):
        np.testing.assert_array_equal(cells_from_anndata(adata, read).matrix.toarray(), COUNTS * factor)


def test_a_layer_called_counts_that_holds_none_is_passed_over():
    adata = make()
    adata.layers["counts"] = sp.csr_matrix(COUNTS * 40.7)
    np.testing.assert_array_equal(cells_from_anndata(adata).matrix.toarray(), COUNTS)


def test_values_per_million_are_refused_until_the_user_says_what_they_are():
    adata = make(sp.csr_matrix(COUNTS * 40.7))
    with pytest.raises(NotCounts, match=r"RPKM.*values from 0 to 203.5.*--values linear"):
        cells_from_anndata(adata)
    assert cells_from_anndata(adata, ReadConfig(values="linear")).kind == ValueKind.LINEAR
    adata.layers["umi"] = sp.csr_matrix(COUNTS)
    with pytest.raises(NotCounts, match="--layer umi, which holds counts"):
        cells_from_anndata(adata)


@pytest.mark.parametrize("values", ["auto", "counts", "linear", "log1p"])
def test_negative_values_are_refused_whatever_the_user_says(values):
    with pytest.raises(NotCounts, match="-1"):
        cells_from_anndata(make(COUNTS - 1), ReadConfig(values=values))


@pytest.mark.parametrize(
    ("adata", "read", "message"),
    [
        (make(np.where(COUNTS > 3, np.nan, COUNTS)), ReadConfig(), "7 NaN or infinite"),
        (make(COUNTS * 0), ReadConfig(), "nothing but zeros"),
        (make(sp.csr_matrix((0, N_GENES), dtype=np.float32)), ReadConfig(), "0 cells x 8 genes"),
        (make(sp.csr_matrix((N_CELLS, 0), dtype=np.float32)), ReadConfig(), "30 cells x 0 genes"),
        (make(), ReadConfig(layer="umi"), r"no layer 'umi' \(it has: none\)"),
        (make(), ReadConfig(use_raw=True), "has no .raw"),
        (make(types=True), ReadConfig(gene_key="symbol"), r"no column 'symbol' in var \(it has: feature_types\)"),
    ],
)
def test_what_cannot_be_used_is_named_with_the_way_out(adata, read, message):
    with pytest.raises(InputUnusable, match=message):
        cells_from_anndata(adata, read)


def test_names_from_a_column_repeated_names_and_empty_cells():
    adata = make(sp.csr_matrix(COUNTS * (np.arange(N_CELLS) > 0)[:, None]))
    adata.var["symbol"] = ["A", "A", "B", "B", "C", "D", "E", "F"]
    cells = cells_from_anndata(adata, ReadConfig(gene_key="symbol"))
    assert cells.names == ("A", "A", "B", "B", "C", "D", "E", "F")
    assert cells.matrix.shape == (N_CELLS, N_GENES)
    assert any(note.startswith("2 gene names") for note in cells.notes)
    assert any(note.startswith("1 cells have no counts") for note in cells.notes)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".h5ad", ".h5"])
def test_a_file_that_is_cut_off_gives_one_line(tmp_path, suffix, share):
    path = tmp_path / f"cells{suffix}"
    make().write_h5ad(path) if suffix == ".h5ad" else write_10x_h5(path, 3)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputUnusable, match=f"cells{suffix}") as caught:
        read_cells(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.h5ad", None, "does not exist"),
        ("cells.xyz", b"x", "not known; give .h5ad"),
        ("cells.h5ad", b"plain text", "no HDF5 file"),
        ("cells.csv", b"", "cannot be read"),
        ("cells.csv", b"\xff\xfe,a\nb,1\n", "cannot be read"),
        ("cells.csv", b"cell,CD3D,type\nA,1,T\nB,2,B\n", "column 'type' holds text"),
        ("cells.tsv.gz", gzip.compress(b"cell\tCD3D\nA\t1\n" * 99)[:40], "cannot be read"),
        ("cells.loom", b"x", "loompy"),
    ],
)
def test_other_files_that_cannot_be_used(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputUnusable, match=message):
        read_cells(tmp_path / name)


def test_folders_that_are_no_10x_folder_or_lack_a_part(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputUnusable, match=r"without matrix\.mtx"):
        read_cells(tmp_path / "empty")
    write_10x_folder(tmp_path / "cells", 3)
    (tmp_path / "cells" / "features.tsv.gz").unlink()
    with pytest.raises(InputUnusable, match=r"lacks features\.tsv or genes\.tsv"):
        read_cells(tmp_path / "cells")


@pytest.mark.parametrize("name", ["with space.h5ad", "zelle-µ-细胞.h5ad", os.fsdecode(b"latin-\xe9.h5ad")])
def test_any_path_is_read_and_the_input_stays_byte_for_byte(tmp_path, name):
    path = tmp_path / name
    make().write_h5ad(path)
    before = sha256(path)
    np.testing.assert_array_equal(read_cells(path).matrix.toarray(), COUNTS)
    assert sha256(path) == before


def test_writing_keeps_what_the_user_had_and_replaces_only_when_told(tmp_path):
    adata = make()
    adata.obsm["X_mine"], adata.uns["mine"] = COUNTS[:, :2], {"a": 1}
    adata.layers["umi"] = sp.csr_matrix(COUNTS * 2)
    write_cells(adata, tmp_path / "o.h5ad")
    again = anndata.read_h5ad(tmp_path / "o.h5ad")
    np.testing.assert_array_equal(again.obsm["X_mine"], COUNTS[:, :2])
    np.testing.assert_array_equal(again.layers["umi"].toarray(), COUNTS * 2)
    assert again.uns["mine"] == {"a": 1}
    before = sha256(tmp_path / "o.h5ad")
    with pytest.raises(InputUnusable, match=r"exists.*--overwrite"):
        write_cells(make(), tmp_path / "o.h5ad")
    assert sha256(tmp_path / "o.h5ad") == before
    write_cells(make(), tmp_path / "o.h5ad", overwrite=True)
    assert "X_mine" not in anndata.read_h5ad(tmp_path / "o.h5ad").obsm
    assert [path.name for path in tmp_path.iterdir()] == ["o.h5ad"]


@pytest.mark.parametrize("target", ["o.csv", "absent/o.h5ad"])
def test_a_target_that_cannot_be_written_leaves_nothing(tmp_path, target):
    with pytest.raises(InputUnusable, match="o\\."):
        write_cells(make(), tmp_path / target)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_gives_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputUnusable, match="cannot be written"):
        write_cells(make(), tmp_path / "o.h5ad")


def test_a_full_disk_leaves_nothing_and_the_old_file_whole(tmp_path):
    """A limit on the size of files stands in for the full disk; it needs a process of its own."""
    write_cells(make(), tmp_path / "o.h5ad")
    before = sha256(tmp_path / "o.h5ad")
    code = (
        "import resource, sys, anndata, scipy.sparse as sp; from pathlib import Path; "
        "from cellmodel.io import write_cells; from cellmodel.errors import InputUnusable\n"
        "cells = anndata.AnnData(sp.random(2000, 500, 0.3, format='csr', dtype='f4', random_state=0))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try: write_cells(cells, Path(sys.argv[1]), overwrite=True)\n"
        "except InputUnusable as error: print('refused', 'cannot be written' in str(error), flush=True)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "o.h5ad"],
        capture_output=True, text=True, check=False, env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )  # fmt: skip
    assert result.stdout.strip() == "refused True", result.stderr
    assert sha256(tmp_path / "o.h5ad") == before
    assert [path.name for path in tmp_path.iterdir()] == ["o.h5ad"]


def test_every_slot_that_is_taken_is_named_before_any_work():
    adata = make()
    adata.obs["cellmodel"], adata.obsm["X_cellmodel"] = "a", COUNTS[:, :2]
    slots = [("obs", "cellmodel"), ("obsm", "X_cellmodel"), ("uns", "cellmodel")]
    with pytest.raises(SlotTaken, match=r'obs\["cellmodel"\], obsm\["X_cellmodel"\].*--overwrite') as caught:
        claim_slots(adata, slots, overwrite=False)
    assert "uns" not in str(caught.value)
    claim_slots(adata, slots, overwrite=True)
    claim_slots(adata, [("obs", "second")], overwrite=False)


def test_nested_settings_survive_a_real_file(tmp_path):
    read = ReadConfig(layer="umi", transpose=True)
    value = {
        "read": read, 1: "number", "path": Path("a/b.h5ad"), "scalar": np.float32(0.5), "flag": np.bool_(True),
        "pair": (1, 2), "mixed": [1, "a"], "deep": {"deeper": {"x": None}}, "empty": (), "flags": [True, False],
    }  # fmt: skip
    adata = make()
    adata.uns["record"] = h5ad_safe(value)
    adata.write_h5ad(tmp_path / "o.h5ad")
    found = anndata.read_h5ad(tmp_path / "o.h5ad").uns["record"]
    assert found["read"] == {"layer": "umi", "use_raw": False, "gene_key": "", "values": "auto", "transpose": True}
    assert (found["1"], found["path"], found["scalar"], found["flag"]) == ("number", "a/b.h5ad", 0.5, True)
    assert found["pair"].tolist() == [1, 2]
    assert found["mixed"].tolist() == ["1", "a"]
    assert found["deep"] == {"deeper": {"x": ""}}
    assert len(found["empty"]) == 0
    assert found["flags"].tolist() == [True, False]


def test_columns_of_obs_and_totals_of_genes(tmp_path):
    adata = make()
    adata.obs["cell_type"] = pd.Categorical(["T", None, *["B"] * (N_CELLS - 2)])
    adata.write_h5ad(tmp_path / "c.h5ad")
    assert read_obs_columns(tmp_path / "c.h5ad", ["cell_type"])["cell_type"][:3] == ["T", "", "B"]
    with pytest.raises(InputUnusable, match=r"no column 'truth' in obs \(it has: cell_type\)"):
        read_obs_columns(tmp_path / "c.h5ad", ["truth"])
    names, totals = read_gene_totals(tmp_path / "c.h5ad")
    assert names == tuple(GENES)
    np.testing.assert_allclose(totals, COUNTS.sum(axis=0))
    (tmp_path / "names.txt").write_text("CD3D\n\nMS4A1\n")
    assert read_gene_totals(tmp_path / "names.txt")[0] == ("CD3D", "MS4A1")


def test_every_real_file_is_read_or_refused_in_one_line(real_data):
    refused = {}
    for path in sorted(real_data.rglob("*.h5ad")):
        before = sha256(path)
        try:
            cells = read_cells(path)
        except NotCounts as error:
            refused[path.stem] = str(error)
        else:
            assert cells.kind == ValueKind.COUNTS, path
            assert len(cells.names) == cells.matrix.shape[1]
        assert sha256(path) == before
    assert set(refused) == {"not_counts_rpkm", "usoskin_150"}
    assert all("--values linear" in line and "\n" not in line for line in refused.values())
