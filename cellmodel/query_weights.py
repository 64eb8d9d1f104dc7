"""Queries as weights of genes: from the vectors of a query and of the genes' texts, or from a list of genes."""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float

from cellmodel.errors import AlignmentTooLow
from cellmodel.semantics import unit_rows
from cellmodel.types import GeneVectors
from genekb.hints import counted

_N_TOP = 50  # genes whose texts are nearest to a query
_LEAST = 1e-12
_TEXT_SHARE = 0.5  # of the weight of markers, which are the stronger witness


def text_weights(
    queries: Float[np.ndarray, "query dim"],
    gene_vectors: GeneVectors,
    *,
    has_vector: Bool[np.ndarray, " gene"],
    centre: Float[np.ndarray, " dim"],
    n_top: int = _N_TOP,
) -> sp.csr_matrix:
    """Weigh the genes whose texts are nearest to each query.

    Texts of genes are alike in much that says nothing, and so are queries: both are centred on their own mean before
    the cosine is taken. The cosines of a query are standardised over the genes; the highest are its weights.

    Parameters
    ----------
    centre
        Mean vector of queries of this kind; one query alone has no mean of its own.
    n_top
        Genes that a query keeps.

    Returns
    -------
    (query, gene) positive weights, scaled by :func:`standard_weights`.

    Raises
    ------
    AlignmentTooLow
        If fewer than two genes have a vector.
    """
    if np.count_nonzero(has_vector) < 2:  # noqa: PLR2004 - one gene is nearest to everything
        found = counted(int(np.count_nonzero(has_vector)), "gene of the cells has", plural="genes of the cells have")
        raise AlignmentTooLow(
            f"{found} a vector, at least 2 are needed; give cells with more genes, or a store of their species (--kb)"
        )
    columns = np.flatnonzero(has_vector)
    genes = gene_vectors[columns].astype(np.float64)
    cosines = unit_rows(queries.astype(np.float64) - centre) @ unit_rows(genes - genes.mean(axis=0)).T
    spread = np.maximum(cosines.std(axis=1, keepdims=True), _LEAST)
    nearness = (cosines - cosines.mean(axis=1, keepdims=True)) / spread
    top = np.argsort(-nearness, axis=1, kind="stable")[:, :n_top]
    values = np.maximum(np.take_along_axis(nearness, top, axis=1), 0.0)
    rows = np.repeat(np.arange(len(queries)), top.shape[1])
    shape = (len(queries), len(has_vector))
    return standard_weights(sp.csr_matrix((values.ravel(), (rows, columns[top.ravel()])), shape=shape))


def standard_weights(weights: sp.csr_matrix) -> sp.csr_matrix:
    """Scale each row so that its deviations from its own mean have length one; a constant row becomes zero."""
    weights = weights.astype(np.float64)
    total = np.asarray(weights.sum(axis=1)).ravel()
    squares = np.asarray(weights.multiply(weights).sum(axis=1)).ravel()
    length = np.sqrt(np.maximum(squares - total**2 / weights.shape[1], 0.0))
    scale = np.divide(1.0, length, out=np.zeros_like(length), where=length > _LEAST)
    return sp.csr_matrix(sp.diags(scale) @ weights)


def widened_weights(
    text: sp.csr_matrix, markers: sp.csr_matrix, nearness: Float[np.ndarray, "query type"]
) -> sp.csr_matrix:
    """Add the markers of the cell types that a query means to the weights of its text.

    Parameters
    ----------
    text
        (query, gene) of :func:`text_weights`.
    markers
        (type, gene) of :func:`standard_weights`.
    nearness
        How surely the query means the type, 0 to 1, of :func:`type_nearness`.

    Returns
    -------
    (query, gene) of :func:`standard_weights`: half of the text, and the markers as far as the nearest type is sure.
    """
    of_types = standard_weights(sp.csr_matrix(nearness**2) @ markers)
    return standard_weights(_TEXT_SHARE * text + sp.diags(nearness.max(axis=1)) @ of_types)


def type_nearness(
    queries: Float[np.ndarray, "query dim"], *tables: Float[np.ndarray, "type dim"]
) -> Float[np.ndarray, "query type"]:
    """Tell how surely each query means each type: 0 up to the cosine that types have to their nearest other, 1 at 1.

    Parameters
    ----------
    tables
        Vectors of the types, told in one way or several (by name, by definition); the nearest way counts.
    """
    cosines, among = [], []
    for table in tables:
        centred = unit_rows(table - table.mean(axis=0))
        cosines.append(unit_rows(queries - table.mean(axis=0)) @ centred.T)
        among.append(centred @ centred.T)
    others = np.max(among, axis=0)
    np.fill_diagonal(others, -1.0)
    limit = min(float(np.median(others.max(axis=1))), 1 - _LEAST)
    return np.clip((np.max(cosines, axis=0) - limit) / (1 - limit), 0.0, 1.0)
