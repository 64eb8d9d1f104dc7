import numpy as np
import pytest
import torch
from torch import nn

from cellmodel.core import random as seeding
from cellmodel.core.errors import TrainingDiverged
from cellmodel.nn.losses import info_nce, variance_hinge
from cellmodel.nn.train import Term, TrainConfig, fit, objective
from tests.support.aligner import Aligner, forward

TERMS = (
    Term(name="align", weight=1.0, loss=lambda z: info_nce(z["expression"], z["text"], temperature=0.1)),
    Term(name="variance", weight=1e-2, loss=lambda z: variance_hinge(z["expression"]) + variance_hinge(z["text"])),
)


def data(n_cells=40, seed=0):
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n_cells, 3)).astype(np.float32)
    return {
        "expression": torch.from_numpy(shared @ rng.standard_normal((3, 5)).astype(np.float32)),
        "text": torch.from_numpy(shared @ rng.standard_normal((3, 6)).astype(np.float32)),
    }


def train(seed=0, **config):
    views = data()
    with seeding.scope(seed):
        model = Aligner(expression_dim=5, text_dim=6, joint_dim=4)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        history = fit(
            model,
            objective(forward, TERMS),
            views=views,
            config=TrainConfig(**{"n_steps": 60, "batch_size": 16, "learning_rate": 1e-2, **config}),
            rng=seeding.generator(seed, "batches"),
        )
    return model, before, history


def test_the_loss_falls_every_parameter_gets_a_gradient_and_the_global_stream_stays():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    model, before, history = train(weight_decay=0.0)
    assert torch.equal(torch.rand(3), expected)
    assert history[-1]["align"] < 0.7 * history[0]["align"]
    for (name, after), start in zip(model.named_parameters(), before, strict=True):
        assert not torch.equal(after, start), name


def test_same_seed_same_bits_other_seed_other_history():
    first, second, third = train(0), train(0), train(1)
    assert first[2] == second[2]
    for a, b in zip(first[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(a, b)
    assert first[2] != third[2]


class Counted:
    """Rows of an array, and how many of them were asked for."""

    def __init__(self, values):
        self.values = values
        self.n_read = 0

    def __len__(self):
        return len(self.values)

    def __getitem__(self, rows):
        self.n_read += len(rows)
        return self.values[rows]


def test_memory_mapped_rows_train_the_same_model_and_only_those_of_the_batches_are_read(tmp_path):
    views = data(n_cells=1000)
    for name, values in views.items():
        np.save(tmp_path / f"{name}.npy", values.numpy())
    mapped = {name: Counted(np.load(tmp_path / f"{name}.npy", mmap_mode="r")) for name in views}
    models, histories = [], []
    for given in (views, mapped):
        with seeding.scope(0):
            models.append(Aligner(expression_dim=5, text_dim=6, joint_dim=4))
            config = TrainConfig(n_steps=7, batch_size=16)
            rng = seeding.generator(0, "batches")
            histories.append(fit(models[-1], objective(forward, TERMS), views=given, config=config, rng=rng))
    assert histories[0] == histories[1]
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)
    assert mapped["text"].n_read == 7 * 16


def test_history_has_one_entry_an_epoch():
    assert len(train(n_steps=6, batch_size=16)[2]) == 3
    assert len(train(n_steps=5, batch_size=1000)[2]) == 5


def test_an_infinite_loss_stops_the_training():
    model = nn.Linear(1, 1)
    with pytest.raises(TrainingDiverged, match=r"step 0: .*inf"):
        fit(
            model,
            lambda m, batch: {"bad": m(batch["x"]).sum() * float("inf")},
            views={"x": torch.ones(4, 1)},
            config=TrainConfig(n_steps=2, batch_size=2),
            rng=np.random.default_rng(0),
        )


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="batch_size >= 2, got 10 and 1"):
        TrainConfig(n_steps=10, batch_size=1)
