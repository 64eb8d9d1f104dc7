"""Recipes of others, a plug-in in benchmarks/rivals: targets and masks are those of the papers, and they learn."""

import sys
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.metrics import adjusted_rand_score

from cellmodel.core.config import RunConfig, TrainingConfig
from cellmodel.io.cells import cells_from_anndata, read_cells
from cellmodel.recipes.base import Recipe
from cellmodel.tl._run.pipeline import prepare, run
from tests.support.demo import demo_cells

FOLDER = Path(__file__).parents[3] / "benchmarks" / "rivals"
ENTRIES = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]["entry-points"]["cellmodel.recipes"]
RIVALS = tuple(ENTRIES)


@pytest.fixture(scope="module", autouse=True)
def on_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(FOLDER), *sys.path])
        yield


def recipe_of(name):
    module, _, attribute = ENTRIES[name].partition(":")
    return getattr(import_module(module), attribute)


def scaled(*args, **settings):
    return import_module("cellmodel_rivals.genes").ScaledGenes.of(*args, **settings)


def test_every_entry_point_is_a_recipe_of_its_name():
    assert RIVALS == ("scmae", "desc", "contrastive-sc")
    for name in RIVALS:
        found = recipe_of(name)
        assert isinstance(found, Recipe)
        assert found.name == name


@pytest.fixture(scope="module")
def adata():
    return demo_cells()[::3].copy()


def represented(adata, recipe, *, seed=0, epochs=None):
    config = RunConfig(
        recipe=recipe_of(recipe), knowledge="none", n_clusters=6, seed=seed, training=TrainingConfig(epochs=epochs)
    )
    return recipe_of(recipe).represent(prepare(cells_from_anndata(adata.copy()), None, config).views, seed)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RIVALS)
def test_training_lowers_the_loss_and_repeats_by_seed(adata, recipe):
    first, again, other = (represented(adata, recipe, seed=seed, epochs=12) for seed in (0, 0, 1))
    term = "mask" if recipe == "scmae" else next(iter(first.history[0]))
    losses = [epoch[term] for epoch in first.history if term in epoch]
    assert len(losses) == 12
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert first.z.tobytes() == again.z.tobytes()
    assert not np.allclose(first.z, other.z)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RIVALS)
def test_types_are_found_far_above_chance(adata, recipe):
    cells = cells_from_anndata(adata.copy())
    found = run(cells, None, RunConfig(recipe=recipe_of(recipe), knowledge="none", n_clusters=6, n_words=0))
    assert adjusted_rand_score(adata.obs["bulk_labels"].astype(str), found.labels) > 0.3
    assert len(np.unique(found.labels)) == 6


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RIVALS)
def test_sorted_populations_are_found_far_above_chance(real_data, recipe):
    cells = read_cells(real_data / "scrna" / "pollen.h5ad")
    found = run(cells, None, RunConfig(recipe=recipe_of(recipe), knowledge="none", n_clusters=11, n_words=0))
    assert adjusted_rand_score(cells.adata.obs["cell_type"].astype(str), found.labels) > 0.4


def test_the_target_is_the_squared_assignment_over_the_size_of_its_cluster():
    q = torch.softmax(torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1)
    squared = q**2 / q.sum(dim=0)
    target = import_module("cellmodel_rivals.desc").sharpened_target(q.log())
    torch.testing.assert_close(target, squared / squared.sum(dim=1, keepdim=True))


def test_genes_have_mean_0_and_variance_1_and_missing_ones_are_at_their_mean():
    values = np.random.default_rng(0).poisson(1.0, (60, 5)).astype(np.float32)
    values[:, 4] = 2
    genes = scaled(sp.csr_matrix(values))
    rows = genes[np.arange(60)]
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(rows.std(axis=0), [1, 1, 1, 1, 0], atol=1e-6)
    fewer = type(genes)(
        expression=sp.csr_matrix(values[:, [0, 2]]),
        mean=genes.mean,
        scale=genes.scale,
        columns=np.array([0, 2]),
        kept=genes.kept,
    )
    np.testing.assert_allclose(fewer[np.arange(60)], rows * [1, 0, 1, 0, 0], atol=1e-6)


def test_masked_values_come_from_the_same_gene_of_other_cells():
    class Recorder(torch.nn.Module):
        def forward(self, genes):
            self.seen = genes
            return genes, genes

    genes = torch.arange(200.0).reshape(50, 4)
    model = Recorder()
    found = import_module("cellmodel_rivals.scmae")._forward(
        model, {"genes": genes}, rng=torch.Generator().manual_seed(0)
    )
    assert (found["is_masked"] == (model.seen != genes)).all()
    assert 0.25 < found["is_masked"].float().mean() < 0.55
    assert all(set(model.seen[:, gene].tolist()) <= set(genes[:, gene].tolist()) for gene in range(4))
    assert all(
        len(set((seen // 4).tolist()) - {cell}) <= 1 for cell, seen in enumerate(model.seen)
    )  # of one other cell


def test_a_recipe_reads_the_most_variable_genes_alone(adata):
    config = RunConfig(recipe=recipe_of("contrastive-sc"), knowledge="none")
    views = prepare(cells_from_anndata(adata.copy()), None, config).views
    genes = scaled(views.expression, n_top=50)
    assert genes[np.arange(7)].shape == (7, 50)
    deviations = views.expression.toarray().std(axis=0)
    assert np.median(deviations[genes.kept]) > np.median(np.delete(deviations, genes.kept))


@pytest.mark.slow
def test_self_training_ends_when_few_cells_change_their_cluster(adata):
    config = RunConfig(recipe=recipe_of("desc"), knowledge="none", n_clusters=3)
    history = recipe_of("desc").represent(prepare(cells_from_anndata(adata.copy()), None, config).views, 0).history
    n_epochs = sum("cluster" in epoch for epoch in history)
    assert 0 < n_epochs < 200
    assert n_epochs % 5 == 0


def test_a_stage_of_desc_can_be_left_out(adata):
    config = RunConfig(recipe=recipe_of("desc"), knowledge="none", n_clusters=6, training=TrainingConfig(epochs=2))
    views = prepare(cells_from_anndata(adata.copy()), None, config).views
    train = recipe_of("desc").train
    assert [set(epoch) for epoch in train(views, 0, off=frozenset({"cluster"})).history] == [{"reconstruct"}] * 2
    assert [set(epoch) for epoch in train(views, 0, off=frozenset({"reconstruct"})).history] == [{"cluster"}] * 2
