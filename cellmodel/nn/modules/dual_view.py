"""Two encoders of the same cells, one of each cell alone and one over the graph, refined through the genes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2  # of LeakyReLU below zero
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
