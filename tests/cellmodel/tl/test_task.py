"""One task in memory and from file to file: the same slots, nothing else touched, refused before any work."""

import anndata as ad
import numpy as np
import pytest

from cellmodel.core.errors import InputUnusable, SlotTaken
from cellmodel.io.cells import ReadConfig, cells_from_anndata
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.io.writers import WriteConfig
from cellmodel.tl._run.task import Task, run_on_cells, run_on_file


@pytest.fixture
def adata():
    counts = np.random.default_rng(0).poisson(2, size=(12, 5)).astype(np.float32)
    found = ad.AnnData(counts)
    found.obs["kept"] = "as it is"
    return found


@pytest.fixture
def asked():
    return []


@pytest.fixture
def task(asked):
    class SumJob(Task):
        def slots(self, key_added):
            return [("obs", f"{key_added}_total"), ("obsm", f"X_{key_added}"), ("uns", key_added)]

        def compute(self, cells, stages):
            asked.append(cells.shape)
            return cells.matrix.sum(axis=1)

        def values(self, cells, result, key_added):
            record = {"source": cells.source, "n": len(result)}
            return {("obs", f"{key_added}_total"): np.asarray(result).ravel(), ("uns", key_added): record}

    return SumJob()


def test_slots_are_named_by_the_key_and_none_writes_none(adata, task):
    run_on_cells(cells_from_anndata(adata), task, key_added="sums")
    np.testing.assert_array_equal(adata.obs["sums_total"], adata.X.sum(axis=1))
    assert dict(adata.uns["sums"]) == {"source": "AnnData in memory", "n": 12}
    assert (list(adata.obs), list(adata.obsm)) == (["kept", "sums_total"], [])


def test_a_taken_slot_is_refused_before_any_work(adata, task, asked):
    run_on_cells(cells_from_anndata(adata), task, key_added="sums")
    with pytest.raises(SlotTaken, match="sums_total"):
        run_on_cells(cells_from_anndata(adata), task, key_added="sums")
    assert len(asked) == 1
    run_on_cells(cells_from_anndata(adata), task, key_added="sums", overwrite=True)
    assert len(asked) == 2


def test_a_file_gets_the_same_slots_and_what_is_written_beside(adata, task, tmp_path, asked):
    adata.write_h5ad(tmp_path / "in.h5ad")
    write = WriteConfig(output=tmp_path / "out.h5ad", key_added="sums")
    found = run_on_file(tmp_path / "in.h5ad", task, read=ReadConfig(), write=write)
    np.testing.assert_array_equal(read_anndata(tmp_path / "out.h5ad").obs["sums_total"], np.asarray(found).ravel())
    with pytest.raises(InputUnusable, match="overwrite=True"):
        run_on_file(tmp_path / "in.h5ad", task, read=ReadConfig(), write=write)
    assert len(asked) == 1
    run_on_file(tmp_path / "in.h5ad", task, read=ReadConfig(), write=None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.h5ad", "out.h5ad"]
