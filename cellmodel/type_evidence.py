"""What cell types say of genes, by two witnesses: the text of the type against those of the genes, and its markers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import scipy.sparse as sp
from jaxtyping import Bool, Int

import genekb
from cellmodel.align import GeneAlignment
from cellmodel.cell_types import CellType, read_cell_types
from cellmodel.query_weights import standard_weights, text_weights

_FIRST_HAND = ("symbol", "authority_symbol", "gene_id", "ensembl")  # names that are a gene's own
_TEXT_SHARE = 0.5  # of the weight of the markers, which are the stronger witness


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TypeEvidence:
    """What each type says of each gene.

    Parameters
    ----------
    types
        The candidates.
    text, markers
        (type, gene) weights of either witness: their product with a standard profile is its score.
    both
        Markers and half of the text, over the root of the sum of squares of these shares: a sum of two independent
        scores with standard deviation one has that too. One witness alone where the type has no other.
    n_markers
        (type,) markers that the store knows, measured or not.
    """

    types: tuple[CellType, ...]
    text: sp.csr_matrix
    markers: sp.csr_matrix
    both: sp.csr_matrix
    n_markers: Int[np.ndarray, " type"]


def type_evidence(types: Sequence[CellType], alignment: GeneAlignment, kb: genekb.Store) -> TypeEvidence:
    """Read the types with the encoder of an alignment, and find their marker genes among the aligned.

    Raises
    ------
    NotAvailable
        If the encoder's weights are not on this machine.
    """
    table = [one.text for one in read_cell_types()]
    wanted = [one.text for one in types]
    texts = list(dict.fromkeys([*table, *wanted]))  # each is read once
    vectors = np.asarray(kb.encoder(alignment.encoder_id).encode(texts).vectors)
    row = {text: number for number, text in enumerate(texts)}
    text = text_weights(
        vectors[[row[text] for text in wanted]],
        alignment.vectors,
        has_vector=alignment.has_vector,
        centre=vectors[[row[text] for text in table]].mean(axis=0),
    )
    markers, n_markers = marker_weights(types, alignment.gene_ids, kb)
    both = combine_witnesses(text, markers, has_markers=n_markers > 0)
    return TypeEvidence(types=tuple(types), text=text, markers=markers, both=both, n_markers=n_markers)


def combine_witnesses(
    text: sp.csr_matrix, markers: sp.csr_matrix, *, has_markers: Bool[np.ndarray, " type"]
) -> sp.csr_matrix:
    """Add the witnesses of each type; see :class:`TypeEvidence`.

    Parameters
    ----------
    has_markers
        Which types list markers that the store knows: if none of them is measured, that counts against the type.
    """
    share = np.where(has_markers, _TEXT_SHARE, 1.0)
    length = np.sqrt(share**2 + has_markers)
    return sp.csr_matrix(sp.diags(share / length) @ text + sp.diags(1 / length) @ markers)


def marker_weights(
    types: Sequence[CellType], gene_ids: Int[np.ndarray, " gene"], kb: genekb.Store
) -> tuple[sp.csr_matrix, Int[np.ndarray, " type"]]:
    """Weigh markers evenly; a type loses score by those that the store knows and the cells do not show.

    Parameters
    ----------
    gene_ids
        GeneID of each gene of the cells; 0 where there is none.

    Returns
    -------
    (type, gene) of :func:`cellmodel.query_weights.standard_weights`, times the root of the share of markers measured;
    and the markers of each type that the store knows.
    """
    genes_of = resolve_markers([gene for one in types for gene in one.genes], kb)
    rows, columns, shares, n_known = [], [], np.zeros(len(types)), np.zeros(len(types), dtype=np.int64)
    for row, one in enumerate(types):
        known = [genes_of[gene] for gene in one.genes if genes_of[gene]]
        measured = np.flatnonzero(np.isin(gene_ids, [gene_id for each in known for gene_id in each]))
        rows += [row] * len(measured)
        columns += measured.tolist()
        shown = sum(bool(np.isin(each, gene_ids).any()) for each in known)
        shares[row], n_known[row] = shown / max(len(known), 1), len(known)
    weights = sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(types), len(gene_ids)))
    return sp.csr_matrix(sp.diags(np.sqrt(shares)) @ standard_weights(weights)), n_known


def resolve_markers(genes: Sequence[str], kb: genekb.Store) -> dict[str, tuple[int, ...]]:
    """Find the GeneIDs that each symbol stands for: its own, else all orthologues, else an alias that is unique."""
    names = kb.table("names")
    by_ortholog: dict[str, list[int]] = {}
    of_others = names.filter(pc.equal(names["kind"], "ortholog"))
    for name, gene_id in zip(of_others["name"].to_pylist(), of_others["gene_id"].to_pylist(), strict=True):
        by_ortholog.setdefault(name, []).append(gene_id)
    wanted = list(dict.fromkeys(genes))
    found = kb.resolve(wanted)
    resolved = {}
    for name, gene_id, status in zip(wanted, found.gene_ids.tolist(), found.status.tolist(), strict=True):
        own = (gene_id,) if gene_id else ()
        resolved[name] = own if status in _FIRST_HAND else tuple(by_ortholog.get(name, own))
    return resolved
