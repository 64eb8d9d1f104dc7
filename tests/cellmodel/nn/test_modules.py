import numpy as np
import pytest
import scipy.sparse as sp
import torch

from cellmodel.nn.losses import zinb_nll
from cellmodel.nn.modules import CountDecoder, GraphAutoencoder, SiameseEncoders, SiameseFusion, SiameseGraphs
from cellmodel.recipes.graph_training import csr_tensor


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def small_graphs(n_cells=6):
    weights = torch.rand(n_cells, n_cells).triu(1)
    weights = (weights + weights.T) * (weights + weights.T > 0.6) + torch.eye(n_cells)
    weights = weights / weights.sum(dim=1, keepdim=True)
    sparse = csr(weights)
    return SiameseGraphs(propagation=sparse, views=(sparse, csr(torch.eye(n_cells))), edges=weights.nonzero().T)


def csr(dense):
    return csr_tensor(sp.csr_matrix(dense.numpy()))


def small_encoders(dim=3):
    return SiameseEncoders(feature_dims=(4, 5, dim), graph_dims=(4, 6, dim), n_genes=7, n_clusters=2)


def test_the_fusion_is_its_formula_cell_by_cell():
    graphs, fusion = small_graphs(), SiameseFusion(3)
    z_feature, z_graph = torch.randn(2, 6, 3)
    with torch.no_grad():
        fusion.global_weight.fill_(0.7)
        found = fusion(z_feature, z_graph, propagation=graphs.propagation, edges=graphs.edges).numpy()
        gate = torch.sigmoid(fusion.gate(torch.cat([z_feature, z_graph], dim=1))).numpy()
    mixed = gate * z_feature.numpy() + (1 - gate) * z_graph.numpy()
    local = graphs.propagation.to_dense().numpy() @ mixed
    for cell in range(6):
        others = [int(other) for one, other in graphs.edges.T if one == cell]
        scores = np.exp([local[cell] @ local[other] for other in others])
        attended = sum(score * local[other] for score, other in zip(scores / scores.sum(), others, strict=True))
        np.testing.assert_allclose(found[cell], local[cell] + 0.7 * attended, rtol=1e-5)


def test_a_graph_encoder_propagates_once_a_layer_on_either_side_of_the_map():
    propagation = small_graphs().propagation
    features = torch.randn(6, 4)
    model = GraphAutoencoder((4, 8, 2))  # widens, then narrows: both orders of map and product
    dense, (first, second) = propagation.to_dense(), model.encoder
    hidden = torch.tanh(dense @ features @ first.weight.T + first.bias)
    expected = dense @ (hidden @ second.weight.T + second.bias)
    torch.testing.assert_close(model.encode(features, propagation), expected)


def test_with_networks_that_say_nothing_all_embeddings_are_the_first_features():
    model, graphs = small_encoders(), small_graphs()
    for network in (model.features.encoder[-1], model.graph.encoder[-1], model.features.decoder[-1]):
        torch.nn.init.zeros_(network.weight)
        torch.nn.init.zeros_(network.bias)
    view, other = torch.randn(2, 6, 4)
    outputs = model((view, other), graphs)
    torch.testing.assert_close(outputs["z_feature"], torch.stack([view[:, :3], other[:, :3]]))
    dense = graphs.propagation.to_dense()
    torch.testing.assert_close(outputs["z_graph"], torch.stack([dense @ dense @ view[:, :3], other[:, :3]]))
    torch.testing.assert_close(model.decode(view[:, :3]), torch.nn.functional.pad(view[:, :3], (0, 1)))


def test_permuting_the_cells_permutes_the_embedding():
    model, graphs, views = small_encoders(), small_graphs(), torch.randn(2, 6, 4)
    order = torch.randperm(6)
    places = torch.argsort(order)
    moved = SiameseGraphs(
        propagation=csr(graphs.propagation.to_dense()[order][:, order]),
        views=tuple(csr(view.to_dense()[order][:, order]) for view in graphs.views),
        edges=places[graphs.edges],
    )
    with torch.no_grad():
        model.fusion.global_weight.fill_(0.5)
    straight, permuted = model(tuple(views), graphs)["z"], model(tuple(views[:, order]), moved)["z"]
    torch.testing.assert_close(permuted, straight[order])


def test_the_decoder_of_counts_names_the_arguments_of_the_likelihood():
    decoder = CountDecoder(dim=3, n_genes=7)
    loss = zinb_nll(torch.ones(5, 7), **decoder(torch.randn(5, 3)), log_size_factors=torch.zeros(5))
    loss.backward()
    assert all(float(value.grad.abs().max()) > 0 for value in decoder.parameters())
