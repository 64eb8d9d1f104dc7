"""How alike two embeddings place the same cells, by the order of all pairs and by the nearest cells."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from cellmodel.core.arrays import Embedding, unit_rows
from cellmodel.core.config import GraphConfig
from cellmodel.pp.graph import knn_graph

N_NEIGHBORS: Final = 15  # of each cell, that both sides are asked for


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreementRow:
    """How alike two embeddings place the same cells."""

    # what stands on the pooled side: ``real``; ``shuffled genes``, whose vectors were permuted, so that only
    # the genes that cells share are left; ``shuffled cells``, what chance gives
    pooled: str
    # spearman correlation, over all pairs of cells, of the pooled cosine with the encoded one, both sides centred:
    # representational similarity analysis :cite:`kriegeskorte2008rsa`. 1 is the same order of pairs, 0 none
    similarity: float
    neighbour_overlap: float  # share of a cell's 15 nearest by one side that are among its 15 nearest by the other


def compare_readings(pooled: Mapping[str, Embedding], encoded: Embedding) -> tuple[AgreementRow, ...]:
    """Measure how alike embeddings place the same cells.

    ``pooled``: embeddings by name; row *i* of all is cell *i*, of any length and dimension. Each is centred over these
    cells. ``encoded``: what each is compared with. Returns nothing where there are no more than 16 cells, so that all
    are neighbours, or no pair of them differs from another.
    """
    if len(encoded) <= N_NEIGHBORS + 1:
        return ()
    sides = {name: centred_rows(side) for name, side in pooled.items()}
    read = centred_rows(encoded)
    ranks, neighbours = _pair_ranks(read), _neighbours(read)
    rows = []
    for name, side in sides.items():
        of_side = _pair_ranks(side)
        if min(ranks.std(), of_side.std()) == 0:
            return ()
        similarity = float(np.corrcoef(of_side, ranks)[0, 1])
        overlap = float(_neighbours(side).multiply(neighbours).sum() / neighbours.nnz)
        rows.append(AgreementRow(pooled=name, similarity=similarity, neighbour_overlap=overlap))
    return tuple(rows)


def centred_rows(embedding: Embedding) -> Embedding:
    """Take out the mean and scale each row to length one."""
    return unit_rows(embedding.astype(np.float64) - embedding.mean(axis=0, dtype=np.float64))


def _pair_ranks(rows: Embedding) -> Float[np.ndarray, " pair"]:
    """Ranks of the cosines of all pairs of different cells; the sample is small, so all pairs fit."""
    from scipy.stats import rankdata

    first, second = np.triu_indices(len(rows), k=1)
    return np.asarray(rankdata((rows @ rows.T)[first, second]))


def _neighbours(rows: Embedding) -> sp.csr_matrix:
    graph = knn_graph(rows, config=GraphConfig(n_neighbors=N_NEIGHBORS))
    return sp.csr_matrix((np.ones(graph.nnz), graph.indices, graph.indptr), shape=graph.shape)
