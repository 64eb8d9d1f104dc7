"""Trained perturbations that are nearest to a new one, and the sentence of text that they share with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Int

from cellmodel.explain.terms import TermIndex, index_terms
from cellmodel.perturb.kernels import centered
from cellmodel.perturb.texts import GeneTexts

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
