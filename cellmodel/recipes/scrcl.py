"""``scrcl``: two views of cells, aligned over a graph and refined through genes (scRCL, AAAI 2026), corrected.

As in the paper: a view of each cell alone (linear, LeakyReLU) and one over the cell graph (two graph convolutions and a
linear map); a shared projector from both back to the genes; a graph convolutional encoder of the genes over their
k = 5 graph; :math:`z_v = p_v E`; alignment of the views' distributions, neighborhood contrast and cross-view
consistency; k-means on both refined views side by side; a graph of coordinates for spatial data.

Corrected, with figures as mean of ACC, NMI and ARI on development sets, one seed:

- Input is normalized, not raw counts, whose depth the published model learns.
- Genes come with features of a fixed width (their loadings on the principal components, or the vectors of their texts
  in ``scrcl-text``); the published gene encoder has one input per cell, so it cannot be kept for other cells.
- The encoders read the principal components, a linear map of the genes, and their outputs *correct* the cell's own
  expression, :math:`p_v = x_v + W h_v + b`; the published projector has to learn the whole expression again.
- Losses see the directions of the views, the head their lengths too: with rows of length one, k-means and Ward split
  large types and join small ones (Ward, three sets, views of width 64: .67 against .88).
- Views have 32 dimensions; with 64, three sets score .767 by k-means and .759 by Ward, with 32 .753 and .840 (the gain
  by Ward is one set's), and the largest of them takes 18.8 s of CPU against 12.9 s.
- Divergences are in logarithms and at least zero; other cells and unlinked pairs are drawn again each epoch, uniformly
  from all other cells, where the paper compares all n × n.
- The last epoch counts, the number of epochs and all weights are the same for all data; no label is seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import HeteroData

from cellmodel.core import random as seeding
from cellmodel.core.arrays import CellByGene, Embedding, GeneVectors, row_blocks
from cellmodel.core.errors import InputUnusable
from cellmodel.nn.graphs import (
    CellGraphs,
    DualViewRefiner,
    csr_tensor,
    propagation,
    relate_cells,
    symmetric_propagation,
)
from cellmodel.nn.losses import cross_view_consistency, distribution_alignment, neighborhood_contrast
from cellmodel.nn.modules import sparse_product, weights_of, with_weights
from cellmodel.nn.train import Batch, Term, TrainConfig, find_device, fit, objective, without
from cellmodel.pp.moments import column_moments
from cellmodel.recipes.base import CellViews, NewCells, Recipe, Representation
from cellmodel.recipes.graph_training import (
    BATCHING,
    Batching,
    GraphInputs,
    batches,
    in_content_order,
    standard_of,
    standardized,
)
from cellmodel.recipes.heads import kmeans_head

TEMPERATURE: Final = 0.1
N_OTHERS: Final = 15  # cells drawn for each cell and epoch
N_PAIRS: Final = 5  # of these, those whose cosine is shrunk towards 0: each costs a row of its own
GENE_NEIGHBORS: Final = 5
TRAINING: Final = TrainConfig(n_steps=100, batch_size=None, learning_rate=1e-3)
TERMS: Final = (
    Term(
        name="align",
        weight=1.0,
        loss=lambda z: distribution_alignment(z["alone"] / TEMPERATURE, z["over_graph"] / TEMPERATURE),
    ),
    Term(
        name="neighborhood",
        weight=1.0,
        loss=lambda z: neighborhood_contrast(
            z["alone"] / TEMPERATURE, z["over_graph"] / TEMPERATURE, edges=z["edges"], others=z["others"]
        ),
    ),
    Term(
        name="consistency",
        weight=1.0,
        loss=lambda z: cross_view_consistency(z["alone"], z["over_graph"], edges=z["edges"], pairs=z["pairs"]),
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Graphs:
    """What is read of the cells of a batch."""

    propagation: Tensor
    edges: Int[Tensor, "2 edge"]  # row 0 the cell, row 1 a neighbor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Inputs(GraphInputs[_Graphs]):
    """Cells with their ``pcs``, and what is read of the genes."""

    expression: CellByGene
    all_expression: Tensor | None  # the same; None where a step takes a part of the cells
    mean: Float[Tensor, " gene"]
    gene_features: Float[Tensor, "gene feature"]
    gene_graph: Tensor


def gene_loadings(views: CellViews) -> GeneVectors:
    """(gene, dim) least-squares weights of the centered genes on the principal components, each of unit mean square."""
    mean, _ = column_moments(views.expression)
    pcs: Embedding = views.pcs - views.pcs.mean(axis=0)
    loadings = views.expression.T @ pcs - np.outer(mean, pcs.sum(axis=0))
    lengths = np.sqrt((loadings**2).mean(axis=0))
    return np.divide(loadings, lengths, out=np.zeros_like(loadings), where=lengths > 0).astype(np.float32)


def represent(
    views: CellViews,
    seed: int,
    *,
    by_text: bool = False,
    off: frozenset[str] = frozenset(),
    batching: Batching = BATCHING,
) -> Representation:
    """Train both views; ``by_text``: whether genes come with the vectors of their texts, not with their loadings."""
    if by_text and views.gene_vectors is None:
        raise InputUnusable("recipe 'scrcl-text' reads the texts of genes; give `kb`, and leave out `knowledge`")
    ordered, places = in_content_order(views, reads=("pcs", "expression", "graph", "knn", "spatial"))
    vectors = ordered.gene_vectors if by_text else None
    inputs = _inputs(ordered, gene_loadings(ordered) if vectors is None else vectors, seed=seed, batching=batching)
    rng = torch.Generator().manual_seed(seeding.derive(seed, "other cells"))
    with seeding.scope(seed):
        pcs, genes = inputs.cells["pcs"], inputs.gene_features
        model = DualViewRefiner(n_genes=len(genes), input_dim=pcs.shape[1], feature_dim=genes.shape[1]).to(pcs.device)
        history = fit(
            model,
            objective(partial(_forward, inputs=inputs, rng=rng), without(TERMS, off)),
            views=inputs.cells,
            config=TRAINING.changed(views.training),
            rng=seeding.generator(seed, "batches"),
            draw=inputs.draw,
        )
    found = _embed(model, inputs)
    z, own = (found.pop(name)[places] for name in ("z", "own"))
    state = weights_of(model) | standard_of(views.pcs) | {**found, "own": own}
    return Representation(z=z, z_expr=views.smoothed, z_text=views.text, features=z, history=history, state=state)


def embed(cells: NewCells, state: Mapping[str, np.ndarray]) -> Representation:
    """Place new cells by the trained views, over the graph of the fitted cells with the new ones attached.

    A gene that they lack is taken at its mean.
    """
    pcs = torch.from_numpy(standardized(np.vstack([cells.fitted_pcs, cells.pcs]), state))
    codes, mean = state["codes"][cells.has_gene], state["mean"][cells.has_gene]
    own = np.vstack([state["own"], cells.expression @ codes - mean @ codes]).astype(np.float32)
    model = DualViewRefiner(
        n_genes=len(state["mean"]), input_dim=pcs.shape[1], feature_dim=state["genes.linear.weight"].shape[1]
    )
    with_weights(model, state)
    graph = symmetric_propagation(cells.graph)
    with torch.no_grad():
        views = model(pcs, torch.from_numpy(own), codes=torch.from_numpy(state["codes"]), cell_graph=graph)
    z = torch.cat(views, dim=1)[len(cells.fitted_pcs) :].numpy()
    return Representation(z=z, z_expr=cells.smoothed, z_text=cells.text, features=z)


@torch.no_grad()
def _embed(model: DualViewRefiner, inputs: _Inputs) -> dict[str, np.ndarray]:
    """Give ``z``, the ``codes`` of the genes, and what new cells need: the ``mean``, and what ``own`` expression gave.

    The expression is read some cells at a time.
    """
    codes = model.genes(inputs.gene_features, inputs.gene_graph)
    blocks = (csr_tensor(block).to(codes.device) for block in row_blocks(inputs.expression))
    own = torch.cat([block @ codes for block in blocks]) - inputs.mean @ codes
    refined = model(inputs.cells["pcs"], own, codes=codes, cell_graph=inputs.graphs.whole.propagation)
    found = {"z": torch.cat(refined, dim=1), "own": own, "codes": codes, "mean": inputs.mean}
    return {name: values.cpu().numpy() for name, values in found.items()}


def _forward(model: DualViewRefiner, batch: Batch, *, inputs: _Inputs, rng: torch.Generator) -> Mapping[str, Tensor]:
    """Directions of both views, and the other cells of this epoch."""
    graphs, n_cells = inputs.graphs.of(batch["cell"]), len(batch["cell"])
    expression = inputs.all_expression
    if expression is None:
        expression = csr_tensor(inputs.expression[batch["cell"].cpu().numpy()]).to(batch["pcs"].device)
    codes = model.genes(inputs.gene_features, inputs.gene_graph)
    own = sparse_product(expression, codes) - inputs.mean @ codes
    refined = model(batch["pcs"], own, codes=codes, cell_graph=graphs.propagation)
    alone, over_graph = (F.normalize(view) for view in refined)
    cells = torch.arange(n_cells, device=alone.device)[:, None]
    steps = torch.randint(1, n_cells, (n_cells, N_OTHERS), generator=rng)  # never a whole turn: not the cell
    others = (cells + steps.to(cells.device)) % n_cells
    apart = others[:, :N_PAIRS]
    pairs = torch.stack([cells.expand_as(apart).reshape(-1), apart.reshape(-1)])
    return {"alone": alone, "over_graph": over_graph, "edges": graphs.edges, "others": others, "pairs": pairs}


def _inputs(views: CellViews, gene_features: GeneVectors, *, seed: int, batching: Batching) -> _Inputs:
    device = find_device(views.device)
    draw = batches(views.pcs, seed=seed, batching=batching, spatial=views.spatial)
    mean, _ = column_moments(views.expression)
    near, graph = (views.knn, views.graph) if views.spatial is None else (views.spatial, views.spatial)
    genes = gene_graph(views.expression, n_neighbors=GENE_NEIGHBORS)
    cells = {"pcs": torch.from_numpy(standardized(views.pcs)), "cell": torch.arange(len(views.pcs))}
    return _Inputs(
        cells={name: values.to(device) for name, values in cells.items()},
        graphs=CellGraphs(relate_cells(linked=graph, near=near), partial(_graphs, device=device)),
        draw=draw,
        expression=views.expression,
        all_expression=None if draw else csr_tensor(views.expression).to(device),
        mean=torch.from_numpy(mean.astype(np.float32)).to(device),
        gene_features=torch.from_numpy(gene_features).to(device),
        gene_graph=symmetric_propagation(genes).to(device),
    )


def _graphs(graph: HeteroData, *, device: torch.device) -> _Graphs:
    edges = graph["cell", "near", "cell"].edge_index.flip(0)
    return _Graphs(propagation=propagation(graph, "linked").to(device), edges=edges.to(device))


def gene_graph(expression: CellByGene, *, n_neighbors: int) -> sp.csr_matrix:
    """Link each gene with those that it correlates with best, and with those that chose it: (gene, gene) ones.

    Memory is the square of the genes. A gene without variance correlates with none, and chooses the first.
    """
    n_cells, n_genes = expression.shape
    mean, deviation = column_moments(expression)
    covariance = (expression.T @ expression).toarray() / n_cells - np.outer(mean, mean)
    scale = np.outer(deviation, deviation)
    correlation = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0)
    np.fill_diagonal(correlation, -np.inf)
    chosen = np.argsort(-correlation, axis=1, kind="stable")[:, : min(n_neighbors, n_genes - 1)]
    rows = np.repeat(np.arange(n_genes), chosen.shape[1])
    links = sp.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, chosen.ravel())), shape=(n_genes, n_genes))
    return links.maximum(links.T).tocsr()


RECIPE: Final = Recipe(
    name="scrcl",
    represent=represent,
    head=kmeans_head,
    uses_text=False,
    uses_coordinates=True,
    out_of_core=True,
    train=represent,
    embed=embed,
    objectives=tuple(term.name for term in TERMS),
)
_represent_text: Final = partial(represent, by_text=True)
RECIPE_TEXT: Final = replace(
    RECIPE, name="scrcl-text", represent=_represent_text, uses_text=True, needs_text=True, train=_represent_text
)
