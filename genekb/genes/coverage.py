"""Coverage of a data set by a store: fraction of genes and counts with a text, and why the rest has none."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from genekb.core.words import is_spike_in
from genekb.genes.antibodies import is_isotype_control
from genekb.genes.resolve import RANKS, Resolution
from genekb.genes.taxa import REFERENCE_TAXON, find_taxon
from genekb.genes.texts import DEFAULT_TEMPLATE, Template, write_texts
from genekb.schema import FloatArray

_N_LOSSES: Final = 20  # names that are listed, the largest by counts


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """A name without a vector, why, and its fraction of the counts."""

    name: str
    reason: str
    share_counts: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """How much of a data set a store knows; fractions are in [0, 1]."""

    n_names: int
    n_resolved: int  # names that map to one gene
    n_with_text: int  # names whose gene has a text
    share_genes: float  # fraction of the names whose gene has a text
    share_counts: float  # fraction of the counts (UMIs); equal to ``share_genes`` without counts
    by_status: tuple[tuple[str, int, float], ...]  # status, number of names, fraction of counts
    n_duplicates: int  # names beyond the first that map to the same gene
    losses: tuple[Loss, ...]  # the largest, by counts


def measure_coverage(
    resolution: Resolution,
    *,
    has_text: NDArray[np.bool_],
    counts: FloatArray | None = None,
    explain: Callable[[Sequence[int]], Mapping[int, str]] | None = None,
    remedy: str = "",
) -> Coverage:
    """Measure how much of the names, and of their counts, has a text.

    ``has_text``: (name,). ``counts``: (name,) sums over all cells. ``explain``: gives by GeneID why it has no text.
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
    lost = lost[np.argsort(-weights[lost], kind="stable")][:_N_LOSSES]
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
                reason=loss_reason(resolution, int(row), why)
                + (remedy if resolution.status[row] == "ambiguous" else ""),
                share_counts=float(weights[row] / total),
            )
            for row in lost
        ),
    )


def explain_missing_texts(
    gene_ids: Sequence[int], *, genes: pa.Table, template: Template = DEFAULT_TEMPLATE
) -> dict[int, str]:
    """Explain by GeneID why genes have no text: their record is uninformative, or they were not selected."""
    rows = genes.filter(pc.is_in(genes["gene_id"], pa.array(gene_ids, pa.int64())))
    missing = " or ".join(template.informative)
    reasons = {}
    texts = write_texts(rows, template).to_pylist()
    for gene_id, kind, text in zip(rows["gene_id"].to_pylist(), rows["type"].to_pylist(), texts, strict=True):
        why = "was not selected" if text else f"has no informative {missing}"
        reasons[gene_id] = f"GeneID {gene_id} (type {kind or 'unknown'}) {why}"
    return reasons


def remedy_of(name_table: pa.Table, taxa: Collection[int]) -> str:
    """Say what settles the ambiguous names of a human store that has no former symbols."""
    has_former = pc.any(pc.equal(name_table["kind"], "retired_symbol")).as_py()
    is_human = find_taxon(REFERENCE_TAXON).tax_id in taxa
    return "; a source with HGNC's complete set settles former symbols" if is_human and not has_former else ""


def loss_reason(resolution: Resolution, row: int, why: Mapping[int, str]) -> str:
    """Explain why a name has no gene here, or its gene no text; ``why`` gives the latter by GeneID."""
    if resolution.status[row] == "number":
        return 'a number, which is a GeneID with keys="gene_id" alone'
    if row in resolution.candidates:
        kind = "protein of several genes" if resolution.status[row] == "complex" else "ambiguous"
        return f"{kind}: " + ", ".join(map(str, resolution.candidates[row][:4]))
    if resolution.is_resolved[row]:
        gene_id = int(resolution.gene_ids[row])
        return why.get(gene_id, f"GeneID {gene_id} has no text in this store")
    if is_spike_in(resolution.names[row]):
        return "spike-in control, not a gene"
    if is_isotype_control(resolution.names[row]):
        return "isotype control of an antibody panel, not a gene"
    return "unknown to the store"
