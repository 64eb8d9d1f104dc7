"""Modules of graphs and of counts, and sparse products."""

import pytest
import scipy.sparse as sp
import torch

from cellmodel.nn.graphs import (
    DotAttention,
    DualViewRefiner,
    GeneEncoder,
    GraphAutoencoder,
    GraphConvolution,
    SiameseEncoders,
    SiameseFusion,
    SiameseGraphs,
    csr_tensor,
)
from cellmodel.nn.losses import zinb_nll
from cellmodel.nn.modules import CountDecoder, sparse_product


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


def agree(model, found, expected, inputs):
    """Check that outputs are equal, and the gradients of the inputs and of every weight, of a random sum of them."""
    found, expected = torch.cat(found, dim=1), torch.cat(expected, dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = [value for value in model.parameters() if value.requires_grad]
    share = torch.randn(found.shape)
    read = [*inputs, *weights]
    gradients, wanted = (torch.autograd.grad((share * value).sum(), read) for value in (found, expected))
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def linear(layer, features):
    bias = 0 if layer.bias is None else layer.bias
    return features @ layer.weight.T + bias


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("propagate_first", [True, False])
@pytest.mark.parametrize("widths", [(4, 7), (7, 4)])
def test_a_convolution_is_the_dense_formula_in_either_order(widths, propagate_first, bias):
    graph, features = small_graphs().propagation, torch.randn(6, widths[0], requires_grad=True)
    layer = GraphConvolution(*widths, propagate_first=propagate_first, bias=bias)
    dense = graph.to_dense()
    expected = linear(layer.lin, dense @ features) if propagate_first else dense @ linear(layer.lin, features)
    agree(layer, [layer(features, graph)], [expected], [features])


def test_a_convolution_starts_as_a_linear_map_of_pytorch():
    torch.manual_seed(3)
    layer = GraphConvolution(4, 7, propagate_first=True)
    torch.manual_seed(3)
    torch.testing.assert_close(layer.lin.weight, torch.nn.Linear(4, 7).weight)


def test_a_graph_autoencoder_propagates_once_a_layer_on_the_narrower_side_of_the_map():
    graph, features = small_graphs().propagation, torch.randn(6, 4, requires_grad=True)
    model = GraphAutoencoder((4, 8, 2))
    dense, (first, second), (third, fourth) = graph.to_dense(), model.encoder, model.decoder
    z = dense @ linear(second.lin, torch.tanh(linear(first.lin, dense @ features)))
    back = dense @ linear(fourth.lin, torch.tanh(linear(third.lin, dense @ z)))
    found = model.encoder(features, graph)
    agree(model, [found, model.decoder(found, graph)], [z, back], [features])


def test_attention_is_the_softmax_over_the_edges_of_each_node():
    z = torch.randn(6, 3, requires_grad=True)
    edges = torch.tensor([[0, 0, 0, 1, 3, 3, 5], [0, 2, 5, 1, 4, 0, 3]])  # nodes 2 and 4 have none
    linked = torch.zeros(6, 6).index_put((edges[0], edges[1]), torch.ones(7)) > 0
    weights = torch.softmax((z @ z.T).masked_fill(~linked, -torch.inf), dim=1).nan_to_num(0)
    found = DotAttention()(z, edges)
    torch.testing.assert_close(found, weights @ z)
    assert not found[[2, 4]].any()


def test_the_fusion_is_the_dense_formula():
    graphs, fusion = small_graphs(), SiameseFusion(3)
    z_feature, z_graph = torch.randn(2, 6, 3).requires_grad_()
    torch.nn.init.constant_(fusion.global_weight, 0.7)
    found = fusion(z_feature, z_graph, propagation=graphs.propagation, edges=graphs.edges)
    gate = torch.sigmoid(linear(fusion.gate, torch.cat([z_feature, z_graph], dim=1)))
    dense = graphs.propagation.to_dense()
    local = dense @ (gate * z_feature + (1 - gate) * z_graph)
    attention = torch.softmax((local @ local.T).masked_fill(dense == 0, -torch.inf), dim=1)
    agree(fusion, [found], [fusion.global_weight * attention @ local + local], [z_feature, z_graph])


def test_a_gene_encoder_is_the_dense_formula():
    graph, features = small_graphs().propagation, torch.randn(6, 4, requires_grad=True)
    model = GeneEncoder(feature_dim=4, dim=3)
    dense = graph.to_dense()
    hidden = torch.nn.functional.leaky_relu(dense @ linear(model.first.lin, features), 0.2)
    expected = linear(model.linear, features) + dense @ linear(model.second.lin, hidden)
    agree(model, [model(features, graph)], [expected], [features])


def test_refined_views_are_the_dense_formula():
    cell_graph, gene_graph = small_graphs().propagation, small_graphs(5).propagation
    model = DualViewRefiner(n_genes=5, input_dim=4, feature_dim=3, hidden_dim=7, dim=2)
    inputs, features, expression = torch.randn(6, 4), torch.randn(5, 3), torch.rand(6, 5)
    inputs.requires_grad_(), features.requires_grad_()
    cells, mean = cell_graph.to_dense(), expression.mean(dim=0)
    codes = model.genes(features, gene_graph)
    found = model(inputs, csr(expression) @ codes - mean @ codes, codes=codes, cell_graph=cell_graph)
    leaky, unit = torch.nn.functional.leaky_relu, torch.nn.functional.normalize
    alone = unit(leaky(linear(model.alone, inputs), 0.2))
    hidden = leaky(linear(model.graph_first.lin, cells @ inputs), 0.2)
    over_graph = unit(linear(model.graph_second.lin, cells @ hidden))
    genes = model.genes(features, gene_graph)
    near, far = cells @ (expression - mean), cells @ cells @ cells @ (expression - mean)
    expected = [(near + linear(model.projector, alone)) @ genes, (far + linear(model.projector, over_graph)) @ genes]
    agree(model, found, expected, [inputs, features])


def test_with_networks_that_say_nothing_all_embeddings_are_the_first_features():
    model, graphs = small_encoders(), small_graphs()
    for network in (model.features.encoder[-1], model.graph.encoder[-1].lin, model.features.decoder[-1]):
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


def test_a_sparse_product_and_its_gradient_are_those_of_the_dense_matrix():
    matrix = sp.random(7, 5, density=0.4, format="csr", dtype="float32", random_state=0)
    sparse, dense = csr_tensor(matrix), torch.from_numpy(matrix.toarray())
    weights = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    gradients = []
    for given in (sparse, sparse, dense):
        values = torch.arange(15.0).reshape(5, 3).requires_grad_()
        product = sparse_product(given, values)
        torch.testing.assert_close(product, dense @ values)
        (product * weights).sum().backward()
        gradients.append(values.grad)
    torch.testing.assert_close(gradients[0], gradients[2])
    assert torch.equal(gradients[0], gradients[1])


def test_the_decoder_of_counts_names_the_arguments_of_the_likelihood():
    decoder = CountDecoder(dim=3, n_genes=7)
    loss = zinb_nll(torch.ones(5, 7), **decoder(torch.randn(5, 3)), log_size_factors=torch.zeros(5))
    loss.backward()
    assert all(float(value.grad.abs().max()) > 0 for value in decoder.parameters())
