"""Text vectors of genes by name, or those of a control; trained perturbations nearest to a new one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Int

import genekb
from cellmodel.core.arrays import GeneVectors
from cellmodel.core.errors import InputUnusable
from cellmodel.explain.terms import TermIndex, index_terms
from cellmodel.io.records import Lineage, lineage_of
from cellmodel.perturb.features import centered
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


N_SHOWN: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbor:
    """A trained perturbation that is near to a new one."""

    name: str
    similarity: float  # cosine of their texts, less what all trained perturbations have in common
    term: str  # the rarest term that both texts hold, a phrase before its words; empty where they share none
    sentence: str  # of the neighbor's text, in which it stands


def nearest_trained(
    wanted: Sequence[int], trained: Int[np.ndarray, " trained"], texts: GeneTexts
) -> list[tuple[Neighbor, ...]]:
    """Nearest trained perturbations of each wanted one, nearest first; both are rows of ``texts``."""
    with_text = trained[texts.has_vector[trained]]
    wanted_rows = np.asarray(wanted, dtype=np.int64)
    center = texts.vectors[with_text].mean(axis=0)
    near, new = (centered(texts.vectors[rows], center) for rows in (with_text, wanted_rows))
    cosines = new @ near.T
    cosines[wanted_rows[:, None] == with_text[None, :]] = -np.inf
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :N_SHOWN]
    shared = _SharedTerms(texts, np.union1d(wanted_rows, with_text))
    return [
        tuple(
            Neighbor(
                name=texts.names[row],
                similarity=float(cosines[place, at]),
                **shared.of(int(wanted_rows[place]), int(row)),
            )
            for at, row in zip(order[place].tolist(), with_text[order[place]].tolist(), strict=True)
        )
        if texts.has_vector[wanted_rows[place]]
        else ()
        for place in range(len(wanted_rows))
    ]


class _SharedTerms:
    """Terms of some texts, to find those that two of them share."""

    def __init__(self, texts: GeneTexts, rows: Int[np.ndarray, " row"]) -> None:
        self._cite = texts.cite
        self._texts = {row: texts.texts[row] for row in rows.tolist()}
        self._place = {row: place for place, row in enumerate(self._texts)}
        self._index: TermIndex = index_terms(list(self._texts.values()), min_texts=2)
        self._counts = np.asarray(self._index.presence.sum(axis=0)).ravel()

    def of(self, one: int, other: int) -> dict[str, str]:
        """Term and sentence of the text ``other`` that it shares with the text ``one``."""
        held = [self._index.presence[[self._place[row]]].indices for row in (one, other)]
        both = np.intersect1d(*held)
        if not len(both):
            return {"term": "", "sentence": ""}
        n_words = np.array([self._index.terms[term].count(" ") for term in both])
        text = self._texts[other]
        term = self._index.terms[both[np.lexsort((both, -n_words, self._counts[both]))[0]]]
        return {"term": term, "sentence": self._cite(text, self._index.sentence(text, term=term))}
