"""How much of a data set a store knows: by names, by counts, and why the rest is lost."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from genekb.genes.resolve import RANKS, Resolution
from genekb.genes.texts import DEFAULT_TEMPLATE, Template, gene_text
from genekb.schema import FloatArray

_SPIKE_IN: Final = re.compile(r"^ERCC[-_]\d")


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


def measure_coverage(
    resolution: Resolution,
    *,
    has_text: NDArray[np.bool_],
    counts: FloatArray | None = None,
    n_losses: int = 20,
    explain: Callable[[Sequence[int]], Mapping[int, str]] | None = None,
) -> Coverage:
    """Measure how much of the names, and of their counts, has a text.

    ``has_text``: for each name, whether its gene has a text in the store. ``counts``: sum of each name's counts over
    all cells; equal weights if left out. ``n_losses``: how many of the largest losses to list. ``explain``: called once
    with the GeneIDs among those losses; says of each why it has no text, as :func:`explain_missing_texts` does.
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
    why = explain([gene for gene in resolution.gene_ids[lost].tolist() if gene]) if explain else {}
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
                reason=loss_reason(resolution, int(row), why),
                share_counts=float(weights[row] / total),
            )
            for row in lost
        ),
    )


def explain_missing_texts(
    gene_ids: Sequence[int], *, genes: pa.Table, template: Template = DEFAULT_TEMPLATE
) -> dict[int, str]:
    """Say why genes have no text: nothing is known that the template could write, or they were not selected.

    ``gene_ids``: genes without a text in the store. ``genes``: table in the schema :data:`genekb.schema.GENES`.
    ``template``: the one that the store was built with.
    """
    rows = genes.filter(pc.is_in(genes["gene_id"], pa.array(gene_ids, pa.int64())))
    missing = " or ".join(template.informative)
    reasons = {}
    for record in rows.to_pylist():
        why = "was not selected" if gene_text(record, template) else f"has no telling {missing}"
        reasons[record["gene_id"]] = f"GeneID {record['gene_id']} (type {record['type'] or 'unknown'}) {why}"
    return reasons


def loss_reason(resolution: Resolution, row: int, why: Mapping[int, str]) -> str:
    """Say why a name has no gene here, or its gene no text; ``why`` gives the latter by GeneID."""
    if resolution.status[row] == "number":
        return "a number, which is a GeneID with --keys gene_id alone"
    if row in resolution.candidates:
        return "ambiguous: " + ", ".join(map(str, resolution.candidates[row][:4]))
    if resolution.is_resolved[row]:
        gene_id = int(resolution.gene_ids[row])
        return why.get(gene_id, f"GeneID {gene_id} has no text in this store")
    if _SPIKE_IN.match(resolution.names[row]):
        return "spike-in control, not a gene"
    return "unknown to the store"
