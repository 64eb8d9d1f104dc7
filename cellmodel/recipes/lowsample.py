"""``lowsample``: cells as the text of their own genes, refined by contrast, after arXiv 2509.23543, without labels.

The most expressed genes of a cell → text vectors → a mean weighted by expression → contrastive refinement. Corrected
against the paper, which states neither the number of genes nor the form of the loss nor the splits:

- gene vectors are whitened first, and a gene counts by how specific it is to few cells (an inverse document
  frequency), since otherwise housekeeping genes make all cells alike;
- the contrast needs no label: two views of a cell are its counts thinned, twice, or, where there are no counts, its
  genes dropped at random; so that labels of cells to be scored cannot reach it. They are thinned to half, and to 300
  molecules at most: halves of a deep cell hardly differ, and separating cells that never change teaches nothing but
  to spread them (k-means on darmanis: mean of ACC, NMI and ARI .09, and .65 so). The form with labels is
  :mod:`cellmodel.annotate.classify`, and is fitted to the training cells alone;
- the last step's model is taken; no step, seed or setting is chosen by labels.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cellmodel.core import random as seeding
from cellmodel.core.arrays import CellByGene, Embedding, GeneVectors, unit_rows
from cellmodel.nn.losses import info_nce
from cellmodel.nn.modules import Projector, weights_of, with_weights
from cellmodel.nn.train import Batch, TrainConfig, find_device, fit
from cellmodel.pp.gene_weights import N_TOP, gene_specificity, rows_to_one, specific_weights
from cellmodel.pp.moments import column_moments
from cellmodel.recipes.base import CellViews, NewCells, Recipe, Representation
from cellmodel.recipes.graph_training import in_content_order
from cellmodel.recipes.heads import kmeans_head

TEMPERATURE: Final = 0.1
TRAINING: Final = TrainConfig(n_steps=300, batch_size=256)
KEPT: Final = 0.5  # share of the counts, or of the genes, that a view keeps
MOST_KEPT: Final = 300.0  # counts of a cell that a view keeps at most, in the mean
TARGET_SUM: Final = 1e4

View = Callable[[Tensor], Tensor]  # rows of a batch → text of these cells in another view


def represent(views: CellViews, seed: int) -> Representation:
    """Refine the specific text of the cells; without knowledge, genes are coded by their loadings on the components."""
    views, places = in_content_order(views)
    vectors = views.gene_vectors if views.gene_vectors is not None else gene_loadings(views.expression, views.pcs)
    specificity = gene_specificity(views.expression)
    weights = specific_weights(views.expression, specificity=specificity, n_top=N_TOP)
    pooled = np.asarray(weights @ vectors, dtype=np.float32)
    mean = pooled.mean(axis=0)
    spread = max(float((pooled - mean).std()), 1e-12)
    device = find_device(views.device)
    text = torch.from_numpy((pooled - mean) / spread).to(device)
    rng = seeding.generator(seed, "views")
    draw = _dropped(weights, rng) if views.counts is None else _thinned(views, weights, specificity, rng)

    def view(rows: Tensor) -> Tensor:
        drawn = np.asarray(rows_to_one(draw(rows.cpu().numpy())) @ vectors, dtype=np.float32)
        return torch.from_numpy((drawn - mean) / spread).to(device)

    with seeding.scope(seed):
        model = Projector(dim=text.shape[1]).to(device)
        rows = {"rows": torch.arange(len(text))}
        config = TRAINING.changed(views.training)
        history = fit(model, contrast(view), views=rows, config=config, rng=seeding.generator(seed, "batches"))
    with torch.inference_mode():
        z = unit_rows(model(text).cpu().numpy())[places]
    levels, _ = column_moments(views.expression)
    state = {"vectors": vectors, "specificity": specificity, "levels": levels, "mean": mean, "spread": np.array(spread)}
    return Representation(
        z=z,
        z_expr=views.smoothed[places],
        z_text=unit_rows(text.cpu().numpy())[places],
        features=z,
        history=history,
        state=state | {f"model.{name}": values for name, values in weights_of(model).items()},
    )


def embed(cells: NewCells, state: Mapping[str, np.ndarray]) -> Representation:
    """Refine the text of new cells by the projection that was fitted."""
    vectors, specificity, levels = (state[name][cells.has_gene] for name in ("vectors", "specificity", "levels"))
    weights = specific_weights(cells.expression, specificity=specificity, n_top=N_TOP, mean=levels)
    text = torch.from_numpy(((weights @ vectors - state["mean"]) / state["spread"]).astype(np.float32))
    model = Projector(dim=text.shape[1])
    with_weights(model, {name.removeprefix("model."): values for name, values in state.items()})
    with torch.inference_mode():
        z = unit_rows(model(text).numpy())
    return Representation(z=z, z_expr=cells.smoothed, z_text=unit_rows(text.numpy()), features=z)


def contrast(view: View) -> Callable[[nn.Module, Batch], dict[str, Tensor]]:
    """Objective: two views of a cell are nearer to each other than to those of the other cells of the batch."""

    def objective(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        first, second = (model(view(batch["rows"])) for _ in range(2))
        return {"contrast": info_nce(first, second, temperature=TEMPERATURE)}

    return objective


def gene_loadings(expression: CellByGene, pcs: Embedding) -> GeneVectors:
    """Give the genes' loadings on principal components, from the scores: they replace text where there is none."""
    centered = pcs - pcs.mean(axis=0)
    scale = np.maximum((centered**2).sum(axis=0), 1e-12)
    return np.asarray(expression.T @ (centered / scale), dtype=np.float32)


def _thinned(
    views: CellViews, weights: CellByGene, specificity: Float[np.ndarray, " gene"], rng: np.random.Generator
) -> Callable[[np.ndarray], CellByGene]:
    """Draw views by thinned counts of the genes that are read, normalized and weighted as before."""
    is_read = sp.csr_matrix((np.ones_like(weights.data), weights.indices, weights.indptr), shape=weights.shape)
    counts = is_read.multiply(views.counts).tocsr()
    depth = np.maximum(views.depth, 1e-12)
    share = np.minimum(KEPT, MOST_KEPT / depth)
    scale = TARGET_SUM / (share * depth)

    def draw(rows: np.ndarray) -> CellByGene:
        batch = counts[rows]
        n_read = np.diff(batch.indptr)
        kept = rng.binomial(np.round(batch.data).astype(np.int64), np.repeat(share[rows], n_read))
        batch.data = np.log1p(kept * np.repeat(scale[rows], n_read)) * specificity[batch.indices]
        return batch

    return draw


def _dropped(weights: CellByGene, rng: np.random.Generator) -> Callable[[np.ndarray], CellByGene]:
    """Draw views by genes dropped at random."""

    def draw(rows: np.ndarray) -> CellByGene:
        batch = weights[rows]
        batch.data = batch.data * (rng.random(len(batch.data)) < KEPT)
        return batch

    return draw


RECIPE: Final = Recipe(
    name="lowsample",
    represent=represent,
    head=kmeans_head,
    uses_text=True,
    out_of_core=True,
    uses_counts=True,
    embed=embed,
)
