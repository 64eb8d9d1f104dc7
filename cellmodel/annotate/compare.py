"""Two sets of clustered cells over genes that meet, with vectors of one encoder, and their clusters matched."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

import genekb
from cellmodel.annotate.match_clusters import ClusterMatch, ClusterPair, CompareConfig, ComparedSide, match_clusters
from cellmodel.annotate.shared_genes import MIN_SHARED, Meeting, human_gene_ids
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import AlignmentTooLow
from cellmodel.core.types import GeneVectors
from cellmodel.explain.groups import ClusteredCells
from cellmodel.io.lineage import Lineage

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class CellComparison:
    """Matches of two sets of cells."""

    matches: tuple[ClusterMatch, ...]  # matches, pairs: see :func:`cellmodel.annotate.match_clusters.match_clusters`
    pairs: tuple[ClusterPair, ...]
    meeting: Meeting  # how genes met
    n_genes: tuple[int, int]  # genes of either side that were compared
    n_shared: int  # genes that both sides have; 0 where they meet by text alone
    encoder_id: str  # encoder whose vectors were used on both sides
    store_ids: tuple[str, str]  # store of either side
    note: str  # the same in words
    # what the clusters of either side were made with, where that is another store, and meant
    made_with: tuple[Lineage | None, Lineage | None] = (None, None)


def compare_clustered(
    a: ClusteredCells,
    b: ClusteredCells,
    *,
    stores: tuple[genekb.Store, genekb.Store],
    config: RunConfig,
    compare: CompareConfig | None = None,
    meeting: Meeting | None = None,
) -> CellComparison:
    """Match the clusters of two sets of cells that are read already; see ``compared_files.compare_files``."""
    how = meeting or ("ids" if stores[0].manifest.taxa == stores[1].manifest.taxa else "orthologs")
    sides = bring_together(a, b, stores=stores, meeting=how)
    matches, pairs = match_clusters(sides[0], sides[1], config=compare or CompareConfig(), seed=config.seed)
    n_genes = (len(sides[0].gene_names), len(sides[1].gene_names))
    n_shared = 0 if how == "text" else n_genes[0]
    encoder_id = "" if a.alignment is None else a.alignment.encoder_id
    words = {"ids": "by GeneID", "orthologs": "by GeneID of the orthologue"}
    note = (
        f"{n_genes[0]} and {n_genes[1]} genes with a text are compared by meaning alone"
        if how == "text"
        else f"{n_shared} genes of both files meet {words[how]}"
    )
    return CellComparison(
        matches=matches,
        pairs=pairs,
        meeting=how,
        n_genes=n_genes,
        n_shared=n_shared,
        encoder_id=encoder_id,
        store_ids=(stores[0].store_id, stores[1].store_id),
        note=note,
    )


def bring_together(
    a: ClusteredCells, b: ClusteredCells, *, stores: tuple[genekb.Store, genekb.Store], meeting: Meeting
) -> tuple[ComparedSide, ComparedSide]:
    """Bring two sets of clustered cells over genes that meet, with vectors of one encoder.

    A gene that several columns stand for is that of the highest sum. Where the stores hold vectors of other encoders,
    as of one that is fitted to the texts of a species, the texts of ``b`` are read by the encoder of ``a``.

    Raises ``AlignmentTooLow`` if fewer than 50 genes meet, or fewer than two have a text on a side.
    """
    keys = [_keys(side, kb, meeting) for side, kb in zip((a, b), stores, strict=True)]
    columns = [_columns(side, key) for side, key in zip((a, b), keys, strict=True)]
    if meeting != "text":
        shared = np.intersect1d(keys[0][columns[0]], keys[1][columns[1]])
        if len(shared) < MIN_SHARED:
            raise AlignmentTooLow(_too_few(a, b, len(shared), meeting))
        columns = [each[np.isin(key[each], shared)] for each, key in zip(columns, keys, strict=True)]
    vectors = _vectors(a, b, stores, columns)
    sides = [
        ComparedSide(
            clusters=side.names,
            labels=side.labels,
            expression=side.expression[:, chosen],
            gene_names=tuple(side.gene_names[column] for column in chosen),
            gene_ids=np.zeros(len(chosen), dtype=np.int64) if meeting == "text" else key[chosen],
            vectors=each,
        )
        for side, key, chosen, each in zip((a, b), keys, columns, vectors, strict=True)
    ]
    for side, cells in zip(sides, (a, b), strict=True):
        if (n_texts := int(side.vectors.any(axis=1).sum())) < 2:  # noqa: PLR2004 - one text has no direction
            raise AlignmentTooLow(
                f"{n_texts} genes of {cells.cells.source} that are compared have a text, 2 are needed; build the store "
                "for more genes"
            )
    return sides[0], sides[1]


def _keys(side: ClusteredCells, kb: genekb.Store, meeting: Meeting) -> Int[np.ndarray, " gene"]:
    """Give what genes meet by, 0 where a gene meets none."""
    if side.alignment is None:
        raise ValueError("clustered cells without a store cannot be compared; give one to read_clustered")
    return human_gene_ids(side.alignment.gene_ids, kb) if meeting == "orthologs" else side.alignment.gene_ids


def _columns(side: ClusteredCells, keys: Int[np.ndarray, " gene"]) -> Int[np.ndarray, " column"]:
    """Columns in the order of their keys, each key once: the column of the highest sum."""
    totals = np.asarray(side.expression.sum(axis=0)).ravel()
    loudest = np.argsort(-totals, kind="stable")
    known = loudest[keys[loudest] > 0]
    return known[np.unique(keys[known], return_index=True)[1]]


def _vectors(
    a: ClusteredCells,
    b: ClusteredCells,
    stores: tuple[genekb.Store, genekb.Store],
    columns: Sequence[Int[np.ndarray, " column"]],
) -> tuple[GeneVectors, GeneVectors]:
    """Vectors of both sides by the encoder of ``a``; zero for a gene without text."""
    if a.alignment is None or b.alignment is None:
        raise ValueError("clustered cells without a store cannot be compared; give one to read_clustered")
    encoder_id = a.alignment.encoder_id
    left = a.alignment.vectors[columns[0]]
    if encoder_id in stores[1].encoder_ids:
        return left, stores[1].vectors(b.alignment.gene_ids[columns[1]], encoder=encoder_id).vectors
    texts = [b.alignment.texts[column] or "" for column in columns[1]]
    distinct = sorted({text for text in texts if text})
    log.info(
        "%d texts of %s are read by %s, so that both files share one space", len(distinct), b.cells.source, encoder_id
    )
    right = np.zeros((len(texts), left.shape[1]), dtype=np.float32)
    if distinct:
        encoded = stores[0].encoder(encoder_id).encode(distinct).vectors
        place = {text: row for row, text in enumerate(distinct)}
        known = [row for row, text in enumerate(texts) if text]
        right[known] = encoded[[place[texts[row]] for row in known]]
    return left, right


def _too_few(a: ClusteredCells, b: ClusteredCells, n_shared: int, meeting: Meeting) -> str:
    way_out = {
        "ids": "for two species give the store of the second with --kb-b, or --genes-by text",
        "orthologs": "build the store from a source with orthologues, or give --genes-by text",
    }[meeting]
    files = f"{a.cells.source} and {b.cells.source}"
    return f"{n_shared} genes of {files} meet by {meeting}, {MIN_SHARED} are needed; {way_out}"
