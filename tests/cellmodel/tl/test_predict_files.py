"""Many files against one model: equal by both engines, kept when it is run again, whole after a kill."""

import os
import signal
import time

import numpy as np
import pytest

from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import cells_from_anndata
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.tl._run.pipeline import run
from cellmodel.tl.model.fitted import fit_model, save_model
from cellmodel.tl.model.predict_files import PredictConfig, predict_files
from genekb.builder.engine import EngineConfig
from tests.support.demo import demo_cells
from tests.support.in_process import call, call_json
from tests.support.processes import start


@pytest.fixture(scope="module")
def cohort(demo_kb, tmp_path_factory):
    """A model, and four files with parts of the demo's other cells."""
    folder = tmp_path_factory.mktemp("cohort")
    adata = demo_cells()
    order = np.random.default_rng(0).permutation(adata.n_obs)
    cells = cells_from_anndata(adata[order[:400]].copy())
    save_model(fit_model(cells, run(cells, demo_kb, RunConfig(n_words=0))), folder / "model")
    for number, part in enumerate(np.array_split(order[400:], 4)):
        adata[np.sort(part)].copy().write_h5ad(folder / f"donor{number}.h5ad")
    return folder


def config_of(cohort, kb, **more):
    return PredictConfig(model=cohort / "model", store=kb.folder, **more)


def files_of(cohort):
    return sorted(cohort.glob("donor*.h5ad"))


def stored(folder):
    """All that a prediction writes, by file."""
    read = {path.stem: read_anndata(path) for path in sorted(folder.glob("*.h5ad"))}
    keys = ("cellmodel", "cellmodel_confidence")
    return {
        name: (*(cells.obs[key].tolist() for key in keys), cells.obsm["X_cellmodel"].tobytes())
        for name, cells in read.items()
    }


@pytest.fixture(scope="module")
def local(cohort, demo_kb):
    rows = list(predict_files(files_of(cohort), cohort / "local", config_of(cohort, demo_kb)))
    assert [(row.output.name, row.is_kept) for row in rows] == [(path.name, False) for path in files_of(cohort)]
    return stored(cohort / "local")


def test_each_file_is_as_the_command_alone_writes_it(cohort, local, demo_home, tmp_path):
    one = tmp_path / "one.h5ad"
    args = ["--model", cohort / "model", "--kb", "demo", "--home", demo_home, "-o", one]
    call_json("cellmodel", "predict", cohort / "donor2.h5ad", *args)
    labels, confidence, embedding = stored(tmp_path)["one"]
    assert (labels, confidence) == local["donor2"][:2]
    np.testing.assert_allclose(np.frombuffer(embedding), np.frombuffer(local["donor2"][2]), rtol=1e-5)


def test_what_is_there_is_kept_until_input_model_or_settings_change(cohort, local, demo_kb, tmp_path):
    paths = []
    for path in files_of(cohort):
        paths.append(tmp_path / path.name)
        paths[-1].write_bytes(path.read_bytes())
    config, out = config_of(cohort, demo_kb), tmp_path / "out"
    list(predict_files(paths[:3], out, config))
    before = {path.name: path.stat().st_ino for path in out.iterdir()}
    assert [row.is_kept for row in predict_files(paths, out, config)] == [True, True, True, False]
    assert {name: (out / name).stat().st_ino for name in before} == before
    assert stored(out) == local
    os.utime(paths[0])
    with pytest.raises(InputUnusable, match=r"donor0\.h5ad exists"):
        list(predict_files(paths, out, config))
    again = list(predict_files(paths, out, config_of(cohort, demo_kb, overwrite=True)))
    assert {row.input.name for row in again if not row.is_kept} == {"donor0.h5ad"}


def test_a_file_that_cannot_be_read_costs_no_other(cohort, demo_kb, tmp_path):
    broken = tmp_path / "broken.h5ad"
    broken.write_bytes(b"not cells")
    done = []
    with pytest.raises(InputUnusable, match=r"1 of 3 files could not be predicted, the others are written; .*broken"):
        done.extend(predict_files([broken, *files_of(cohort)[:2]], tmp_path / "out", config_of(cohort, demo_kb)))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"donor0.h5ad", "donor1.h5ad"}


def test_several_files_go_to_a_folder_and_one_by_one_engine(cohort, demo_home, tmp_path):
    args = ["--model", cohort / "model", "--kb", "demo", "--home", demo_home]
    code, _, err = call("cellmodel", "predict", *files_of(cohort), *args, "-o", tmp_path / "o.h5ad")
    assert (code, "4 files are written to a folder: --output FOLDER" in err) == (2, True)
    code, _, err = call(
        "cellmodel", "predict", files_of(cohort)[0], *args, "-o", tmp_path / "o.h5ad", "--engine", "ray"
    )
    assert (code, "are for several files" in err) == (2, True)
    told = call_json("cellmodel", "predict", *files_of(cohort), *args, "-o", tmp_path / "out")
    assert sum(file["n_cells"] for file in told["files"]) == 300
    assert not list(tmp_path.glob("o.h5ad"))


@pytest.mark.slow
def test_a_killed_run_leaves_whole_files_and_goes_on(cohort, local, demo_home, tmp_path):
    args = ["--model", cohort / "model", "--kb", "demo", "--home", demo_home, "-o", tmp_path / "out"]
    process = start("cellmodel", "predict", *files_of(cohort), *args)
    while not (tmp_path / "out" / "donor0.h5ad").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    told = call_json("cellmodel", "predict", *files_of(cohort), *args)
    assert told["files"][0]["is_kept"]
    assert stored(tmp_path / "out") == local


@pytest.mark.slow
def test_ray_writes_the_same(cohort, local, demo_kb, tmp_path):
    pytest.importorskip("ray")
    engine = EngineConfig(name="ray", workers=2)
    rows = list(predict_files(files_of(cohort), tmp_path / "ray", config_of(cohort, demo_kb), engine))
    assert {row.input for row in rows} == set(files_of(cohort))
    assert stored(tmp_path / "ray") == local
    again = list(predict_files(files_of(cohort), tmp_path / "ray", config_of(cohort, demo_kb), engine))
    assert all(row.is_kept for row in again)
