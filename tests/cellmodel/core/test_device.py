from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from cellmodel.annotate import classify
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import NotAvailable
from cellmodel.nn.train import TrainConfig, device_used, find_device
from cellmodel.recipes import graph_training, lowsample, scllm_dsc, scrcl, scsiameseclu
from cellmodel.recipes.registry import find_recipe
from tests.support.elsewhere import Elsewhere, second_device
from tests.support.views import grouped_views

TRAINED = ("lowsample", "scllm-dsc", "scrcl", "scrcl-text", "scsiameseclu")
CHOOSERS = (lowsample, scllm_dsc, scrcl, scsiameseclu)


@pytest.fixture(scope="module")
def views():
    return grouped_views(sizes=(20, 20, 20))[0]


@pytest.mark.parametrize("name", [*TRAINED[:-1], pytest.param(TRAINED[-1], marks=pytest.mark.slow)])
def test_a_recipe_keeps_to_its_device_and_gives_the_same_there(name, views, monkeypatch):
    for module in (lowsample, graph_training, scllm_dsc, scrcl, scsiameseclu):
        for setting, value in list(vars(module).items()):
            if isinstance(value, TrainConfig):
                monkeypatch.setattr(module, setting, replace(value, n_steps=2))
    here = find_recipe(name).represent(views, 0)
    with second_device() as device:
        for module in CHOOSERS:
            monkeypatch.setattr(module, "find_device", lambda _: device)
        there = find_recipe(name).represent(views, 0)
    # PyTorch Geometric takes another kernel for such tensors: equal but for rounding, which the first steps amplify
    np.testing.assert_allclose(there.z, here.z, atol=5e-5)
    assert len(there.history) == len(here.history)
    for ours, theirs in zip(here.history, there.history, strict=True):
        assert theirs == pytest.approx(ours, rel=5e-4)


def test_the_second_device_refuses_tensors_of_the_first():
    with second_device() as device:
        there = torch.ones(2, 3).to(device)
        assert isinstance(there, Elsewhere)
        with pytest.raises(RuntimeError, match=r"aten.mm.default meets tensors of both devices: \[\(5, 2\)\]"):
            torch.ones(5, 2) @ there
        with pytest.raises(RuntimeError, match="both devices"):
            there[torch.tensor([0])]
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()
        assert (there * 2).cpu().tolist() == [[2.0] * 3] * 2


@pytest.mark.slow
@pytest.mark.parametrize("classes", [None, np.arange(6) % 3])
def test_the_contrastive_projection_keeps_to_its_device(classes, views, monkeypatch):
    labeled = None if classes is None else np.arange(0, 60, 10)
    here = classify.contrastive_features(views.pcs, labeled=labeled, classes=classes, seed=0)
    with second_device() as device:
        monkeypatch.setattr(classify, "find_device", lambda _: device)
        there = classify.contrastive_features(views.pcs, labeled=labeled, classes=classes, seed=0)
    np.testing.assert_allclose(there, here, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", TRAINED)
def test_a_gpu_finds_the_clusters_that_the_cpu_finds(name, views):
    on_gpu = replace(views, device="cuda")
    ours, theirs = (find_recipe(name).represent(given, 0) for given in (views, on_gpu))
    labels = [find_recipe(name).head(made, replace(views, n_clusters=3), 0) for made in (ours, theirs)]
    assert adjusted_rand_score(*labels) == 1
    cosines = (ours.z * theirs.z).sum(axis=1) / np.linalg.norm(ours.z, axis=1) / np.linalg.norm(theirs.z, axis=1)
    assert cosines.min() > 0.99


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said_before_any_work():
    with pytest.raises(NotAvailable, match=r"device 'cuda:1' is not there \(0 GPUs found\); use device=.cpu"):
        find_device("cuda:1")
    assert find_device("auto") == torch.device("cpu")
    assert device_used("auto") == "cpu"


def test_another_device_is_refused():
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda or cuda:N, got 'gpu'"):
        RunConfig(device="gpu")


def test_the_place_of_training_is_no_part_of_what_decides_a_result():
    elsewhere = RunConfig(device="auto")
    assert elsewhere == RunConfig()
    assert elsewhere.to_dict() == RunConfig().to_dict()
