"""Text vectors of genes by name, or those of a control: shuffled texts, full names alone, characters of symbols."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

import genekb
from cellmodel.core.arrays import GeneVectors
from cellmodel.core.errors import InputUnusable
from cellmodel.io.records import Lineage, lineage_of
from genekb.genes.texts import uncited
from genekb.query.knowledge import knowledge_vectors

TextKnowledge = Literal["real", "shuffled", "masked", "name", "symbol"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GeneTexts:
    """What is known of each gene, in the order of the names."""

    names: tuple[str, ...]
    gene_ids: Int[np.ndarray, " gene"]  # 0 where the name is not in the store, or is of several genes
    vectors: GeneVectors  # unit rows; zero where there is none
    texts: tuple[str, ...]  # of the store, whatever the vectors are; empty where there is none
    lineage: Lineage
    cite: Callable[[str, str], str] = uncited  # adds the source to a sentence of a text

    @property
    def has_vector(self) -> Bool[np.ndarray, " gene"]:
        """Which genes have a vector."""
        return np.any(self.vectors != 0, axis=1)


def gene_texts(
    names: Sequence[str], kb: genekb.Store, *, encoder: str | None = None, knowledge: TextKnowledge = "real"
) -> GeneTexts:
    """Look names up in a store; a name of several genes has the mean of their vectors.

    ``encoder``: a mix of the store, or else its first encoder, if None. ``knowledge``: as for
    :func:`genekb.query.knowledge.knowledge_vectors`. Raises ``InputUnusable`` where none of the names is a gene of the
    store that has a vector.
    """
    resolved = kb.resolve(list(names))
    ids, several = resolved.gene_ids, resolved.candidates
    wanted = np.unique([*ids[ids > 0], *(gene for genes in several.values() for gene in genes)])
    found = knowledge_vectors(kb, kb.gene_encoder_id(encoder), knowledge=knowledge, gene_ids=wanted)
    if not len(found.gene_ids):
        sample = ", ".join(list(names)[:3])
        raise InputUnusable(
            f"none of {len(names):,} gene names ({sample}, ...) has a text in {kb.store_id}; is it the store of their "
            "species?"
        )
    places = np.minimum(np.searchsorted(found.gene_ids, ids), len(found.gene_ids) - 1)
    vectors = np.where((found.gene_ids[places] == ids)[:, None], found.vectors[places], np.float32(0.0))
    for position, genes in several.items():
        mean = found.vectors[np.isin(found.gene_ids, genes)].sum(axis=0)
        vectors[position] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return GeneTexts(
        names=tuple(names),
        gene_ids=ids,
        vectors=vectors,
        texts=tuple(text or "" for text in kb.texts(ids)),
        lineage=lineage_of(kb, found.encoder_id),
        cite=kb.cite,
    )
