"""Names of genes, of whatever kind and mixed, to GeneIDs; and how much of a data set was found.

The order is fixed: GeneID, Ensembl or database identifier, current official symbol, the nomenclature authority's
symbol where NCBI writes another, retired GeneID or symbol, alias (only if one gene alone has it), and, if asked for,
the symbol of an orthologue. A current symbol is never taken for an alias of another gene, there is one hop only, case
matters, and what could be several genes is reported as ambiguous, never guessed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from genekb.types import FloatArray, IntArray, StrArray

RANKS: Final = {
    "gene_id": 0,
    "ensembl": 1,
    "hgnc": 1,
    "mgi": 1,
    "flybase": 1,
    "rgd": 1,
    "zfin": 1,
    "symbol": 2,
    "authority_symbol": 3,
    "retired_id": 4,
    "retired_symbol": 5,
    "locus_tag": 6,
    "alias": 7,
    "ortholog": 8,
}
_ENSEMBL_VERSION: Final = re.compile(r"^(ENS[A-Z]*G\d{11})\.\d+$")
_GENE_ID: Final = re.compile(r"^[1-9]\d{0,11}$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """What each name was found to be, in the order of the names.

    Parameters
    ----------
    names
        The names as they were given.
    gene_ids
        GeneID of each name; 0 where :attr:`is_resolved` is false.
    status
        How it was found (a key of :data:`RANKS`), or ``ambiguous``, or ``unknown``.
    candidates
        GeneIDs that an ambiguous name could be, by its position.
    """

    names: tuple[str, ...]
    gene_ids: IntArray
    status: StrArray
    candidates: Mapping[int, tuple[int, ...]]

    @property
    def is_resolved(self) -> NDArray[np.bool_]:
        """Which names stand for exactly one gene."""
        return self.gene_ids > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """A name that has no vector, why, and what share of the counts it carried."""

    name: str
    reason: str
    share_counts: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """How much of a data set a store knows; shares lie in [0, 1].

    Parameters
    ----------
    n_names, n_resolved, n_with_text
        Names given, names that stand for one gene, and names whose gene has a text.
    share_genes, share_counts
        Share of the names, and of the counts (UMIs), whose gene has a text; the latter is NaN-free: without counts it
        equals ``share_genes``.
    by_status
        Number of names and share of counts by how they were found.
    n_duplicates
        Names beyond the first that stand for a gene already seen.
    losses
        The largest losses, by counts.
    """

    n_names: int
    n_resolved: int
    n_with_text: int
    share_genes: float
    share_counts: float
    by_status: tuple[tuple[str, int, float], ...]
    n_duplicates: int
    losses: tuple[Loss, ...]


def normalise_name(name: str) -> str:
    """Take the version off an Ensembl identifier and blanks off either end; nothing else is changed."""
    name = name.strip()
    match = _ENSEMBL_VERSION.match(name)
    return match.group(1) if match else name


def resolve_names(
    names: Sequence[str], *, name_table: pa.Table, gene_ids: pa.ChunkedArray, use_orthologs: bool = False
) -> Resolution:
    """Resolve names against the name table of a store.

    Parameters
    ----------
    names
        Symbols, aliases, Ensembl identifiers with or without version, GeneIDs; kinds may be mixed.
    name_table
        Table in the schema :data:`genekb.schema.NAMES`.
    gene_ids
        Every current GeneID.
    use_orthologs
        Whether the symbol of an orthologue of another species may stand for a gene.
    """
    keys = [normalise_name(str(name)) for name in names]
    matches = _matches(keys, name_table, gene_ids)
    found = np.zeros(len(keys), dtype=np.int64)
    status = np.full(len(keys), "unknown", dtype="<U16")
    candidates: dict[int, tuple[int, ...]] = {}
    for position, key in enumerate(keys):
        kinds = [
            (RANKS[kind], kind, gene) for kind, gene in matches.get(key, ()) if use_orthologs or kind != "ortholog"
        ]
        if not kinds:
            continue
        best = min(kinds)[0]
        genes = sorted({gene for rank, _, gene in kinds if rank == best})
        if len(genes) == 1:
            found[position], status[position] = genes[0], min(kinds)[1]
        else:
            status[position], candidates[position] = "ambiguous", tuple(genes)
    return Resolution(names=tuple(map(str, names)), gene_ids=found, status=status, candidates=candidates)


def _matches(keys: list[str], name_table: pa.Table, gene_ids: pa.ChunkedArray) -> dict[str, list[tuple[str, int]]]:
    rows = name_table.filter(pc.is_in(name_table["name"], pa.array(sorted(set(keys)), pa.string())))
    matches: dict[str, list[tuple[str, int]]] = {}
    for name, gene_id, kind in zip(*(rows[column].to_pylist() for column in ("name", "gene_id", "kind")), strict=True):
        matches.setdefault(name, []).append((kind, gene_id))
    numbers = pa.array(sorted({int(key) for key in keys if _GENE_ID.match(key)}), pa.int64())
    for number in numbers.filter(pc.is_in(numbers, gene_ids.combine_chunks())).to_pylist():
        matches.setdefault(str(number), []).append(("gene_id", number))
    return matches


def count_other_case(resolution: Resolution, name_table: pa.Table) -> int:
    """Count unknown names that would be a symbol of the store if case were ignored: a sign of another species."""
    unknown = {
        name.lower() for name, state in zip(resolution.names, resolution.status, strict=True) if state == "unknown"
    }
    symbols = pc.utf8_lower(name_table["name"].filter(pc.equal(name_table["kind"], "symbol")))
    return pc.sum(pc.is_in(pa.array(sorted(unknown), pa.string()), symbols.combine_chunks())).as_py() or 0


def measure_coverage(
    resolution: Resolution, *, has_text: NDArray[np.bool_], counts: FloatArray | None = None, n_losses: int = 20
) -> Coverage:
    """Measure how much of the names, and of their counts, has a text.

    Parameters
    ----------
    has_text
        For each name, whether its gene has a text in the store.
    counts
        Sum of each name's counts over all cells; equal weights if left out.
    n_losses
        How many of the largest losses to list.
    """
    n_names = len(resolution.names)
    weights = np.ones(n_names) if counts is None else np.asarray(counts, dtype=np.float64)
    total = weights.sum() or 1.0
    resolved = resolution.gene_ids[resolution.is_resolved]
    by_status = tuple(
        (str(kind), int((resolution.status == kind).sum()), float(weights[resolution.status == kind].sum() / total))
        for kind in sorted(set(resolution.status), key=lambda kind: (RANKS.get(kind, 99), kind))
    )
    lost = np.flatnonzero(~has_text)
    lost = lost[np.argsort(-weights[lost], kind="stable")][:n_losses]
    return Coverage(
        n_names=n_names,
        n_resolved=len(resolved),
        n_with_text=int(has_text.sum()),
        share_genes=float(has_text.mean()) if n_names else 0.0,
        share_counts=float(weights[has_text].sum() / total),
        by_status=by_status,
        n_duplicates=len(resolved) - len(np.unique(resolved)),
        losses=tuple(
            Loss(
                name=resolution.names[row],
                reason=_reason(resolution, int(row)),
                share_counts=float(weights[row] / total),
            )
            for row in lost
        ),
    )


def _reason(resolution: Resolution, row: int) -> str:
    if row in resolution.candidates:
        return "ambiguous: " + ", ".join(map(str, resolution.candidates[row][:4]))
    if resolution.is_resolved[row]:
        return f"GeneID {resolution.gene_ids[row]} has no text in this store"
    return "unknown to the store"
