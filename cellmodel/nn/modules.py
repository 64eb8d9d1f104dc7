"""The trainable parts of the recipes: autoencoders, projection heads, and the encoders of each published system."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2  # of LeakyReLU below zero


class Autoencoder(nn.Module):
    """Fully connected encoder and its mirror image, LeakyReLU between layers, none at either end.

    ``dims``: widths from the input to the latent space, both included; at least two.
    """

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = _chain(dims)
        self.decoder = _chain(dims[::-1])

    def encode(self, features: Float[Tensor, "cell feature"]) -> Float[Tensor, "cell dim"]:
        """Features → latent."""
        return self.encoder(features)


def _chain(dims: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(dims):
        layers += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers[:-1])


class GraphAutoencoder(nn.Module):
    """Graph convolutions :cite:`kipf2017gcn` and their mirror image, tanh between layers, none at either end.

    A convolution is one linear map and one sparse product; with PyTorch's CSR tensors it takes a tenth of the time of
    torch_geometric's GCNConv on an edge list (0.05 s against 0.7 s for 3,874 cells, 128 wide, forward and backward).

    ``dims``: widths from the input to the latent space, both included; at least two.
    """

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.dims = dims
        self.encoder = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(dims))
        self.decoder = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(dims[::-1]))

    def encode(self, features: Float[Tensor, "cell feature"], propagation: Tensor) -> Float[Tensor, "cell dim"]:
        """Features → latent; ``propagation`` is a sparse (cell, cell) matrix."""
        return _convolve(self.encoder, self.dims, features, propagation)

    def decode(self, z: Float[Tensor, "cell dim"], propagation: Tensor) -> Float[Tensor, "cell feature"]:
        """Latent → features."""
        return _convolve(self.decoder, self.dims[::-1], z, propagation)


def _convolve(layers: nn.ModuleList, dims: tuple[int, ...], features: Tensor, propagation: Tensor) -> Tensor:
    current = features
    for number, (layer, (before, after)) in enumerate(zip(layers, pairwise(dims), strict=True)):
        if number:
            current = torch.tanh(current)
        is_narrowing = after <= before  # propagate on the narrower side of the map
        current = propagation @ layer(current) if is_narrowing else layer(propagation @ current)
    return current


class CrossModalAligner(nn.Module):
    """Projection heads for the two views of a cell.

    The text head is linear, so that a gene's text or a free query, which lies far from the mean of a cell's genes, is
    projected in the same way as the cells; the expression head adds a small non-linear part to a linear one.

    ``expression_dim``, ``text_dim``: dimensions of the views. ``joint_dim``: dimension of the joint space.
    """

    def __init__(self, *, expression_dim: int, text_dim: int, joint_dim: int = 64) -> None:
        super().__init__()
        self.expression_linear = nn.Linear(expression_dim, joint_dim)
        self.expression_residual = nn.Sequential(
            nn.Linear(expression_dim, 2 * joint_dim), nn.GELU(), nn.Linear(2 * joint_dim, joint_dim)
        )
        self.text = nn.Linear(text_dim, joint_dim, bias=False)

    def forward(
        self, expression: Float[Tensor, "cell expr_dim"], text: Float[Tensor, "cell text_dim"]
    ) -> tuple[Float[Tensor, "cell joint"], Float[Tensor, "cell joint"]]:
        """Project both views; rows are not normalised."""
        return self.expression_linear(expression) + self.expression_residual(expression), self.text(text)


class Projector(nn.Module):
    """Linear map that starts as the identity, with a small non-linear part beside it.

    ``dim``: length of the features, before and after. ``hidden``: width of the non-linear part.
    """

    def __init__(self, *, dim: int, hidden: int = 64) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        last = nn.Linear(hidden, dim)
        self.residual = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), last)
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(dim))
            self.linear.bias.zero_()
            last.weight.mul_(0.1)

    def forward(self, features: Float[Tensor, "cell dim"]) -> Float[Tensor, "cell dim"]:
        """Project features; rows are not normalised."""
        return self.linear(features) + self.residual(features)


class StructuredAligner(nn.Module):
    """The trainable parts of scLLM-DSC.

    Both views are encoded to one latent space and averaged there; expression is decoded from the average. Encoders and
    decoder are each a linear map plus a network: the linear maps begin where the caller says, so that training starts
    from a known embedding and the network adds what is not linear. The projection heads serve the contrast alone: it
    spreads cells evenly, which takes away the distances between types.

    ``expression_map``, ``text_map``: (feature, dim) first linear maps of the views into the latent space; no
    ``text_map`` where there is no text. Expression is decoded by the transpose of its map. ``hidden_dim``: width of the
    networks' hidden layers. ``joint_dim``: width of the projections. ``n_clusters``: number of centres in the latent
    space; they lie at the origin until they are set.
    """

    def __init__(
        self,
        *,
        expression_map: Float[Tensor, "feature dim"],
        text_map: Float[Tensor, "text_dim dim"] | None,
        hidden_dim: int,
        joint_dim: int,
        n_clusters: int,
    ) -> None:
        super().__init__()
        n_features, dim = expression_map.shape
        self.expression = Autoencoder((n_features, hidden_dim, dim))
        self.expression_linear = _linear(expression_map)
        self.decoder_linear = _linear(expression_map.T)
        self.centres = nn.Parameter(torch.zeros(n_clusters, dim))
        self.text: nn.Module | None = None
        if text_map is not None:
            self.text = Autoencoder((len(text_map), hidden_dim, dim)).encoder
            self.text_linear = _linear(text_map)
            self.expression_head = _head(dim, joint_dim)
            self.text_head = _head(dim, joint_dim)

    def forward(
        self,
        expression: Float[Tensor, "cell feature"],
        text: Float[Tensor, "cell text_dim"] | None,
        contrasted: Int[Tensor, " sample"] | None = None,
    ) -> dict[str, Tensor]:
        """Encode, fuse, decode, and project a sample.

        ``contrasted``: rows of the cells to project; None for none of them. Returns ``z_expr`` and, with text,
        ``z_text`` (cell, dim); their mean ``z``, which without text is ``z_expr``; the ``decoded`` expression; the
        ``centres`` (cluster, dim); with text and a sample ``projected_expr`` and ``projected_text`` (sample, joint),
        rows not normalised.
        """
        z_expr = self.expression_linear(expression) + self.expression.encode(expression)
        outputs = {"z_expr": z_expr, "z": z_expr, "centres": self.centres}
        if self.text is not None:
            z_text = self.text_linear(text) + self.text(text)
            outputs |= {"z_text": z_text, "z": (z_expr + z_text) / 2}
            if contrasted is not None:
                outputs["projected_expr"] = self.expression_head(z_expr[contrasted])
                outputs["projected_text"] = self.text_head(z_text[contrasted])
        return outputs | {"decoded": self.decoder_linear(outputs["z"]) + self.expression.decoder(outputs["z"])}


def _linear(first: Float[Tensor, "feature dim"]) -> nn.Linear:
    """Linear map without an offset that begins as the one given."""
    layer = nn.Linear(len(first), first.shape[1], bias=False)
    layer.weight = nn.Parameter(first.T.clone())
    return layer


def _head(dim: int, joint_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, joint_dim), nn.ReLU(), nn.Linear(joint_dim, joint_dim))


_GRAPH_START, _PROJECTOR_START = 0.1, 0.3  # of PyTorch's initial weights: the learnt parts begin as small corrections


class GeneEncoder(nn.Module):
    """Two graph convolutions over the genes beside a linear map, from features of a fixed width.

    ``feature_dim``: width of a gene's features. ``dim``: width of a gene's code.
    """

    def __init__(self, *, feature_dim: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(feature_dim, dim, bias=False)
        self.first = nn.Linear(feature_dim, dim)
        self.second = nn.Linear(dim, dim, bias=False)
        nn.init.orthogonal_(self.linear.weight)  # lengths and angles of the features are kept at the start
        _shrink(self.second, _GRAPH_START)

    def forward(self, features: Float[Tensor, "gene feature"], graph: Tensor) -> Float[Tensor, "gene dim"]:
        """Encode every gene; ``graph`` is the sparse (gene, gene) propagation."""
        hidden = F.leaky_relu(graph @ self.first(features), SLOPE)
        return self.linear(features) + graph @ self.second(hidden)


class DualViewRefiner(nn.Module):
    r"""Encode cells in two views, project both back to the genes, and read the genes by their codes.

    With the code :math:`h_v` of a view, its expression :math:`x_v` (smoothed over the graph once, for the second view
    three times) and the codes E of the genes, a refined view is :math:`z_v = (x_v + W h_v + b) E`, computed as
    :math:`x_v E + h_v (W E) + b E`, so that no (cell, gene) matrix is made.

    ``n_genes``: genes of the expression. ``input_dim``: width of what the encoders read. ``feature_dim``: width of a
    gene's features. ``hidden_dim``: width of the cells' codes. ``dim``: width of each refined view.
    """

    def __init__(self, *, n_genes: int, input_dim: int, feature_dim: int, hidden_dim: int = 256, dim: int = 32) -> None:
        super().__init__()
        self.alone = nn.Linear(input_dim, hidden_dim)
        self.graph_first = nn.Linear(input_dim, hidden_dim)
        self.graph_second = nn.Linear(hidden_dim, hidden_dim)
        self.projector = nn.Linear(hidden_dim, n_genes)
        self.genes = GeneEncoder(feature_dim=feature_dim, dim=dim)
        _shrink(self.projector, _PROJECTOR_START)

    def forward(
        self,
        inputs: Float[Tensor, "cell input"],
        *,
        expression: Tensor,
        mean: Float[Tensor, " gene"],
        cell_graph: Tensor,
        gene_features: Float[Tensor, "gene feature"],
        gene_graph: Tensor,
    ) -> tuple[Float[Tensor, "cell dim"], Float[Tensor, "cell dim"]]:
        """Refine both views; rows are not normalised.

        ``inputs``: what the encoders read. ``expression``: (cell, gene), sparse. ``mean``: of each gene: the expression
        is centred by it without becoming dense. ``cell_graph``, ``gene_graph``: sparse propagation over the cells and
        over the genes.
        """
        codes = self.genes(gene_features, gene_graph)
        alone = F.normalize(F.leaky_relu(self.alone(inputs), SLOPE))
        hidden = F.leaky_relu(self.graph_first(cell_graph @ inputs), SLOPE)
        over_graph = F.normalize(self.graph_second(cell_graph @ hidden))
        read = cell_graph @ (expression @ codes - mean @ codes)  # (cell, dim)
        back, shift = self.projector.weight.T @ codes, self.projector.bias @ codes
        return read + alone @ back + shift, cell_graph @ (cell_graph @ read) + over_graph @ back + shift


def _shrink(layer: nn.Linear, factor: float) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(factor)


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
