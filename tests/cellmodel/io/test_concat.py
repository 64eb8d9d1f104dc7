"""Tables of cells of several files as one: samples, names of cells, and columns of obs of every type."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from cellmodel.core.errors import InputUnusable, SlotTaken
from cellmodel.io.concat import JoinConfig, check_files, join_tables, name_samples

PATHS = (Path("one.h5ad"), Path("two.h5ad"))


def joined(*tables, paths=PATHS, obsm=None, **join):
    notes = []
    parts = [anndata.AnnData(obs=pd.DataFrame(table, index=index)) for table, index in tables]
    for part, arrays in zip(parts, obsm or [{}] * len(parts), strict=True):
        for key, array in arrays.items():
            part.obsm[key] = array
    return join_tables(parts, paths=paths, join=JoinConfig(**join), notes=notes), notes


@pytest.mark.parametrize(
    ("paths", "samples"),
    [
        (("a.h5ad", "b.csv.gz", "c"), ("a", "b", "c")),
        (("d1/outs/filtered.h5", "d2/outs/filtered.h5"), ("d1", "d2")),
        (("x/a.h5ad", "x/b.h5ad"), ("a", "b")),
        (
            ("ctrl/d1/matrix", "ctrl/d2/matrix", "stim/d1/matrix", "stim/d2/matrix"),
            ("ctrl_d1", "ctrl_d2", "stim_d1", "stim_d2"),
        ),
    ],
)
def test_samples_are_named_by_files_or_by_the_folders_that_differ(paths, samples):
    assert name_samples([Path(path) for path in paths]) == samples


def test_files_of_one_name_and_a_file_given_twice_are_refused(tmp_path):
    with pytest.raises(InputUnusable, match=r"2 files are named 'a'.*sample_key=.COLUMN"):
        check_files([Path("x/a.h5ad"), Path("x/a.h5"), Path("x/b.h5ad")], JoinConfig())
    path = tmp_path / "a.h5ad"
    path.touch()
    (tmp_path / "link.h5ad").symlink_to(path)
    with pytest.raises(InputUnusable, match=r"link\.h5ad is given twice"):
        check_files([path, tmp_path / "link.h5ad"], JoinConfig(sample_key="donor"))


def test_all_columns_are_kept_with_their_types(tmp_path):
    one = {"n": [1, 2], "x": [0.5, 1.5], "ok": [True, False], "kind": pd.Categorical(["b", "a"], categories=["b", "a"])}
    two = {"n": [3], "kind": pd.Categorical(["c"]), "mine": ["z"], "clash": [3]}
    cells, notes = joined((one | {"clash": ["t", "u"], "only": [7, 8]}, ["c1", "c2"]), (two, ["c3"]))
    obs = cells.obs
    assert obs["sample"].tolist() == ["one", "one", "two"]
    assert obs["sample"].cat.categories.tolist() == ["one", "two"]
    assert obs["n"].tolist() == [1, 2, 3]
    assert obs["n"].dtype == np.int64
    assert obs["x"].isna().tolist() == [False, False, True]
    assert str(obs["only"].dtype) == "Int64"
    assert str(obs["ok"].dtype) == "boolean"
    assert obs["kind"].astype(str).tolist() == ["b", "a", "c"]
    assert obs["clash"].tolist() == ["t", "u", "3"]
    assert notes == ["columns of obs that are text in one file and numbers in another became text: clash"]
    cells.write_h5ad(tmp_path / "all.h5ad")
    assert set(anndata.read_h5ad(tmp_path / "all.h5ad").obs) == {"sample", *one, "mine", "clash", "only"}


def test_names_of_cells_are_unique_and_stay_where_they_are():
    names, _ = joined(({}, ["c1", "c2"]), ({}, ["c3"]))
    assert names.obs_names.tolist() == ["c1", "c2", "c3"]
    suffixed, notes = joined(({}, ["c1", "c2"]), ({}, ["c1", "c3"]))
    assert suffixed.obs_names.tolist() == ["c1-one", "c2-one", "c1-two", "c3-two"]
    assert "1 cell name is in more than one file" in notes[0]


def test_a_column_with_the_samples_must_be_in_all_files_and_is_never_replaced_unasked():
    donors = ({"donor": ["d1", "d2"]}, ["c1", "c2"]), ({"donor": ["d1", "d2"]}, ["c3", "c4"])
    assert "sample" not in joined(*donors, sample_key="donor")[0].obs
    with pytest.raises(InputUnusable, match=r"two\.h5ad has no column 'donor' in obs .*sample_key=.auto"):
        joined(donors[0], ({"other": [1]}, ["c3"]), sample_key="donor")
    with pytest.raises(InputUnusable, match="have no sample in 'donor'"):
        joined(donors[0], ({"donor": ["d1", None]}, ["c3", "c4"]), sample_key="donor")
    own = ({"sample": ["s1", "s2"]}, ["c1", "c2"]), ({"sample": ["s3", "s3"]}, ["c3", "c4"])
    with pytest.raises(SlotTaken, match=r"one\.h5ad already has a column 'sample'.*sample_key=.sample"):
        joined(*own)
    assert joined(*own, overwrite=True)[0].obs["sample"].tolist() == ["one", "one", "two", "two"]


def test_obsm_is_kept_where_all_files_have_it():
    obsm = [{"X_scVI": np.ones((2, 3)), "spatial": np.ones((2, 2))}, {"X_scVI": np.zeros((1, 3))}]
    cells, notes = joined(({}, ["c1", "c2"]), ({}, ["c3"]), obsm=obsm)
    assert cells.obsm["X_scVI"].tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    assert list(cells.obsm) == ["X_scVI"]
    assert notes == ["obsm 'spatial' is left out: not all files have it as an array of one width"]
