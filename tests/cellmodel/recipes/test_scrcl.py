from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from cellmodel.core.errors import InputUnusable
from cellmodel.nn.graphs import DualViewRefiner, symmetric_propagation
from cellmodel.nn.train import objective
from cellmodel.pp.spatial import spatial_graph
from cellmodel.recipes.scrcl import RECIPE, RECIPE_TEXT, TERMS, gene_graph, gene_loadings
from tests.support.views import grouped_views

pytestmark = pytest.mark.slow  # trains networks; of the graph recipes, scllm-dsc is trained in the quick tests


def test_text_vectors_change_the_text_variant_alone_and_are_needed_there():
    views, _ = grouped_views()
    other = replace(views, gene_vectors=views.gene_vectors[::-1].copy())
    assert RECIPE.represent(views, 0).z.tobytes() == RECIPE.represent(other, 0).z.tobytes()
    assert not np.allclose(RECIPE_TEXT.represent(views, 0).z, RECIPE_TEXT.represent(other, 0).z, atol=1e-2)
    with pytest.raises(InputUnusable, match="'scrcl-text' reads the texts of genes; give `kb`"):
        RECIPE_TEXT.represent(replace(views, gene_vectors=None), 0)


def test_the_graph_of_places_takes_the_place_of_that_of_expression():
    views, _ = grouped_views()
    places = np.random.default_rng(0).random((120, 2))
    on_places = replace(views, spatial=spatial_graph(places, n_neighbors=6))
    found = RECIPE.represent(on_places, 0).z
    assert not np.allclose(found, RECIPE.represent(views, 0).z, atol=1e-2)
    other_graphs = replace(on_places, graph=sp.identity(120, format="csr"), knn=sp.identity(120, format="csr"))
    assert RECIPE.represent(other_graphs, 0).z.tobytes() == found.tobytes()


def small_model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = DualViewRefiner(n_genes=6, input_dim=4, feature_dim=3, hidden_dim=5, dim=2)
    rng = np.random.default_rng(0)
    ring = sp.csr_matrix(np.roll(np.eye(7), 1, axis=1) + np.roll(np.eye(7), -1, axis=1))
    inputs = torch.from_numpy(rng.standard_normal((7, 4)).astype(np.float32))
    expression = rng.random((7, 6)).astype(np.float32)
    centered = torch.from_numpy(expression - expression.mean(axis=0))
    features = torch.from_numpy(rng.standard_normal((6, 3)).astype(np.float32))
    codes = model.genes(features, symmetric_propagation(ring[:6][:, :6]))
    return model, model(inputs, centered @ codes, codes=codes, cell_graph=symmetric_propagation(ring))


def test_every_parameter_gets_a_gradient_and_changes_in_one_step():
    model, refined = small_model()
    before = {name: value.clone() for name, value in model.named_parameters()}
    alone, over_graph = (torch.nn.functional.normalize(view) for view in refined)
    ring = torch.stack([torch.arange(7), torch.arange(7).roll(1)])
    outputs = {"alone": alone, "over_graph": over_graph, "edges": ring, "pairs": ring[:, [3, 1]]}
    outputs["others"] = torch.arange(7).roll(3)[:, None]
    optimizer = torch.optim.Adam(model.parameters())
    torch.stack(list(objective(lambda *_: outputs, TERMS)(model, {}).values())).sum().backward()
    optimizer.step()
    for name, value in model.named_parameters():
        assert float(value.grad.abs().max()) > 0, name
        assert not torch.equal(value, before[name]), name


def test_loadings_are_least_squares_weights_of_equal_length():
    views, _ = grouped_views()
    centered = views.expression.toarray() - views.expression.toarray().mean(axis=0)
    expected = np.linalg.lstsq(views.pcs - views.pcs.mean(axis=0), centered, rcond=None)[0].T
    expected /= np.sqrt((expected**2).mean(axis=0))
    np.testing.assert_allclose(gene_loadings(views), expected, atol=1e-4)


def test_genes_are_linked_with_those_that_they_correlate_with_best():
    expression = grouped_views()[0].expression[:, :12]
    correlation = np.corrcoef(expression.toarray().T)
    expected = np.zeros((12, 12))
    for gene in range(12):
        others = sorted((other for other in range(12) if other != gene), key=lambda other: -correlation[gene, other])
        for other in others[:3]:
            expected[gene, other] = expected[other, gene] = 1
    np.testing.assert_array_equal(gene_graph(expression, n_neighbors=3).toarray(), expected)


def test_genes_without_variance_and_fewer_genes_than_neighbors_do_no_harm():
    flat = sp.csr_matrix(np.hstack([np.ones((9, 1)), np.random.default_rng(0).random((9, 2))]))
    graph = gene_graph(flat, n_neighbors=5).toarray()
    np.testing.assert_array_equal(graph, 1 - np.eye(3))
