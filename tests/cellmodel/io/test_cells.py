"""Cell files as users have them: written here by hand, compared with scanpy where it reads them too."""

import gzip
import hashlib
import os

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.io import mmwrite

from cellmodel.core.errors import InputUnusable, NotCounts, SlotTaken
from cellmodel.core.stages import Stages
from cellmodel.io.backed import open_backed
from cellmodel.io.cells import ReadConfig, cells_from_anndata, obs_categories, read_cells, read_obs_columns
from cellmodel.io.gene_names import read_gene_totals
from cellmodel.io.matrix import ValueKind
from cellmodel.io.writers import claim_slots
from cellmodel.pp.blocks import read_backed_cells
from cellmodel.pp.features import scan_cells
from tests.support.demo import demo_file

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


def write_10x_folder(folder, version, prefix=""):
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
    for path in list(folder.iterdir()):
        if version == 3:
            path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.rename(folder / f"{prefix}{path.name}{'.gz' if version == 3 else ''}")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("form", ["h5", "folder", "folder of GEO"])
@pytest.mark.filterwarnings("ignore::FutureWarning:scanpy", "ignore::FutureWarning:anndata")
def test_10x_of_both_versions_reads_as_scanpy_reads_it_and_keeps_other_features_for_the_output(tmp_path, version, form):
    import scanpy as sc

    if form == "h5":
        write_10x_h5(path := tmp_path / "cells.h5", version)
        theirs = sc.read_10x_h5(path, gex_only=True)
    else:
        prefix = "GSM1_" if form == "folder of GEO" else ""
        write_10x_folder(path := tmp_path / "cells", version, prefix)
        theirs = sc.read_10x_mtx(path, gex_only=True, prefix=prefix)
    ours = read_cells(path)
    assert list(ours.names) == theirs.var_names.tolist()
    assert ours.adata.obs_names.tolist() == theirs.obs_names.tolist()
    np.testing.assert_array_equal(ours.matrix.toarray(), theirs.X.toarray())
    assert ours.adata.n_vars == N_GENES
    assert ours.adata.var_names[ours.var_rows].tolist() == theirs.var_names.tolist()


def test_spike_ins_are_in_no_total_and_no_choice_of_genes_and_stay_in_the_file(tmp_path):
    names = ["ERCC1", "ERCC-00002", "ERCC_15000:mix1", "SIRV101", "RNA_SPIKE_4", "SPIDR", "LYZ", "CD3D"]
    adata = anndata.AnnData(sp.csr_matrix(COUNTS), obs=pd.DataFrame(index=CELLS), var=pd.DataFrame(index=names))
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = open_backed(tmp_path / "cells.h5ad", ReadConfig())
    for cells in (
        cells_from_anndata(adata),
        read_backed_cells(backed, ReadConfig(), Stages(tmp_path / "work", key={})),
    ):
        assert cells.names == ("ERCC1", "SPIDR", "LYZ", "CD3D")
        np.testing.assert_array_equal(scan_cells(cells).depth, COUNTS[:, [0, 5, 6, 7]].sum(axis=1))
        assert any(note.startswith("4 spike-in controls left out") for note in cells.notes)
        assert cells.var_rows.tolist() == [0, 5, 6, 7]
        assert cells.adata.n_vars == N_GENES
    with pytest.raises(InputUnusable, match="spike-in controls alone"):
        cells_from_anndata(adata[:, 1:5].copy())


@pytest.mark.parametrize("transpose", [False, True])
def test_a_table_is_read_some_rows_at_a_time(tmp_path, monkeypatch, transpose):
    monkeypatch.setattr("cellmodel.io.formats.tables._FIELDS", 8)  # two rows of three fields
    table = pd.DataFrame(
        [[0, 2, 1], [1, 0, 0], [3, 4, 5], [0, 0, 0], [0, 0, 7]], index=list("abcde"), columns=["CD3D", "LYZ", "NKG7"]
    )
    (table.T if transpose else table).to_csv(tmp_path / "t.csv")
    cells = read_cells(tmp_path / "t.csv", ReadConfig(transpose=transpose))
    pd.testing.assert_frame_equal(cells.adata.to_df(), table.astype(np.float32))
    (tmp_path / "t.csv").write_text("cell,CD3D,LYZ,NKG7\na,0,2,1\nb,1,0,0\nc,0,x,1\n")
    with pytest.raises(InputUnusable, match="column 'LYZ' holds 'x', which is no number"):
        read_cells(tmp_path / "t.csv", ReadConfig(transpose=transpose))


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t"), (".tsv.gz", "\t"), (".csv.gz", ",")])
@pytest.mark.parametrize("transpose", [False, True])
def test_text_tables_either_way_round_with_names_as_they_stand(tmp_path, suffix, separator, transpose):
    names = ["CD3D", "CD3D", "NA", "nan", "", "CD3D.1", "1.0", '"q" x']
    table = pd.DataFrame(COUNTS.astype(int), index=CELLS, columns=names)
    (table.T if transpose else table).to_csv(tmp_path / f"t{suffix}", sep=separator)
    cells = read_cells(tmp_path / f"t{suffix}", ReadConfig(transpose=transpose))
    assert cells.names == tuple(names)
    assert cells.adata.obs_names.tolist() == CELLS
    np.testing.assert_array_equal(cells.matrix.toarray(), COUNTS)


def test_a_text_table_of_r_whose_header_names_only_the_columns(tmp_path):
    (tmp_path / "t.tsv").write_text('"CD3D"\t"LYZ"\n"a"\t1\t2\n"b"\t3\t0\n')
    cells = read_cells(tmp_path / "t.tsv")
    assert (*cells.names, *cells.adata.obs_names) == ("CD3D", "LYZ", "a", "b")
    np.testing.assert_array_equal(cells.matrix.toarray(), [[1, 2], [3, 0]])


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


def test_the_layer_of_counts_wins_over_x_and_what_the_user_names_wins_over_both():
    adata = make(sp.csr_matrix(np.log1p(COUNTS)))
    adata.layers["counts"], adata.layers["other"] = sp.csr_matrix(COUNTS), sp.csr_matrix(COUNTS * 2)
    adata.raw = make(sp.csr_matrix(COUNTS * 3))
    for read, factor in ((ReadConfig(), 1), (ReadConfig(layer="other"), 2), (ReadConfig(use_raw=True), 3)):
        np.testing.assert_array_equal(cells_from_anndata(adata, read).matrix.toarray(), COUNTS * factor)


@pytest.mark.parametrize("in_raw", [False, True])
def test_features_that_are_no_genes_do_not_decide_the_kind(in_raw):
    mixed = COUNTS.copy()
    mixed[:, 6:] -= 2.5
    adata = make(mixed, types=True)
    if in_raw:
        adata.raw = adata
        adata.X = COUNTS - 1
    cells = cells_from_anndata(adata)
    assert cells.kind == ValueKind.COUNTS
    np.testing.assert_array_equal(cells.matrix.toarray(), COUNTS[:, :6])


def test_an_adata_that_stays_in_its_file_is_read_from_it(tmp_path):
    make().write_h5ad(tmp_path / "a.h5ad")
    adata = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    cells = cells_from_anndata(adata)
    assert cells.adata is adata
    np.testing.assert_array_equal(cells.matrix.toarray(), COUNTS)
    adata.file.close()


@pytest.mark.parametrize("wrong", [{"values": "tpm"}, {"values": "scaled"}, {"layer": "umi", "use_raw": True}])
def test_settings_that_cannot_be_are_refused_when_made(wrong):
    with pytest.raises(ValueError, match=r"tpm|scaled|umi"):
        ReadConfig(**wrong)


@pytest.mark.parametrize("values", ["auto", "counts", "linear", "log1p"])
def test_negative_values_are_refused_whatever_the_user_says(values):
    with pytest.raises(NotCounts, match="-1"):
        cells_from_anndata(make(COUNTS - 1), ReadConfig(values=values))


@pytest.mark.parametrize("shape", [(0, N_GENES), (N_CELLS, 0)], ids=str)
def test_no_cells_and_no_genes_are_refused(shape):
    with pytest.raises(InputUnusable, match=f"{shape[0]} cells x {shape[1]} genes"):
        cells_from_anndata(make(sp.csr_matrix(shape, dtype=np.float32)))


@pytest.mark.parametrize("missing", [None, np.nan, ""])
@pytest.mark.parametrize("dtype", ["object", "category"])
def test_names_from_a_column_may_repeat_and_a_gene_without_one_keeps_its_own(missing, dtype):
    adata = make()
    adata.var["symbol"] = pd.Series(["A", missing, *"ABBCDE"], index=GENES, dtype=dtype)
    cells = cells_from_anndata(adata, ReadConfig(gene_key="symbol"))
    assert cells.names == ("A", GENES[1], *"ABBCDE")
    assert any(note.startswith("2 gene names occur") for note in cells.notes)
    assert any(note.startswith("1 gene has no 'symbol'") for note in cells.notes)


def test_a_cell_of_zeros_is_empty_stored_or_not():
    stored = sp.csr_matrix(COUNTS)
    stored.data[: stored.indptr[1]] = 0
    for matrix in (stored, sp.csr_matrix(stored.toarray())):
        assert any(note.startswith("1 cell has no counts") for note in cells_from_anndata(make(matrix)).notes)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cells.xyz", b"x", "not known; give .h5ad"),
        ("cells.tsv.gz", gzip.compress(b"cell\tCD3D\nA\t1\n" * 99, mtime=0)[:40], "cannot be read"),
        ("cells.csv.gz", gzip.compress(b"cell,CD3D\nA,1\n" * 99, mtime=0)[:20] + bytes(30), "cannot be read"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, message):
    """Many more are in tests/data/bad/cells.toml."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputUnusable, match=message):
        read_cells(tmp_path / name)


def test_an_index_of_10x_that_points_out_of_the_matrix_is_found_before_scipy_follows_it(tmp_path):
    write_10x_h5(tmp_path / "cells.h5", 3)
    with h5py.File(tmp_path / "cells.h5", "r+") as file:
        file["matrix/indices"][0] = 2**30
    with pytest.raises(InputUnusable, match=r"cannot be read.*indices"):
        read_cells(tmp_path / "cells.h5")


def test_a_bug_of_ours_is_no_damaged_file(tmp_path, monkeypatch):
    (tmp_path / "cells.csv").write_text("cell,CD3D\nA,1\n")
    monkeypatch.setattr("cellmodel.io.formats.tables.open_text", None)
    with pytest.raises(TypeError):
        read_cells(tmp_path / "cells.csv")


@pytest.mark.parametrize("name", ["with space.h5ad", "zelle-µ-细胞.h5ad", os.fsdecode(b"latin-\xe9.h5ad")])
def test_any_path_is_read_and_the_input_stays_byte_for_byte(tmp_path, name):
    path = tmp_path / name
    make().write_h5ad(path)
    before = sha256(path)
    cells = read_cells(path)
    np.testing.assert_array_equal(cells.matrix.toarray(), COUNTS)
    assert cells.source.encode().decode() == cells.source
    assert sha256(path) == before


def test_every_slot_that_is_taken_is_named_before_any_work():
    adata = make()
    adata.obs["cellmodel"], adata.obsm["X_cellmodel"] = "a", COUNTS[:, :2]
    slots = [("obs", "cellmodel"), ("obsm", "X_cellmodel"), ("uns", "cellmodel")]
    with pytest.raises(SlotTaken, match=r'obs\["cellmodel"\], obsm\["X_cellmodel"\].*overwrite=True') as caught:
        claim_slots(adata, slots, overwrite=False)
    assert "uns" not in str(caught.value)
    claim_slots(adata, slots, overwrite=True)
    claim_slots(adata, [("obs", "second")], overwrite=False)


def test_columns_of_obs_are_read_as_text(tmp_path):
    adata = make()
    adata.obs["cell_type"] = pd.Categorical(["T", None, *["B"] * (N_CELLS - 2)])
    adata.obs["flag"] = pd.array([True, None, *[False] * (N_CELLS - 2)], dtype="boolean")
    adata.write_h5ad(tmp_path / "c.h5ad")
    assert read_obs_columns(tmp_path / "c.h5ad", ["cell_type"])["cell_type"][:3] == ["T", "", "B"]
    assert read_obs_columns(tmp_path / "c.h5ad", ["flag"])["flag"][:3] == ["True", "", "False"]
    with pytest.raises(InputUnusable, match=r"no column 'truth' in obs \(it has: cell_type, flag\)"):
        read_obs_columns(tmp_path / "c.h5ad", ["truth"])


def test_the_totals_are_those_of_the_matrix_that_a_run_uses(tmp_path):
    adata = make()
    adata.raw = make(sp.csr_matrix(COUNTS * 3))
    adata.write_h5ad(tmp_path / "x.h5ad")
    read_cells(demo_file()).adata.write_h5ad(tmp_path / "scaled.h5ad")
    for path in (tmp_path / "x.h5ad", tmp_path / "scaled.h5ad"):
        cells, (names, totals) = read_cells(path), read_gene_totals(path)
        assert names == cells.names
        np.testing.assert_allclose(totals, np.asarray(cells.matrix.sum(axis=0)).ravel(), rtol=1e-5)


def test_a_matrix_that_a_run_refuses_still_gives_names_and_weights(tmp_path):
    make(values := np.where(COUNTS == 3, np.nan, COUNTS - 1.5)).write_h5ad(tmp_path / "x.h5ad")
    names, totals = read_gene_totals(tmp_path / "x.h5ad")
    assert names == tuple(GENES)
    np.testing.assert_allclose(totals, np.nansum(np.abs(values), axis=0))


def test_names_of_genes_are_read_from_a_list(tmp_path):
    for name, write in {"names.txt": bytes, "names.txt.gz": gzip.compress}.items():
        (tmp_path / name).write_bytes(write(b"CD3D\n\nMS4A1\n"))
        assert read_gene_totals(tmp_path / name)[0] == ("CD3D", "MS4A1")
    (tmp_path / "names.txt").write_bytes(b"CD3D\n\xff\n")
    with pytest.raises(InputUnusable, match="UTF-8"):
        read_gene_totals(tmp_path / "names.txt")


def has_whole_numbers(path):
    with h5py.File(path) as file:
        values = (file["X"] if isinstance(file["X"], h5py.Dataset) else file["X/data"])[:]
    return bool(np.all(values == np.round(values)))


@pytest.mark.slow
def test_every_real_file_is_read_or_refused_in_one_line(real_data):
    paths, refused, logged = sorted(real_data.rglob("*.h5ad")), {}, []
    for path in paths:
        before = sha256(path)
        try:
            cells = read_cells(path)
        except NotCounts as error:
            refused[path.stem] = str(error)
        else:
            doubted = [note for note in cells.notes if "doubtful as log1p" in note]
            assert cells.kind == (ValueKind.LOG1P if doubted else ValueKind.COUNTS), path
            logged += [path.stem] * bool(doubted)
            assert len(cells.names) == cells.matrix.shape[1]
        assert sha256(path) == before
    assert {"not_counts_rpkm", "usoskin_150"} <= set(refused)
    assert logged == ["ginhoux_dc_248"]  # log2 of normalized expression
    assert {*refused, *logged} == {path.stem for path in paths if not has_whole_numbers(path)}
    assert all('values="linear"' in line and "\n" not in line for line in refused.values())


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["d10", "d2", "d2", "d10"], ("d2", "d10")),
        (np.array([10, 2, 2, 10]), ("2", "10")),
        (np.array([1.5, 0.5, 0.5, 1.5]), ("0.5", "1.5")),
        (np.array([True, False, True, True]), ("False", "True")),
        (pd.Categorical(["b", "a", "b", "a"], categories=["b", "unused", "a"]), ("b", "a")),
        (["one", "one", "one"], ("one",)),
    ],
)
def test_a_column_of_obs_is_read_as_categories(values, names):
    adata = anndata.AnnData(obs=pd.DataFrame({"donor": values}, index=[f"c{row}" for row in range(len(values))]))
    found = obs_categories(adata, "donor", source="cells.h5ad")
    assert found.names == names
    assert [found.names[code] for code in found.codes] == [str(value) for value in values]
    assert found.n_cells.tolist() == [[str(value) for value in values].count(name) for name in names]
