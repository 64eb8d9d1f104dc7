import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import genekb
from cellmodel.core.device import Compute
from cellmodel.core.errors import InputUnusable, NotAvailable, TrainingDiverged
from cellmodel.nn.distributed import RESTARTS, run_together
from cellmodel.recipes import fused
from cellmodel.recipes.base import CellViews
from cellmodel.recipes.registry import check_compute, find_recipe
from cellmodel.tl._demo import find_demo_cells
from tests.support.processes import start
from tests.support.worker_tasks import diverging, gradient, killed, own_sum

TWO = Compute(engine="ddp", n_workers=2)


@pytest.mark.slow
def test_rows_come_back_in_their_order_and_the_first_worker_answers():
    values = np.arange(14.0).reshape(7, 2)
    rank, n_own, gathered = run_together(own_sum, arrays={"values": values}, settings={"factor": 3.0}, compute=TWO)
    assert (rank, n_own) == (0, 4)
    np.testing.assert_array_equal(gathered, 3 * values)


@pytest.mark.slow
def test_gradients_of_the_own_rows_add_up_to_that_of_the_whole_batch():
    x = np.random.default_rng(0).standard_normal((5, 3)) / 4
    weights = torch.arange(6, dtype=torch.float64).reshape(3, 2).requires_grad_()
    z = torch.from_numpy(x) @ weights
    torch.logsumexp((z @ z.T).flatten(), dim=0).backward()
    found = run_together(gradient, arrays={"x": x}, settings={}, compute=TWO)
    np.testing.assert_allclose(found, weights.grad.numpy(), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "error"), [("ddp", "BrokenProcessPool"), pytest.param("ray", "ActorDiedError", marks=pytest.mark.slow)]
)
def test_a_killed_worker_is_replaced_and_the_work_begins_again(engine, error, tmp_path, caplog):
    settings = {"folder": str(tmp_path), "times": 1}
    compute = Compute(engine=engine, n_workers=2)
    assert run_together(killed, arrays={}, settings=settings, compute=compute) == 1
    assert f"a training worker was lost ({error}), attempt 1 of {RESTARTS + 1}" in caplog.text


@pytest.mark.slow
def test_workers_that_never_live_end_in_one_line(tmp_path):
    with pytest.raises(NotAvailable, match=r"lost 3 times, .* use fewer workers or --engine local"):
        run_together(killed, arrays={}, settings={"folder": str(tmp_path), "times": 9}, compute=TWO)


@pytest.mark.slow
def test_an_error_of_the_task_is_not_tried_again():
    with pytest.raises(TrainingDiverged, match="step 3: infinite"):
        run_together(diverging, arrays={}, settings={}, compute=TWO)


def cells(n_cells=300):
    rng = np.random.default_rng(0)
    shared = np.repeat(rng.standard_normal((3, 4)), n_cells // 3, axis=0) + 0.1 * rng.standard_normal((n_cells, 4))
    smoothed, text = (shared @ rng.standard_normal((4, dim)) for dim in (6, 8))
    empty = np.zeros((n_cells, 1), dtype=np.float32)
    return CellViews(
        expression=empty, pcs=empty, graph=empty, knn=empty, depth=empty, smoothed=smoothed.astype(np.float32),
        text=(text / np.linalg.norm(text, axis=1, keepdims=True)).astype(np.float32),
    )  # fmt: skip


def test_epochs_are_told_by_one_process_alone():
    with pytest.raises(ValueError, match="epochs are reported by engine 'local' alone, not by 'ddp'"):
        fused.represent(replace(cells(), compute=TWO), 0, on_epoch=lambda *_: None)


@pytest.mark.parametrize("engine", ["ddp", pytest.param("ray", marks=pytest.mark.slow)])
def test_two_workers_train_the_same_model_as_one(engine):
    views = cells()
    alone = fused.represent(views, 0)
    together = fused.represent(replace(views, compute=Compute(engine=engine, n_workers=2)), 0)
    assert np.abs(together.z_joint - alone.z_joint).max() < 1e-4
    np.testing.assert_allclose(together.history[-1]["align"], alone.history[-1]["align"], rtol=1e-3)


def test_blocks_of_rows_and_files_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(fused, "TRAINING", replace(fused.TRAINING, n_steps=3))
    views, mapped = cells(), {}
    whole = fused.represent(views, 0)
    for name in ("smoothed", "text"):
        np.save(tmp_path / f"{name}.npy", getattr(views, name))
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    np.testing.assert_array_equal(fused.represent(replace(views, **mapped), 0).z_joint, whole.z_joint)
    monkeypatch.setattr(fused, "BLOCK_CELLS", 64)
    in_blocks = fused.represent(views, 0)
    np.testing.assert_allclose(in_blocks.z_joint, whole.z_joint, atol=1e-5)
    np.testing.assert_allclose(in_blocks.state["shift"], views.smoothed.mean(axis=0, dtype=np.float64), atol=1e-6)
    np.testing.assert_allclose(in_blocks.state["scale"], [views.smoothed.std(axis=0).max()], rtol=1e-6)


def test_recipes_that_read_the_whole_graph_refuse_workers():
    with pytest.raises(InputUnusable, match="'scrcl' cannot be trained by engine 'ddp'; fused can, or use --engine lo"):
        check_compute(find_recipe("scrcl"), TWO)
    check_compute(find_recipe("fused"), TWO)


def training_workers(process):
    """Processes that a command has started to train."""
    found = []
    for children in Path(f"/proc/{process.pid}/task").glob("*/children"):
        for child in children.read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="workers are found in /proc")
def test_a_worker_killed_from_outside_does_not_stop_a_command(tmp_path):
    config = genekb.BuildConfig(name="demo", models=("lsa-128",))
    store = genekb.build(genekb.read_demo_table(), config, home=tmp_path).folder
    target = tmp_path / "out.h5ad"
    command = start("cellmodel", "embed", find_demo_cells(), "--kb", store, "--engine", "ddp", "-o", target)
    while command.poll() is None and len(found := training_workers(command)) < 2:
        time.sleep(0.05)
    os.kill(found[1], signal.SIGKILL)
    _, err = command.communicate(timeout=500)
    assert command.returncode == 0, err
    assert f"a training worker was lost (BrokenProcessPool), attempt 1 of {RESTARTS + 1}" in err
    assert target.is_file()
