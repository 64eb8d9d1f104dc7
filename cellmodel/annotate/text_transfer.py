"""Classes of clusters of a query by the texts of genes alone: for genes whose names say nothing of each other."""

from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.annotate.shared_genes import TextMatch
from cellmodel.cluster.algorithms import cluster_means, kmeans

N_NEAREST: Final = (
    10  # genes of the query that stand for one of the reference; and neighbours that hubness is taken from
)
SHARPNESS: Final = 0.2  # temperature of the similarity of two texts
SURETY: Final = 4.0  # of a class, by standard deviation of its scores over the clusters
_FEWEST, _MOST, _CELLS_EACH = 15, 40, 40  # clusters of the query, and cells of one
_LEAST: Final = 1e-9


def classify_by_text(
    match: TextMatch, *, labelled: Int[np.ndarray, " labelled"], classes: Int[np.ndarray, " labelled"], seed: int
) -> Float[np.ndarray, "cell class"]:
    """Give the cells of each cluster of the query the class whose profile its genes have, by their texts.

    Many weak matches are averaged over a cluster, where cells by themselves are too noisy: each gene of the reference
    is compared with the weighted mean of ten of the query, whatever their names. ``labelled``, ``classes``: rows of the
    reference and their classes, 0 .. k-1. Returns probabilities, the same for all cells of a cluster.
    """
    n_cells = len(match.query)
    n_clusters = min(_MOST, max(_FEWEST, n_cells // _CELLS_EACH), max(n_cells // 3, 1))
    clusters = kmeans(match.query_features, n_clusters=n_clusters, seed=seed, n_init=2)
    weights = match_weights(match.reference_vectors, match.query_vectors)
    trust = np.asarray(weights.sum(axis=1)).ravel()
    profiles = _centred(cluster_means(match.query, clusters)) @ weights.T / np.maximum(trust, _LEAST)
    wanted = _centred(cluster_means(match.reference[labelled], classes))
    scores = _standard(wanted, trust) @ (_standard(profiles, trust) * trust).T  # (class, cluster)
    scores = (scores - scores.mean(axis=1, keepdims=True)) / (scores.std(axis=1, keepdims=True) + _LEAST)
    chances = np.exp(SURETY * (scores - scores.max(axis=0)))
    return np.asarray((chances / chances.sum(axis=0)).T[clusters], dtype=np.float64)


def match_weights(reference: Float[np.ndarray, "gene dim"], query: Float[np.ndarray, "other dim"]) -> sp.csr_matrix:
    """Weigh the ten genes of the query whose texts are nearest to each of the reference; (gene, other).

    The cosine is corrected for hubs, texts that are near to all others :cite:`conneau2018csls`: twice the cosine less
    the mean cosine of either gene to its ten nearest; its exponential is the weight. Rows of both are of unit length.
    """
    cosine = reference @ query.T
    n_across, n_down = min(N_NEAREST, len(query)), min(N_NEAREST, len(reference))
    across = np.partition(cosine, -n_across, axis=1)[:, -n_across:].mean(axis=1, keepdims=True)
    down = np.partition(cosine, -n_down, axis=0)[-n_down:].mean(axis=0, keepdims=True)
    similarity = 2 * cosine - across - down
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :n_across]
    values = np.exp((np.take_along_axis(similarity, nearest, axis=1) - similarity.max()) / SHARPNESS)
    rows = np.repeat(np.arange(len(reference)), n_across)
    return sp.csr_matrix((values.ravel(), (rows, nearest.ravel())), shape=cosine.shape)


def _centred(means: Float[np.ndarray, "group gene"]) -> Float[np.ndarray, "group gene"]:
    return np.asarray(means - means.mean(axis=0), dtype=np.float64)


def _standard(
    profiles: Float[np.ndarray, "group gene"], trust: Float[np.ndarray, " gene"]
) -> Float[np.ndarray, "group gene"]:
    """Profiles less their mean, of length one, under the weights of the genes."""
    centred = profiles - (profiles @ trust / trust.sum())[:, None]
    return np.asarray(centred / np.sqrt(centred**2 @ trust + _LEAST)[:, None])
