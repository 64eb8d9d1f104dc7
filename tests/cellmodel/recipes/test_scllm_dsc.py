from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from cellmodel.cluster.algorithms import kmeans
from cellmodel.core.config import RunConfig, TrainingConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import read_cells
from cellmodel.nn.modules import StructuredAligner
from cellmodel.nn.soft_assignment import log_soft_assignment
from cellmodel.nn.train import objective
from cellmodel.recipes.heads import assignment_head
from cellmodel.recipes.scllm_dsc import RECIPE, TERMS, represent
from cellmodel.tl._run.pipeline import prepare
from tests.support.views import grouped_views


def views_without_text():
    return replace(grouped_views()[0], text=None)


def small_aligner():
    """A model in double precision, and its batch of five cells."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        maps = {"expression_map": torch.eye(4, 2), "text_map": torch.randn(3, 2)}
        model = StructuredAligner(**maps, hidden_dim=5, joint_dim=4, n_clusters=2)
        batch = {"expression": torch.randn(7, 4), "text": torch.randn(7, 3)}
    return model, batch


@pytest.fixture(scope="module")
def trained():
    views, truth = grouped_views()
    return represent(views, 0), views, truth


@pytest.fixture(scope="module")
def untrained():
    """A training that moves nothing: both stages as they start."""
    views, _ = grouped_views()
    return represent(replace(views, training=TrainingConfig(epochs=1, learning_rate=1e-9)), 0), views


def test_the_terms_of_text_are_left_out_without_it_and_the_clusters_term_before_there_are_centers(trained):
    history = trained[0].history
    first, last = {"align", "variance", "cut", "reconstruct"}, {term.name for term in TERMS}
    assert [set(epoch) for epoch in history] == [first] * 50 + [last] * (len(history) - 50)
    without = represent(views_without_text(), 0)
    assert set(without.history[-1]) == {"cut", "reconstruct", "cluster"}
    assert without.z_text is None
    assert adjusted_rand_score(trained[2], RECIPE.head(without, views_without_text(), 0)) == 1


def test_all_terms_of_a_stage_are_not_left_out():
    with pytest.raises(ValueError, match="cannot be left out"):
        represent(views_without_text(), 0, off=frozenset({"cut", "reconstruct"}))


def test_z_is_the_mean_of_both_sides(trained):
    representation = trained[0]
    np.testing.assert_allclose(representation.z, (representation.z_expr + representation.z_text) / 2, atol=1e-6)
    assert representation.features is representation.z


def test_centers_start_from_the_means_of_clusters_and_move(trained, untrained):
    start = untrained[0].z
    clusters = kmeans(start, n_clusters=3, seed=0)
    means = np.stack([start[clusters == cluster].mean(axis=0) for cluster in range(3)])
    distance = np.linalg.norm(untrained[0].centers[:, None] - means, axis=2)
    assert distance.min(axis=1).max() < 1e-3
    assert np.abs(trained[0].centers - untrained[0].centers).max() > 1e-3


def test_every_parameter_gets_a_gradient_and_changes_in_one_step():
    model, batch = small_aligner()
    with torch.no_grad():
        model.centers.copy_(torch.randn(2, 2, generator=torch.Generator().manual_seed(1)))
    outputs = {**model(batch["expression"], batch["text"], torch.arange(7)), "expression": batch["expression"]}
    outputs["propagation"] = torch.eye(7).to_sparse_csr()
    outputs["log_q"] = log_soft_assignment(outputs["z"], model.centers)
    outputs["p"] = torch.tensor([[0.9, 0.1]]).expand(7, 2)
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters())
    torch.stack(list(objective(lambda *_: outputs, TERMS)(model, batch).values())).sum().backward()
    optimizer.step()
    for name, value in model.named_parameters():
        assert float(value.grad.abs().max()) > 0, name
        assert not torch.equal(value, before[name]), name


def test_the_linear_maps_are_where_the_latents_start():
    model, batch = small_aligner()
    for network in (model.expression.encoder, model.expression.decoder, model.text):
        torch.nn.init.zeros_(network[-1].weight)
        torch.nn.init.zeros_(network[-1].bias)
    outputs = model(batch["expression"], batch["text"])
    torch.testing.assert_close(outputs["z_expr"], batch["expression"][:, :2])
    torch.testing.assert_close(outputs["decoded"], torch.nn.functional.pad(outputs["z"], (0, 2)))
    torch.testing.assert_close(outputs["z"], (outputs["z_expr"] + outputs["z_text"]) / 2)


def test_both_latents_start_near_the_principal_components(untrained):
    representation, views = untrained
    start = representation.z
    for column in range(2):  # the third is noise
        assert np.corrcoef(start[:, column], views.smoothed[:, column])[0, 1] > 0.9


def test_the_head_gives_each_cell_the_nearest_center_and_numbers_clusters_by_size(trained):
    representation, views, _ = trained
    far = np.array([[50.0] * representation.z.shape[1]], dtype=np.float32)
    spare = replace(representation, centers=np.vstack([far, representation.centers[::-1]]))
    labels = assignment_head(spare, replace(views, n_clusters=4), 0)
    nearest = [np.argmin([np.linalg.norm(z - center) for center in spare.centers]) for z in spare.z]
    assert adjusted_rand_score(nearest, labels) == 1
    assert np.bincount(labels).tolist() == [60, 40, 20]


def test_the_head_refuses_what_it_was_not_trained_for(trained):
    representation, views, _ = trained
    with pytest.raises(InputUnusable, match="3 centers were learned, 4 clusters are asked for"):
        assignment_head(representation, replace(views, n_clusters=4), 0)
    with pytest.raises(InputUnusable, match=r"this recipe learns no centers; take head=.kmeans"):
        assignment_head(replace(representation, centers=None), views, 0)


@pytest.mark.slow
def test_types_of_real_cells_are_found_better_than_by_kmeans(real_data):
    import anndata

    path = real_data / "scrna" / "baron_mouse.h5ad"
    truth = anndata.read_h5ad(path, backed="r").obs["cell_type"].astype(str).to_numpy()
    n_clusters = len(set(truth))
    config = RunConfig(knowledge="none", n_clusters=n_clusters)
    views = prepare(read_cells(path), None, config).views
    found = RECIPE.head(represent(views, 0), replace(views, n_clusters=n_clusters), 0)
    plain = kmeans(views.pcs, n_clusters=n_clusters, seed=0)
    assert adjusted_rand_score(truth, found) > adjusted_rand_score(truth, plain) + 0.1
