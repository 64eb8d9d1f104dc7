"""Cell types: names, definitions and marker genes; weights of genes by text and by markers, and scores by them."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import numpy as np
import pyarrow.compute as pc
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int

import genekb
from cellmodel.core.arrays import CellByGene, GeneVectors, Labels, unit_rows
from cellmodel.core.errors import AlignmentTooLow
from cellmodel.pp.moments import cluster_moments, column_moments
from cellmodel.pp.text.align import GeneAlignment
from genekb.core.messages import counted

UNASSIGNED: Final = "unassigned"  # name of what is given none
ON_REQUEST: Final = frozenset({"cell-line", "tumor"})  # groups of tissues that no sample has unless its owner says so
IN_EVERY_TISSUE: Final = ("blood", "lymphoid", "marrow", "connective", "vessel", "nerve")  # groups found in all organs
HUMAN: Final = 9606  # NCBI's taxon
_MOUSE: Final = 10090


@dataclass(frozen=True, kw_only=True, slots=True)
class CellType:
    """A name that a cluster can be given, and what is known of it."""

    name: str  # as it is shown
    ontology_label: str = ""  # of the Cell Ontology, the same or nearest; empty if none is known
    ontology_id: str = ""  # ``CL:`` and seven digits; empty without a label
    tissue: str = ""  # groups of tissues, with commas between; empty in a user's list
    definition: str = ""  # what the cell does, carries and secretes; empty if a user gives none
    genes: tuple[str, ...] = ()  # symbols of marker genes of human; of mouse where human has no such gene
    mouse_genes: tuple[str, ...] = ()  # further markers of mouse, which no orthologue of ``genes`` gives
    parent: str = ""  # name of the nearest broader type or group; empty if there is none
    level: str = ""  # ``broad`` where the name is of everyday use for a whole lineage

    @property
    def text(self) -> str:
        """What an encoder reads."""
        return f"{self.name}: {self.definition}" if self.definition else self.name

    def genes_of(self, taxa: Sequence[int]) -> tuple[str, ...]:
        """Symbols of marker genes in the species of a store."""
        return self.genes + self.mouse_genes if _MOUSE in taxa else self.genes


def read_cell_types() -> tuple[CellType, ...]:
    """Read the table of types that comes with the package."""
    return read_packaged("cell_types.tsv")


def usual_types() -> tuple[CellType, ...]:
    """Types to choose from where none are named: those of the table but for cell lines and tumors."""
    return tuple(one for one in read_cell_types() if ON_REQUEST.isdisjoint(one.tissue.split(",")))


def read_packaged(name: str) -> tuple[CellType, ...]:
    """Read a table of the package."""
    lines = files("cellmodel.annotate").joinpath("data", name).read_text(encoding="utf-8").splitlines()
    return tuple(map(cell_type_of_row, csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)))


def cell_type_of_row(row: Mapping[str, str]) -> CellType:
    """One row of a table; columns other than the name may be missing or empty."""

    def text(key: str) -> str:
        return (row.get(key) or "").strip()

    def genes(key: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(text(key).replace(",", " ").split()))

    return CellType(
        name=text("cell_type"),
        ontology_label=text("ontology_label"),
        ontology_id=text("ontology_id"),
        tissue=text("tissue"),
        definition=text("definition"),
        genes=genes("genes"),
        mouse_genes=genes("mouse_genes"),
        parent=text("parent"),
        level=text("level"),
    )


_TEXT_WEIGHT = 0.1  # of the weight of markers, beside which the text adds little
_FIRST_HAND = ("symbol", "authority_symbol", "gene_id", "ensembl")  # names that are a gene's own


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TypeEvidence:
    """What each type says of each gene."""

    types: tuple[CellType, ...]  # the candidates
    # text, markers: (type, gene) weights by either evidence source: their product with a standard profile is its score
    text: sp.csr_matrix
    markers: sp.csr_matrix
    # markers and a tenth of the text, over the root of the sum of squares of these shares: a sum of two independent
    # scores with standard deviation one has that too. One source alone where the type has no other
    both: sp.csr_matrix
    n_markers: Int[np.ndarray, " type"]  # (type,) markers that the store knows, measured or not


def type_evidence(types: Sequence[CellType], alignment: GeneAlignment, kb: genekb.Store) -> TypeEvidence:
    """Encode the types with the encoder of an alignment, and find their marker genes among the aligned."""
    known = (alignment.gene_ids, alignment.vectors, alignment.has_vector)
    return evidence_of_genes(types, known, kb, encoder_id=alignment.lineage.encoder_id)


def evidence_of_genes(
    types: Sequence[CellType],
    genes: tuple[Int[np.ndarray, " gene"], GeneVectors, Bool[np.ndarray, " gene"]],
    kb: genekb.Store,
    *,
    encoder_id: str,
    n_top: int | None = None,
    by_specificity: bool = True,
) -> TypeEvidence:
    """Find what types say of genes: their GeneIDs, vectors, and whether they have one.

    ``n_top``: of :func:`text_weights`. ``by_specificity``: of :func:`marker_weights`.
    """
    gene_ids, gene_vectors, has_vector = genes
    table = [one.text for one in read_cell_types()]
    wanted = [one.text for one in types]
    texts = list(dict.fromkeys([*table, *wanted]))  # each is read once
    vectors = np.asarray(kb.encoder(encoder_id).encode(texts).vectors)
    row = {text: number for number, text in enumerate(texts)}
    text = text_weights(
        vectors[[row[text] for text in wanted]],
        gene_texts(gene_vectors, has_vector=has_vector),
        center=vectors[[row[text] for text in table]].mean(axis=0),
        n_top=n_top or _N_TOP,
    )
    markers, n_markers = marker_weights(types, gene_ids, kb, by_specificity=by_specificity)
    lists_markers = np.array([bool(one.genes_of(kb.manifest.taxa)) for one in types])
    both = combine_evidence(text, markers, has_markers=lists_markers)
    return TypeEvidence(types=tuple(types), text=text, markers=markers, both=both, n_markers=n_markers)


def combine_evidence(
    text: sp.csr_matrix,
    markers: sp.csr_matrix,
    *,
    has_markers: Bool[np.ndarray, " type"],
    text_weight: float = _TEXT_WEIGHT,
) -> sp.csr_matrix:
    """Add both evidence sources of each type; see :class:`TypeEvidence`.

    A type that lists markers (``has_markers``), none of which is known or measured, loses by that.
    """
    weight = np.where(has_markers, text_weight, 1.0)
    length = np.sqrt(weight**2 + has_markers)
    return sp.csr_matrix(sp.diags(weight / length) @ text + sp.diags(1 / length) @ markers)


def marker_weights(
    types: Sequence[CellType], gene_ids: Int[np.ndarray, " gene"], kb: genekb.Store, *, by_specificity: bool = True
) -> tuple[sp.csr_matrix, Int[np.ndarray, " type"]]:
    """Weigh markers by how few types list them; a type loses score by those that are known and not measured.

    ``by_specificity``: whether they are weighed so; evenly if not.

    Returns (type, gene) of :func:`standard_weights`, times the root of the fraction of markers measured; and how many
    markers of each type the store knows.
    """
    listed = [one.genes_of(kb.manifest.taxa) for one in types]
    genes_of = resolve_markers([gene for genes in listed for gene in genes], kb)
    rows, columns, shares, n_known = [], [], np.zeros(len(types)), np.zeros(len(types), dtype=np.int64)
    present = set(gene_ids.tolist())
    for row, genes in enumerate(listed):
        known = [each for each in dict.fromkeys(genes_of[gene] for gene in genes) if each]
        measured = np.flatnonzero(np.isin(gene_ids, [gene_id for each in known for gene_id in each]))
        rows += [row] * len(measured)
        columns += measured.tolist()
        shown = sum(not present.isdisjoint(each) for each in known)
        shares[row], n_known[row] = shown / max(len(known), 1), len(known)
    weights = marker_specificity(gene_ids, kb)[columns] if by_specificity else np.ones(len(columns))
    listed_by = sp.csr_matrix((weights, (rows, columns)), shape=(len(types), len(gene_ids)))
    return sp.csr_matrix(sp.diags(np.sqrt(shares)) @ standard_weights(listed_by)), n_known


def marker_specificity(gene_ids: Int[np.ndarray, " gene"], kb: genekb.Store) -> Float[np.ndarray, " gene"]:
    """Weigh each gene by the log of the table's size over the types that list it; 1 for a gene of one type or none."""
    listed = [one.genes_of(kb.manifest.taxa) for one in read_cell_types()]
    genes_of = resolve_markers([gene for genes in listed for gene in genes], kb)
    ids = [gene_id for genes in listed for gene_id in {each for gene in genes for each in genes_of[gene]}]
    known, counts = np.unique(np.asarray(ids, dtype=np.int64), return_counts=True)
    n_types = np.ones(len(gene_ids))
    is_listed = np.isin(gene_ids, known)
    n_types[is_listed] = counts[np.searchsorted(known, gene_ids[is_listed])]
    return 1 - np.log(n_types) / np.log(len(listed))


def resolve_markers(genes: Sequence[str], kb: genekb.Store) -> dict[str, tuple[int, ...]]:
    """Find the GeneIDs that each symbol resolves to: its own, else all orthologues, else an alias that is unique.

    In a store of several species a symbol maps to its own gene and to the orthologues, of which cells have one.
    """
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
        others = by_ortholog.get(name, [])
        if status in _FIRST_HAND:
            resolved[name] = (*own, *others) if len(kb.manifest.taxa) > 1 else own
        else:
            resolved[name] = tuple(others) or own
    return resolved


_N_TOP = 50  # genes whose texts are nearest to a query
_LEAST = 1e-12
_QUERY_WEIGHT = 0.5  # the same in a query, whose words say more than the type that they mean


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GeneTexts:
    """Vectors of gene texts as queries are compared with them."""

    n_genes: int
    columns: Int[np.ndarray, " known"]  # of the genes that have a vector
    vectors: Float[np.ndarray, "known dim"]  # theirs, less their mean, of length one


def gene_texts(gene_vectors: GeneVectors, *, has_vector: Bool[np.ndarray, " gene"]) -> GeneTexts:
    """Prepare the vectors of gene texts for :func:`text_weights`; ``AlignmentTooLow`` where there are too few."""
    if np.count_nonzero(has_vector) < 2:  # noqa: PLR2004 - one gene is nearest to everything
        found = counted(int(np.count_nonzero(has_vector)), "gene of the cells has", plural="genes of the cells have")
        raise AlignmentTooLow(
            f"{found} a vector, at least 2 are needed; give cells with more genes, or a store of their species (`kb`)"
        )
    columns = np.flatnonzero(has_vector)
    vectors = gene_vectors[columns].astype(np.float64)
    return GeneTexts(n_genes=len(has_vector), columns=columns, vectors=unit_rows(vectors - vectors.mean(axis=0)))


def text_weights(
    queries: Float[np.ndarray, "query dim"],
    genes: GeneTexts,
    *,
    center: Float[np.ndarray, " dim"],
    n_top: int = _N_TOP,
) -> sp.csr_matrix:
    """Weigh the ``n_top`` genes whose texts are nearest to each query; (query, gene) of :func:`standard_weights`.

    Texts of genes are alike in much that says nothing, and so are queries: both are centered on their own mean before
    the cosine is taken. ``center``: mean vector of queries of this kind, since one query alone has none.
    """
    cosines = unit_rows(queries.astype(np.float64) - center) @ genes.vectors.T
    spread = np.maximum(cosines.std(axis=1, keepdims=True), _LEAST)
    nearness = (cosines - cosines.mean(axis=1, keepdims=True)) / spread
    top = np.argsort(-nearness, axis=1, kind="stable")[:, :n_top]
    values = np.maximum(np.take_along_axis(nearness, top, axis=1), 0.0)
    rows = np.repeat(np.arange(len(queries)), top.shape[1])
    shape = (len(queries), genes.n_genes)
    return standard_weights(sp.csr_matrix((values.ravel(), (rows, genes.columns[top.ravel()])), shape=shape))


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
    """Add the markers of the cell types that a query means, as far as ``nearness`` is sure, to half of its text.

    All three are (row, gene) of :func:`standard_weights`.
    """
    of_types = standard_weights(sp.csr_matrix(nearness**2) @ markers)
    return standard_weights(_QUERY_WEIGHT * text + sp.diags(nearness.max(axis=1)) @ of_types)


def type_nearness(
    queries: Float[np.ndarray, "query dim"], *tables: Float[np.ndarray, "type dim"]
) -> Float[np.ndarray, "query type"]:
    """How surely each query means each type: 0 up to the cosine that types have to their nearest other, 1 at cosine 1.

    ``tables``: vectors of the types by name, by definition, ...; the nearest counts.
    """
    cosines, among = [], []
    for table in tables:
        centered = unit_rows(table - table.mean(axis=0))
        cosines.append(unit_rows(queries - table.mean(axis=0)) @ centered.T)
        among.append(centered @ centered.T)
    others = np.max(among, axis=0)
    np.fill_diagonal(others, -1.0)
    limit = min(float(np.median(others.max(axis=1))), 1 - _LEAST)
    return np.clip((np.max(cosines, axis=0) - limit) / (1 - limit), 0.0, 1.0)


_MAX_PROFILE = 2.0  # standard deviations: no single gene makes a name
_MAX_CELL = 10.0  # standard deviations of one gene in one cell
_BLOCK_CELLS = 65_536


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class QueriedCells:
    """Cells as queries see them: the genes that a store knows."""

    expression: CellByGene  # (cell, gene) log-normalized
    gene_names: tuple[str, ...]  # one per column
    alignment: GeneAlignment  # what the store knows of the columns


def known_genes(expression: CellByGene, gene_names: Sequence[str], alignment: GeneAlignment) -> QueriedCells:
    """Keep the genes that the store knows and any cell expresses; the coverage stays that of all."""
    is_seen = np.bincount(expression.indices[expression.data > 0], minlength=expression.shape[1]) > 0
    kept = np.flatnonzero((alignment.gene_ids > 0) & is_seen)
    return QueriedCells(
        expression=expression[:, kept],
        gene_names=tuple(gene_names[column] for column in kept.tolist()),
        alignment=alignment.take(kept),
    )


def cluster_profiles(
    expression: CellByGene, clusters: Labels, *, balanced: bool = False
) -> Float[np.ndarray, "cluster gene"]:
    """Mean of each gene in each cluster, less its mean in all cells, in standard deviations, kept within ±2.

    ``balanced``: mean and deviation as if all clusters had one size, so that the largest is not compared with itself.
    """
    inside, _ = cluster_moments(expression, clusters)
    if balanced:
        mean = inside.mean.mean(axis=0)
        deviation = np.sqrt(inside.variance.mean(axis=0) + inside.mean.var(axis=0))
    else:
        mean, deviation = column_moments(expression.astype(np.float64))
    difference = inside.mean - mean
    profiles = np.divide(difference, deviation, out=np.zeros_like(difference), where=deviation > _LEAST)
    return np.clip(profiles, -_MAX_PROFILE, _MAX_PROFILE)


def standard_profiles(profiles: Float[np.ndarray, "cluster gene"]) -> Float[np.ndarray, "cluster gene"]:
    r"""Center each row, and scale it to mean square one.

    With rows *x* of these and weights *w* of :func:`standard_weights`, the score :math:`w \cdot x` is :math:`r
    \sqrt{G}`, *r* Pearson's correlation over the *G* genes: in units of its standard deviation under permutation.
    """
    centered = profiles - profiles.mean(axis=1, keepdims=True)
    size = np.sqrt((centered**2).mean(axis=1, keepdims=True))
    return np.divide(centered, size, out=np.zeros_like(centered), where=size > _LEAST)


def score_parts(weights: sp.csr_matrix, profile: Float[np.ndarray, " gene"]) -> list[tuple[int, float]]:
    """Genes with a positive part in the score of a standard profile by one row of weights: columns, largest first."""
    parts = weights.data * profile[weights.indices]
    order = np.lexsort((weights.indices, -parts)).tolist()
    return [(int(weights.indices[at]), float(parts[at])) for at in order if parts[at] > 0]


def cell_scores(expression: CellByGene, weights: sp.csr_matrix) -> Float[np.ndarray, "cell query"]:
    """Score each cell as :func:`standard_profiles` scores a cluster, its genes standardized over the cells, at most 10.

    No dense matrix of cells by genes is made: a standardized value is that of an absent gene plus a sparse rest.
    """
    n_cells, n_genes = expression.shape
    mean, deviation = column_moments(expression.astype(np.float64))
    inverse = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > _LEAST)
    absent = -mean * inverse
    base, base_sum, base_squares = weights @ absent, absent.sum(), (absent**2).sum()
    totals = np.asarray(weights.sum(axis=1)).ravel()
    scores = np.empty((n_cells, weights.shape[0]), dtype=np.float32)
    for start in range(0, n_cells, _BLOCK_CELLS):
        rest = expression[start : start + _BLOCK_CELLS].astype(np.float64)
        below = absent[rest.indices]
        rest.data = np.minimum(rest.data * inverse[rest.indices], _MAX_CELL - below)
        squares = sp.csr_matrix((rest.data * (rest.data + 2 * below), rest.indices, rest.indptr), shape=rest.shape)
        cell_mean = (np.asarray(rest.sum(axis=1)).ravel() + base_sum) / n_genes
        cell_square = (np.asarray(squares.sum(axis=1)).ravel() + base_squares) / n_genes
        size = np.sqrt(np.maximum(cell_square - cell_mean**2, _LEAST))[:, None]
        raw = (rest @ weights.T).toarray() + base
        scores[start : start + _BLOCK_CELLS] = (raw - cell_mean[:, None] * totals) / size
    return scores
