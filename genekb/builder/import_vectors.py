"""New stores from old ones: another release of the source, more encoders, vectors that were made elsewhere."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genekb.builder.assemble import BuildResult, GeneVectors, assemble, content_of, kept_vectors
from genekb.core.errors import CoverageTooLow, SourceUnusable
from genekb.encoders.imported.vectors import ForeignVectors, Keys, foreign_spec, is_number
from genekb.genes.coverage import loss_reason
from genekb.genes.resolve import Resolution
from genekb.schema import IntArray
from genekb.store.reader import Store

_MIN_AGREEING = 0.95  # of keys that are numbers, to be taken for GeneIDs


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportResult:
    """A store with vectors that were made elsewhere, and what became of the rows of their file."""

    build: BuildResult
    encoder_id: str  # of the vectors
    resolution: Resolution  # of the names whose row can be used
    n_genes: int  # genes that have a vector now
    left_out: tuple[tuple[str, str], ...]  # every row without one, as its name and the reason


def import_vectors(
    store: Store,
    foreign: ForeignVectors,
    *,
    name: str,
    home: Path | None = None,
    keys: Keys = "auto",
    min_resolved: float = 0.5,
) -> ImportResult:
    """Write the store again with vectors that were made elsewhere, as an encoder with its own provenance.

    Of several names that stand for one gene the first is taken.

    ``keys``: ``gene_id``: numbers among the names are GeneIDs. Else they are only if the file says so of itself, or if
    95 % of them are the gene that its second column of names means. ``min_resolved``: least share of the names that
    must stand for a gene, in [0, 1]. Raises ``SourceUnusable`` if names are numbers that may be anything, or the store
    has an encoder of that name; ``CoverageTooLow`` if too few names stand for a gene of the store, or none.
    """
    if name in {entry["recipe"]["name"] for entry in store.manifest.encoders.values()}:
        raise SourceUnusable(f"{store.store_id} has an encoder named {name!r} already; give another --name")
    resolution = _resolved(store, foreign, keys=keys)
    found = np.flatnonzero(resolution.is_resolved)
    gene_ids, first = np.unique(resolution.gene_ids[found], return_index=True)
    left_out = _left_out(resolution, taken=found[first])
    share = len(found) / len(foreign.names)
    if share < min_resolved or not len(found):
        examples = "; ".join(f"{name}: {reason}" for name, reason in left_out[:3])
        raise CoverageTooLow(
            f"{len(found)} of {len(foreign.names)} names ({share:.1%}) stand for a gene of {store.store_id}, "
            f"{min_resolved:.0%} are needed ({examples}); are they of another species? --min-resolved takes fewer"
        )
    spec = foreign_spec(name=name, vectors=foreign)
    item = GeneVectors(spec=spec, gene_ids=gene_ids, vectors=foreign.vectors[found[first]])
    return ImportResult(
        build=assemble(content_of(store), [*kept_vectors(store), item], home=home),
        encoder_id=str(spec.encoder_id),
        resolution=resolution,
        n_genes=len(gene_ids),
        left_out=(*foreign.dropped, *left_out),
    )


def _resolved(store: Store, foreign: ForeignVectors, *, keys: Keys) -> Resolution:
    """Resolve names; numbers are GeneIDs only if the caller, the file or a second column of names says so.

    Raises ``SourceUnusable`` if none does, and more than a few names are numbers.
    """
    resolution = store.resolve(foreign.names)
    is_key = np.array([is_number(name) for name in foreign.names])
    if keys == "gene_id" or foreign.are_gene_ids or not is_key.any():
        return resolution
    share = _share_meant(store, foreign, resolution, is_key)
    if share >= _MIN_AGREEING:
        return resolution
    if is_key.mean() <= 1 - _MIN_AGREEING:
        gene_ids, status = np.where(is_key, 0, resolution.gene_ids), np.where(is_key, "number", resolution.status)
        return replace(resolution, gene_ids=gene_ids, status=status)
    example = ", ".join(np.array(foreign.names)[is_key][:3])
    second = foreign.second_column
    why, way = "no column of symbols says of what", "--names FILE with a name per row"
    if second:
        why = f"{share:.1%} of them are the GeneID of their {second!r}, {_MIN_AGREEING:.0%} are needed"
        way = f"--column {second}"
    raise SourceUnusable(
        f"{is_key.sum()} of {len(is_key)} keys of {foreign.file_name} are numbers ({example}), {why}; give --keys "
        f"gene_id if they are GeneIDs, {way}, or --keys row --names FILE if they are rows of that file"
    )


def _share_meant(store: Store, foreign: ForeignVectors, resolution: Resolution, is_key: NDArray[np.bool_]) -> float:
    """Share of the numbers that are the GeneID of what the second column of names says."""
    if not foreign.second_names:
        return 0.0
    second = store.resolve(foreign.second_names)
    pairs = zip(resolution.gene_ids.tolist(), second.gene_ids.tolist(), strict=True)
    is_meant = [own > 0 and own in second.candidates.get(row, (other,)) for row, (own, other) in enumerate(pairs)]
    return float(np.mean(np.array(is_meant)[is_key]))


def _left_out(resolution: Resolution, *, taken: IntArray) -> tuple[tuple[str, str], ...]:
    """Names without a vector of their own, in order, each with the reason."""
    by_gene = {int(resolution.gene_ids[row]): resolution.names[row] for row in taken.tolist()}
    why = {gene_id: f"GeneID {gene_id} has the vector of {name}" for gene_id, name in by_gene.items()}
    lost = np.setdiff1d(np.arange(len(resolution.names)), taken).tolist()
    return tuple((resolution.names[row], loss_reason(resolution, row, why)) for row in lost)
