"""Genes of the cells and genes of a store: index arrays, coverage, and vectors, whitened or replaced by a control."""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int

import genekb
from cellmodel.core import random as seeding
from cellmodel.core.arrays import GeneVectors, axis_signs
from cellmodel.core.config import Knowledge, RunConfig
from cellmodel.core.errors import AlignmentTooLow
from cellmodel.io.cells import Cells
from cellmodel.io.matrix import are_numbered, odd_character
from cellmodel.io.records import Lineage, lineage_of
from genekb.core.errors import SpeciesMismatch
from genekb.genes.texts import uncited
from genekb.genes.words import TextWords, split_texts

log = logging.getLogger(__name__)
_GENOME: Final = re.compile(r"(?:GRC[a-z]\d+|hg\d+|mm\d+|human|mouse)_+", re.I)  # Cell Ranger's mark of two species


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneAlignment:
    """What the store knows about each gene of the cells, in the order of the cells' genes."""

    gene_ids: Int[np.ndarray, " gene"]  # (gene,) GeneID; 0 where the name maps to none
    status: np.ndarray  # (gene,) how the name was found
    vectors: GeneVectors  # (gene, dim) the encoder's vectors; zero where ``has_vector`` is false
    has_vector: Bool[np.ndarray, " gene"]  # (gene,) whether there is one
    texts: tuple[str | None, ...]  # the gene's text, or None
    coverage: genekb.Coverage  # the same in figures
    lineage: Lineage  # identity of what was used
    split: Callable[[Sequence[str]], TextWords] = split_texts  # gives the words of texts
    cite: Callable[[str, str], str] = uncited  # adds the source to a sentence of a text

    def take(self, genes: Int[np.ndarray, " kept"]) -> "GeneAlignment":
        """Keep some of the genes; the coverage stays that of all."""
        return replace(
            self,
            gene_ids=self.gene_ids[genes],
            status=self.status[genes],
            vectors=self.vectors[genes],
            has_vector=self.has_vector[genes],
            texts=tuple(self.texts[gene] for gene in genes.tolist()),
        )


def align_names(
    names: Sequence[str], kb: genekb.Store, config: RunConfig, *, totals: Float[np.ndarray, " gene"]
) -> GeneAlignment:
    """Align gene names with a store.

    ``totals``: sum over all cells of each gene's counts (or expression), to say what share was lost. Raises
    ``AlignmentTooLow`` if fewer names have a text than ``config.min_coverage``, or the names are those of another
    species; the message says what they look like.
    """
    if are_numbered(names):
        raise AlignmentTooLow(
            f"the genes are numbered from {names[0]} to {names[-1]} and have no names, and would be taken for GeneIDs; "
            "name the column of var that has symbols or identifiers with `gene_key`"
        )
    resolution = kb.resolve(names, use_orthologs=config.use_orthologs)
    try:
        kb.check_species(resolution)
    except SpeciesMismatch as error:
        raise AlignmentTooLow(str(error)) from error
    coverage = kb.coverage(resolution, counts=totals)
    if coverage.share_genes < config.min_coverage:
        raise AlignmentTooLow(_too_low(names, kb, resolution, coverage, config.min_coverage))
    selection = kb.vectors(resolution.gene_ids, encoder=config.encoder)
    return GeneAlignment(
        gene_ids=resolution.gene_ids,
        status=resolution.status,
        vectors=selection.vectors,
        has_vector=selection.has_vector,
        texts=tuple(kb.texts(resolution.gene_ids)),
        coverage=coverage,
        lineage=lineage_of(kb, kb.encoder_id(config.encoder)),
        split=kb.words,
        cite=kb.cite,
    )


def _too_low(
    names: Sequence[str],
    kb: genekb.Store,
    resolution: genekb.Resolution,
    coverage: genekb.Coverage,
    min_coverage: float,
) -> str:
    other_case = kb.count_other_case(resolution)
    taxa = ", ".join(map(str, kb.manifest.taxa))
    if other_case > len(names) * min_coverage:
        hint = (
            f"{other_case} of them are symbols of the store when case is ignored, so the cells are of another species: "
            "use a store of that species, or orthologs=True"
        )
    elif coverage.n_resolved > coverage.n_with_text:
        hint = f"{coverage.n_resolved} map to a gene, but the store has no text for it; build it for more genes"
    elif sum(map(bool, map(odd_character, names))) > len(names) * min_coverage:
        odd = next(filter(None, map(odd_character, names)))
        hint = f"the names hold characters that no symbol has, as {odd}; write them without"
    elif sum(map(bool, map(_GENOME.match, names))) > len(names) * min_coverage:
        hint = f"a genome stands before the names, as in {names[0]!r}; take it off, and give each species a file"
    else:
        sample = ", ".join(list(names)[:3])
        hint = (
            f"the names ({sample}, ...) are no gene symbols or identifiers of it; is `gene_key` or the species right?"
        )
    return (
        f"{coverage.n_with_text} of {len(names)} genes ({coverage.share_genes:.1%}) have a text in {kb.store_id} "
        f"(tax_id {taxa}), {min_coverage:.0%} are needed; {hint}"
    )


def align_cells(cells: Cells, kb: genekb.Store, config: RunConfig) -> GeneAlignment:
    """Align the genes of cells with a store; see :func:`align_names`."""
    totals = np.asarray(cells.matrix.sum(axis=0), dtype=np.float64).ravel()
    return align_names(cells.names, kb, config, totals=totals)


def align_if_known(
    names: Sequence[str], kb: genekb.Store | None, config: RunConfig, *, totals: Float[np.ndarray, " gene"]
) -> GeneAlignment | None:
    """Align genes with a store; None without one, and where they are unknown to it but no knowledge is asked for."""
    if kb is None:
        return None
    try:
        return align_names(names, kb, config, totals=totals)
    except AlignmentTooLow as error:
        if config.knowledge == "none":
            log.warning('%s; they are clustered without (knowledge="none")', error)
            return None
        raise AlignmentTooLow(f'{error} (knowledge="none" clusters without texts of genes)') from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Whitening:
    """A linear map that takes out the mean and makes the leading directions of text vectors equally long."""

    mean: Float[np.ndarray, " dim"]  # (dim,) mean of the vectors that it was fitted to
    components: Float[np.ndarray, "dim rank"]  # (dim, rank) directions, scaled to unit variance

    def __call__(self, vectors: Float[np.ndarray, "row dim"]) -> Float[np.ndarray, "row rank"]:
        """Map vectors of the encoder's space, of genes or of a query, into the whitened space."""
        return (vectors - self.mean) @ self.components


def fit_whitening(gene_vectors: GeneVectors, *, rank: int) -> Whitening:
    """Fit a whitening map of at most ``rank`` directions; ``ValueError`` if all vectors are equal."""
    mean = gene_vectors.mean(axis=0)
    centered = (gene_vectors - mean).astype(np.float64)
    variances, axes = np.linalg.eigh(centered.T @ centered)
    singular, axes = np.sqrt(np.maximum(variances[::-1], 0)), axes[:, ::-1]
    kept = min(rank, int((singular > singular[0] * 1e-6).sum())) if singular[0] > 0 else 0
    if kept == 0:
        raise ValueError(f"{len(gene_vectors)} gene vectors are all equal; at least two distinct texts are needed")
    components = axes[:, :kept] * axis_signs(axes[:, :kept]) * (np.sqrt(len(gene_vectors)) / singular[:kept])
    return Whitening(mean=mean.astype(np.float32), components=components.astype(np.float32))


def apply_knowledge(vectors: GeneVectors, *, knowledge: Knowledge, seed: int) -> GeneVectors:
    """Return the vectors, or a control in their place.

    ``shuffled`` gives each gene another gene's vector, which keeps the shape of the cloud; ``random`` draws isotropic
    Gaussian directions, a stronger control, since text vectors are anisotropic and compress expression badly. Raises
    ``ValueError`` for ``none``: then there is no text view to make.
    """
    if knowledge == "real":
        return vectors
    if knowledge == "shuffled":
        return vectors[seeding.generator(seed, "shuffled genes").permutation(len(vectors))]
    if knowledge == "random":
        drawn = seeding.generator(seed, "random genes").standard_normal(vectors.shape).astype(np.float32)
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    raise ValueError(f"knowledge {knowledge!r} has no gene vectors; use real, shuffled or random")
