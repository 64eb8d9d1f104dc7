"""Graphs of cells as data of PyTorch Geometric and as sparse tensors, and the graph modules of recipes.

A propagation is a sparse CSR tensor whose row *i* holds the weights with which node *i* takes the values of the others:
what PyTorch Geometric calls the transposed adjacency. Its layers then take one fused sparse product, without an edge
list.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Generic, TypeVar

import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import HeteroData
from torch_geometric.nn import GCNConv, MessagePassing
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import from_scipy_sparse_matrix, scatter, softmax, to_torch_csr_tensor

from cellmodel.core.arrays import CellGraph
from cellmodel.nn.modules import SLOPE, Autoencoder, CountDecoder, sparse_product
from cellmodel.nn.train import BLOCK_CELLS

Read = TypeVar("Read")


def relate_cells(**relations: CellGraph) -> HeteroData:
    """Cells, and relations between them by name.

    Row *i* of a relation holds the weights of the cells that cell *i* takes values from; as always in PyTorch
    Geometric, row 0 of its ``edge_index`` holds these, and row 1 the cell.
    """
    graph = HeteroData()
    for name, matrix in relations.items():
        places, weights = from_scipy_sparse_matrix(matrix)
        graph["cell"].num_nodes = matrix.shape[0]
        graph["cell", name, "cell"].edge_index = places.flip(0)
        graph["cell", name, "cell"].edge_weight = weights
    return graph


class CellGraphs(Generic[Read]):
    """What is read of a graph of cells: of all, kept once it is made, or of the sub-graph of the cells of a batch."""

    def __init__(self, graph: HeteroData, read: Callable[[HeteroData], Read]) -> None:
        self._graph = graph
        self._read = read

    @cached_property
    def whole(self) -> Read:
        """Read of all cells."""
        return self._read(self._graph)

    def of(self, cells: Int[Tensor, " cell"]) -> Read:
        """Read of some cells, by position and sorted, and of the edges between them."""
        if len(cells) == self._graph["cell"].num_nodes:
            return self.whole
        return self._read(self._graph.subgraph({"cell": cells.cpu()}))


def propagation(graph: HeteroData, relation: str) -> Tensor:
    r"""Weights with the cell itself at 1, over the square roots of both degrees: :math:`D^{-1/2} (A + I) D^{-1/2}`.

    Degrees are sums of rows, so that a cell from which nothing is taken changes no other.
    """
    edges, n_cells = graph["cell", relation, "cell"], graph["cell"].num_nodes
    places, weights = gcn_norm(edges.edge_index, edges.edge_weight.double(), n_cells)
    return _csr(places.flip(0), weights, shape=(n_cells, n_cells))


def mean_propagation(graph: HeteroData, relation: str) -> Tensor:
    """Weights over the sum of those of a cell."""
    edges, n_cells = graph["cell", relation, "cell"], graph["cell"].num_nodes
    weights, cells = edges.edge_weight.double(), edges.edge_index[1]
    totals = scatter(weights, cells, dim_size=n_cells)
    return _csr(edges.edge_index.flip(0), weights / totals[cells], shape=(n_cells, n_cells))


def symmetric_propagation(graph: CellGraph) -> Tensor:
    """Propagation over one relation alone, of cells or of genes; as :func:`propagation`."""
    return propagation(relate_cells(linked=graph), "linked")


def csr_tensor(matrix: sp.csr_matrix) -> Tensor:
    """Float32 CSR tensor of a sparse matrix."""
    matrix = matrix.tocsr()
    matrix.sort_indices()
    return _csr(*from_scipy_sparse_matrix(matrix), shape=matrix.shape, is_coalesced=True)


def _csr(places: Tensor, values: Tensor, *, shape: tuple[int, int], is_coalesced: bool = False) -> Tensor:
    is_checked = torch.sparse.check_sparse_tensor_invariants()  # type: ignore[no-untyped-call]  # of PyTorch
    with warnings.catch_warnings(), is_checked:
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
        return to_torch_csr_tensor(places, values.float(), size=shape, is_coalesced=is_coalesced)


class GraphConvolution(GCNConv):  # type: ignore[misc]  # the library is untyped
    r"""Graph convolution :cite:`kipf2017gcn` whose graph is normalized already, linear map and product in either order.

    .. math:: A (X W^T + b) \quad \text{or, where it propagates first,} \quad (A X) W^T + b

    The order decides how wide the product is, and whether the bias is propagated. The map starts as PyTorch's own.
    """

    def __init__(self, before: int, after: int, *, propagate_first: bool, bias: bool = True) -> None:
        super().__init__(-1, after, normalize=False, bias=False)  # -1: draws no weights of its own
        self.in_channels, self.propagate_first = before, propagate_first
        self.lin = nn.Linear(before, after, bias=bias)

    def forward(self, features: Float[Tensor, "node before"], graph: Tensor) -> Float[Tensor, "node after"]:
        """Convolve; ``graph`` is a sparse (node, node) matrix."""
        if self.propagate_first:
            return self.lin(self.propagate(graph, x=features, edge_weight=None))
        return super().forward(features, graph)

    def message_and_aggregate(self, adj_t: Tensor, x: Tensor) -> Tensor:
        """Take the values of the others along the graph."""
        return sparse_product(adj_t, x)


class GraphConvolutions(nn.ModuleList):
    """Graph convolutions of these widths, each propagating on the narrower side of its map, tanh between them."""

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__(GraphConvolution(*pair, propagate_first=pair[1] > pair[0]) for pair in pairwise(dims))

    def forward(self, features: Float[Tensor, "cell before"], propagation: Tensor) -> Float[Tensor, "cell after"]:
        """Convolve; ``propagation`` is a sparse (cell, cell) matrix."""
        first, *others = self
        current = first(features, propagation)
        for layer in others:
            current = layer(torch.tanh_(current), propagation)
        return current


class GraphAutoencoder(nn.Module):
    """Graph convolutions and their mirror image; ``dims``: widths from the input to the latent space."""

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = GraphConvolutions(dims)
        self.decoder = GraphConvolutions(dims[::-1])


_GRAPH_START, _PROJECTOR_START = 0.1, 0.3  # of PyTorch's initial weights: the learned parts begin as small corrections


class GeneEncoder(nn.Module):
    """Two graph convolutions over the genes beside a linear map, from features of a fixed width to codes."""

    def __init__(self, *, feature_dim: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(feature_dim, dim, bias=False)
        self.first = GraphConvolution(feature_dim, dim, propagate_first=False)
        self.second = GraphConvolution(dim, dim, propagate_first=False, bias=False)
        nn.init.orthogonal_(self.linear.weight)  # lengths and angles of the features are kept at the start
        _shrink(self.second, _GRAPH_START)

    def forward(self, features: Float[Tensor, "gene feature"], graph: Tensor) -> Float[Tensor, "gene dim"]:
        """Encode every gene; ``graph`` is the sparse (gene, gene) propagation."""
        hidden = F.leaky_relu(self.first(features, graph), SLOPE, inplace=True)
        return self.linear(features) + self.second(hidden, graph)


class DualViewRefiner(nn.Module):
    r"""Encode cells in two views, project both back to the genes, and read the genes by their codes.

    With the code :math:`h_v` of a view, its expression :math:`x_v` (smoothed over the graph once, for the second view
    three times) and the codes E of the genes, a refined view is :math:`z_v = (x_v + W h_v + b) E`, computed as
    :math:`x_v E + h_v (W E) + b E`, so that no (cell, gene) matrix is made. ``dim``: width of each refined view.
    """

    def __init__(self, *, n_genes: int, input_dim: int, feature_dim: int, hidden_dim: int = 256, dim: int = 32) -> None:
        super().__init__()
        self.alone = nn.Linear(input_dim, hidden_dim)
        self.graph_first = GraphConvolution(input_dim, hidden_dim, propagate_first=True)
        self.graph_second = GraphConvolution(hidden_dim, hidden_dim, propagate_first=True)
        self.projector = nn.Linear(hidden_dim, n_genes)
        self.genes = GeneEncoder(feature_dim=feature_dim, dim=dim)
        _shrink(self.projector, _PROJECTOR_START)

    def forward(
        self,
        inputs: Float[Tensor, "cell input"],
        own: Float[Tensor, "cell dim"],
        *,
        codes: Float[Tensor, "gene dim"],
        cell_graph: Tensor,
    ) -> tuple[Float[Tensor, "cell dim"], Float[Tensor, "cell dim"]]:
        """Refine both views, rows not normalized; ``own``: each cell's centered expression read by the ``codes``."""
        alone = F.normalize(F.leaky_relu(self.alone(inputs), SLOPE, inplace=True))
        hidden = F.leaky_relu(self.graph_first(inputs, cell_graph), SLOPE, inplace=True)
        over_graph = F.normalize(self.graph_second(hidden, cell_graph))
        read = sparse_product(cell_graph, own)
        back, shift = self.projector.weight.T @ codes, self.projector.bias @ codes
        further = sparse_product(cell_graph, sparse_product(cell_graph, read))
        return read + alone @ back + shift, further + over_graph @ back + shift


def _shrink(layer: nn.Module, factor: float) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(factor)


class DotAttention(MessagePassing):  # type: ignore[misc]  # the library is untyped
    """Mean of the embeddings along a node's edges, weighted by the softmax of their products with its own."""

    def __init__(self, *, block_cells: int = BLOCK_CELLS) -> None:
        super().__init__(aggr="sum", flow="target_to_source")  # a node is row 0 of its edges
        self.block_cells = block_cells

    def forward(self, z: Float[Tensor, "node dim"], edges: Int[Tensor, "2 edge"]) -> Float[Tensor, "node dim"]:
        """Attend; edges are sorted by node, and one without edges gets zeros."""
        first = torch.arange(0, len(z), self.block_cells, device=z.device)
        starts = torch.searchsorted(edges[0].contiguous(), first).cpu().tolist()
        blocks = (edges[:, start:end] for start, end in pairwise([*starts, edges.shape[1]]))
        return torch.stack([self.propagate(block, z=z) for block in blocks]).sum(dim=0)

    def message(self, z_i: Tensor, z_j: Tensor, index: Tensor, size_i: int) -> Tensor:
        """Weight what comes along each edge."""
        return softmax((z_i * z_j).sum(dim=1), index, num_nodes=size_i)[:, None] * z_j


class SiameseFusion(nn.Module):
    r"""Fusion of two embeddings: a gate for each cell, propagation, and attention over the graph (eqs. 6-9).

    .. math:: Z_i = g \odot Z_{ae} + (1 - g) \odot Z_{gae}, \quad Z_l = A Z_i, \quad Z = \alpha S Z_l + Z_l

    S is the softmax of :math:`z_i \cdot z_j` over the edges of the graph, where published it runs over all pairs of
    cells; the gate is a small network, where published it is a free parameter for each cell and dimension, which
    would tie the model to the cells that it was trained on. :math:`\alpha` starts at 0.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * dim, dim)
        self.attention = DotAttention()
        self.global_weight = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        z_feature: Float[Tensor, "cell dim"],
        z_graph: Float[Tensor, "cell dim"],
        *,
        propagation: Tensor,
        edges: Int[Tensor, "2 edge"],
    ) -> Float[Tensor, "cell dim"]:
        """Fuse the embeddings of the features and of the graph; see :class:`SiameseGraphs`."""
        gate = torch.sigmoid(self.gate(torch.cat([z_feature, z_graph], dim=1)))
        local = sparse_product(propagation, gate * z_feature + (1 - gate) * z_graph)
        return self.global_weight * self.attention(local, edges) + local


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SiameseGraphs:
    """The graph of the cells and its two augmented views."""

    propagation: Tensor  # sparse (cell, cell): what the fusion and the decoder propagate over
    views: tuple[Tensor, Tensor]  # two sparse (cell, cell) matrices, one for each graph encoder
    edges: Int[Tensor, "2 edge"]  # row 0 the cell, row 1 a cell that it attends to; every cell needs at least one


class SiameseEncoders(nn.Module):
    """The trainable parts of scSiameseClu.

    Encoders and decoders are each a linear map, which the two kinds share, plus a network. The map begins as the first
    features: the embeddings of all views then mean the same from the start, so that they can be averaged, and training
    departs from a known embedding. ``n_genes``: genes of the counts; None without counts. Centers lie at the origin
    until they are set.
    """

    def __init__(
        self, *, feature_dims: tuple[int, ...], graph_dims: tuple[int, ...], n_genes: int | None, n_clusters: int
    ) -> None:
        super().__init__()
        n_features, dim = feature_dims[0], feature_dims[-1]
        self.features = Autoencoder(feature_dims)
        self.graph = GraphAutoencoder(graph_dims)
        self.linear = nn.Parameter(torch.eye(n_features, dim))
        self.linear_back = nn.Parameter(torch.eye(dim, n_features))
        self.fusion = SiameseFusion(dim)
        self.counts = CountDecoder(dim=dim, n_genes=n_genes) if n_genes else None
        self.centers = nn.Parameter(torch.zeros(n_clusters, dim))

    def encode(self, view: Float[Tensor, "cell feature"]) -> Float[Tensor, "cell dim"]:
        """Embed each cell by its own features."""
        return view @ self.linear + self.features.encoder(view)

    def encode_over(self, view: Float[Tensor, "cell feature"], propagation: Tensor) -> Float[Tensor, "cell dim"]:
        """Embed each cell by the features around it; ``propagation`` is a sparse (cell, cell) matrix."""
        smoothed = sparse_product(propagation, sparse_product(propagation, view @ self.linear))
        return smoothed + self.graph.encoder(view, propagation)

    def decode(self, z: Float[Tensor, "cell dim"]) -> Float[Tensor, "cell feature"]:
        """Latent → features."""
        return z @ self.linear_back + self.features.decoder(z)

    def decode_over(self, z: Float[Tensor, "cell dim"], propagation: Tensor) -> Float[Tensor, "cell feature"]:
        """Latent → features averaged over the graph."""
        return sparse_product(propagation, z) @ self.linear_back + self.graph.decoder(z, propagation)

    def embed(self, features: Float[Tensor, "cell feature"], graphs: SiameseGraphs) -> Float[Tensor, "cell dim"]:
        """Embed the cells without noise, some at a time where a cell is read alone."""
        z_feature = torch.cat([self.encode(block) for block in torch.split(features, BLOCK_CELLS)])
        first, second = (self.encode_over(features, propagation) for propagation in graphs.views)
        return self.fusion(z_feature, (first + second) / 2, propagation=graphs.propagation, edges=graphs.edges)

    def forward(
        self, views: tuple[Float[Tensor, "cell feature"], Float[Tensor, "cell feature"]], graphs: SiameseGraphs
    ) -> dict[str, Tensor]:
        """Embed two views with both encoders: ``z_feature``, ``z_graph`` (view, cell, dim), and all fused: ``z``."""
        z_feature = torch.stack([self.encode(view) for view in views])
        pairs = zip(views, graphs.views, strict=True)
        z_graph = torch.stack([self.encode_over(view, propagation) for view, propagation in pairs])
        z = self.fusion(z_feature.mean(dim=0), z_graph.mean(dim=0), propagation=graphs.propagation, edges=graphs.edges)
        return {"z_feature": z_feature, "z_graph": z_graph, "z": z}
