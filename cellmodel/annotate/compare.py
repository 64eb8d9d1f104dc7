"""Match the clusters of two sets of cells over shared genes, with gene vectors of one encoder."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

import genekb
from cellmodel.annotate.match_clusters import ClusterMatch, ClusterPair, CompareConfig, ComparedSide, match_clusters
from cellmodel.annotate.shared_genes import Meeting, check_shared, columns_by_gene_id, human_gene_ids
from cellmodel.core.arrays import GeneVectors
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import AlignmentTooLow
from cellmodel.explain.groups import ClusteredCells
from cellmodel.io.records import Lineage

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class CellComparison:
    """Matches of two sets of cells."""

    matches: tuple[ClusterMatch, ...]  # matches, pairs: see :func:`cellmodel.annotate.match_clusters.match_clusters`
    pairs: tuple[ClusterPair, ...]
    meeting: Meeting  # how genes were matched
    n_genes: tuple[int, int]  # genes of either side that were compared
    n_shared: int  # genes that both sides have; 0 where they are matched by text alone
    encoder_id: str  # encoder whose vectors were used on both sides
    store_ids: tuple[str, str]  # store of either side
    note: str  # the same in words
    # what the clusters of either side were made with, where that is another store
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
    """Match the clusters of two sets of cells that are read already; see ``cellmodel.tl.compare``."""
    how = meeting or ("ids" if stores[0].manifest.taxa == stores[1].manifest.taxa else "orthologs")
    sides = bring_together(a, b, stores=stores, meeting=how)
    matches, pairs = match_clusters(sides[0], sides[1], config=compare or CompareConfig(), seed=config.seed)
    n_genes = (len(sides[0].gene_names), len(sides[1].gene_names))
    n_shared = 0 if how == "text" else n_genes[0]
    encoder_id = "" if a.alignment is None else a.alignment.encoder_id
    how_matched = {"ids": "by GeneID", "orthologs": "by GeneID of the orthologue"}
    note = (
        f"{n_genes[0]} and {n_genes[1]} genes with a text are compared by meaning alone"
        if how == "text"
        else f"{n_shared} genes of both files are matched {how_matched[how]}"
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
    """Reduce two sets of clustered cells to shared genes, with vectors of one encoder.

    Where the stores hold vectors of other encoders, as of one that is fitted to the texts of a species, the texts of
    ``b`` are encoded by the encoder of ``a``.

    Raises ``AlignmentTooLow`` if too few genes are shared, or fewer than two have a text on a side.
    """
    keys = [_keys(side, kb, meeting) for side, kb in zip((a, b), stores, strict=True)]
    columns = [columns_by_gene_id(key, side.expression) for side, key in zip((a, b), keys, strict=True)]
    if meeting != "text":
        shared = np.intersect1d(keys[0][columns[0]], keys[1][columns[1]])
        species_option = "the store of the second with --kb-b"
        check_shared(len(shared), (a.cells.source, b.cells.source), meeting=meeting, other_species=species_option)
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
    """GeneIDs by which genes are matched, 0 where there is none."""
    if side.alignment is None:
        raise ValueError("clustered cells without a store cannot be compared; give one to read_clustered")
    return human_gene_ids(side.alignment.gene_ids, kb) if meeting == "orthologs" else side.alignment.gene_ids


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
    log.info("%d texts of %s are encoded by %s for a common space", len(distinct), b.cells.source, encoder_id)
    right = np.zeros((len(texts), left.shape[1]), dtype=np.float32)
    if distinct:
        encoded = stores[0].encoder(encoder_id).encode(distinct).vectors
        row_of = {text: row for row, text in enumerate(distinct)}
        known = [row for row, text in enumerate(texts) if text]
        right[known] = encoded[[row_of[texts[row]] for row in known]]
    return left, right
