"""Two encoders of two augmented views of the same cells, and the fusion of all four embeddings."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cellmodel.nn.modules.autoencoder import SLOPE, Autoencoder, GraphAutoencoder


class SiameseFusion(nn.Module):
    r"""Fusion of two embeddings: a gate for each cell, propagation, and attention over the graph (eqs. 6-9).

    .. math:: Z_i = g \odot Z_{ae} + (1 - g) \odot Z_{gae}, \quad Z_l = A Z_i, \quad Z = \alpha S Z_l + Z_l

    S is the softmax of :math:`z_i \cdot z_j` over the edges of the graph, where published it runs over all pairs of
    cells; the gate is a small network, where published it is a free parameter for each cell and dimension, which
    would tie the model to the cells that it was trained on. :math:`\alpha` starts at 0.

    ``dim``: width of the embeddings.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * dim, dim)
        self.global_weight = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        z_feature: Float[Tensor, "cell dim"],
        z_graph: Float[Tensor, "cell dim"],
        *,
        propagation: Tensor,
        edges: Int[Tensor, "2 edge"],
    ) -> Float[Tensor, "cell dim"]:
        """Fuse the embeddings of the features and of the graph.

        ``propagation``: sparse (cell, cell). ``edges``: row 0 the cell, row 1 a cell that it attends to; every cell
        needs at least one.
        """
        gate = torch.sigmoid(self.gate(torch.cat([z_feature, z_graph], dim=1)))
        local = propagation @ (gate * z_feature + (1 - gate) * z_graph)
        cells, others = edges
        scores = (local[cells] * local[others]).sum(dim=1)
        attention = _softmax_by_cell(scores, cells, n_cells=len(local))
        attended = torch.zeros_like(local).index_add(0, cells, attention[:, None] * local[others])
        return self.global_weight * attended + local


def _softmax_by_cell(
    scores: Float[Tensor, " edge"], cells: Int[Tensor, " edge"], *, n_cells: int
) -> Float[Tensor, " edge"]:
    """Softmax over the edges of each cell; torch_geometric has one too, and takes seconds to import."""
    highest = scores.new_full((n_cells,), -torch.inf).scatter_reduce(0, cells, scores.detach(), "amax")
    weights = (scores - highest[cells]).exp()
    return weights / weights.new_zeros(n_cells).index_add(0, cells, weights)[cells]


class CountDecoder(nn.Module):
    """Latent → log mean, log dispersion and dropout logits of the counts.

    ``dim``, ``hidden``: widths of the latent space and of the layer between. ``n_genes``: genes of the counts.
    """

    def __init__(self, *, dim: int, n_genes: int, hidden: int = 128) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(dim, hidden), nn.LeakyReLU(SLOPE))
        self.log_mean = nn.Linear(hidden, n_genes)
        self.log_dispersion = nn.Linear(hidden, n_genes)
        self.dropout_logits = nn.Linear(hidden, n_genes)

    def forward(self, z: Float[Tensor, "cell dim"]) -> dict[str, Float[Tensor, "cell gene"]]:
        """Decode a mini-batch; the keys are those of the likelihood's arguments."""
        hidden = self.hidden(z)
        return {
            "log_mean": self.log_mean(hidden),
            "log_dispersion": self.log_dispersion(hidden),
            "dropout_logits": self.dropout_logits(hidden),
        }


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
    departs from a known embedding.

    ``feature_dims``, ``graph_dims``: widths of the autoencoder and of the graph autoencoder, from the input to the
    latent space, which they share. ``n_genes``: genes of the counts; None without counts. ``n_clusters``: number of
    centres; they lie at the origin until they are set.
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
        self.centres = nn.Parameter(torch.zeros(n_clusters, dim))

    def encode(self, view: Float[Tensor, "cell feature"]) -> Float[Tensor, "cell dim"]:
        """Embed each cell by its own features."""
        return view @ self.linear + self.features.encode(view)

    def encode_over(self, view: Float[Tensor, "cell feature"], propagation: Tensor) -> Float[Tensor, "cell dim"]:
        """Embed each cell by the features around it; ``propagation`` is a sparse (cell, cell) matrix."""
        return propagation @ (propagation @ (view @ self.linear)) + self.graph.encode(view, propagation)

    def decode(self, z: Float[Tensor, "cell dim"]) -> Float[Tensor, "cell feature"]:
        """Latent → features."""
        return z @ self.linear_back + self.features.decoder(z)

    def decode_over(self, z: Float[Tensor, "cell dim"], propagation: Tensor) -> Float[Tensor, "cell feature"]:
        """Latent → features averaged over the graph."""
        return propagation @ z @ self.linear_back + self.graph.decode(z, propagation)

    def forward(
        self, views: tuple[Float[Tensor, "cell feature"], Float[Tensor, "cell feature"]], graphs: SiameseGraphs
    ) -> dict[str, Tensor]:
        """Embed two views of the cells with both encoders, and fuse the four.

        Returns ``z_feature`` and ``z_graph``, (view, cell, dim), and ``z``, (cell, dim).
        """
        z_feature = torch.stack([self.encode(view) for view in views])
        pairs = zip(views, graphs.views, strict=True)
        z_graph = torch.stack([self.encode_over(view, propagation) for view, propagation in pairs])
        z = self.fusion(z_feature.mean(dim=0), z_graph.mean(dim=0), propagation=graphs.propagation, edges=graphs.edges)
        return {"z_feature": z_feature, "z_graph": z_graph, "z": z}
