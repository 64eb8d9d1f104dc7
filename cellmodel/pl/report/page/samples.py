"""What the template prints of samples: small maps, bars of composition, mixing of batches, effects of conditions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Int

from cellmodel.pl.report.collect.data import ReportData, Row, Samples
from cellmodel.pp.integrate import ONE_BATCH

MOST_MAPS: Final = 12  # samples with a map of their own
MOST_BARS: Final = 40
MOST_LISTED: Final = 60  # samples without a map that are named


def sample_view(data: ReportData, clusters: Sequence[Row]) -> Row | None:
    """Lay out the sections on samples; None where there is nothing to show.

    ``maps`` and ``bars``: samples, see :func:`_unit`; the largest where they are many. ``rest``: those without a map.
    """
    known = {cluster["name"]: cluster for cluster in clusters}
    shown: dict[str, Any] = {
        "about": None,
        "mixing": _mixing(data.mixing, known),
        "composition": data.composition,
        "effects": [_effect(found, known) for found in data.effects],
    }
    if data.samples is not None:
        shown["about"] = _about(data.samples, data.clusters, clusters)
    return shown if any(shown.values()) else None


def _about(samples: Samples, labels: Int[np.ndarray, " cell"], clusters: Sequence[Row]) -> Row:
    """Describe the samples with their cells, maps and bars, and clusters that are nearly of one sample."""
    n_units = len(samples.names)
    known = samples.codes >= 0
    sizes = np.bincount(samples.codes[known], minlength=n_units)
    counts = np.zeros((n_units, len(clusters)), dtype=np.int64)
    both = known & (labels >= 0)
    np.add.at(counts, (samples.codes[both], labels[both]), 1)
    units = [_unit(samples, code, int(sizes[code]), counts[code], clusters) for code in range(n_units)]
    largest = np.argsort(-sizes, kind="stable")
    rest = [units[code] for code in largest[MOST_MAPS:].tolist()]
    return {
        "key": samples.key,
        "condition_key": samples.condition_key,
        "n_samples": len({name for name, _ in samples.names}),
        "n_conditions": len({condition for _, condition in samples.names} - {""}),
        "n_missing": int((~known).sum()),
        "maps": [units[code] for code in sorted(largest[:MOST_MAPS].tolist())] if n_units > 1 else [],
        "rest": rest[:MOST_LISTED],
        "n_rest": len(rest),
        "bars": [units[code] for code in sorted(largest[:MOST_BARS].tolist())],
        "n_units": n_units,
        "alone": _of_one_sample(samples, counts, clusters),
    }


def _unit(
    samples: Samples, code: int, n_cells: int, counts: Int[np.ndarray, " cluster"], clusters: Sequence[Row]
) -> Row:
    """Give a sample in a condition: its cells, its share of each cluster, and where the bar of each one begins."""
    name, condition = samples.names[code]
    total = int(counts.sum())
    shares = (counts / total).tolist() if total else [math.nan] * len(clusters)
    starts = (np.cumsum(counts) - counts) / max(total, 1)
    return {
        "code": code,
        "name": name,
        "condition": condition,
        "label": f"{name}, {condition}" if condition and condition != name else name,
        "n_cells": n_cells,
        "n_clustered": total,
        "shares": shares,
        "segments": [
            {"cluster": cluster, "start": 100 * start, "width": 100 * share, "share": share}
            for cluster, start, share in zip(clusters, starts.tolist(), shares, strict=True)
            if share > 0
        ],
    }


def _of_one_sample(
    samples: Samples, counts: Int[np.ndarray, "unit cluster"], clusters: Sequence[Row]
) -> list[tuple[Row, str, float]]:
    """Clusters that are nearly of one sample where the cells as a whole are not, with the sample and its share."""
    names = list(dict.fromkeys(name for name, _ in samples.names))
    by_sample = np.zeros((len(names), len(clusters)), dtype=np.int64)
    np.add.at(by_sample, [names.index(name) for name, _ in samples.names], counts)
    whole = by_sample.sum(axis=1)
    if not whole.any() or whole.max() / whole.sum() > ONE_BATCH:
        return []
    shares = by_sample.max(axis=0) / np.maximum(by_sample.sum(axis=0), 1)
    return [
        (cluster, names[int(by_sample[:, place].argmax())], float(shares[place]))
        for place, cluster in enumerate(clusters)
        if shares[place] > ONE_BATCH
    ]


def _mixing(mixing: Row | None, clusters: Mapping[str, Row]) -> Row | None:
    """Rows of the table of same-batch neighbors, those of nearly one batch flagged."""
    if mixing is None:
        return None
    whole = float(mixing["rows"][0]["share"])
    rows = [
        {
            **row,
            "badge_of": clusters.get(row["cluster"]) if place else None,
            "is_flagged": bool(place) and row["share"] > ONE_BATCH >= whole,
        }
        for place, row in enumerate(mixing["rows"])
    ]
    was_integrated = any(math.isfinite(row["before"]) for row in rows)
    return {
        **mixing,
        "rows": rows,
        "was_integrated": was_integrated,
        "n_flagged": sum(row["is_flagged"] for row in rows),
    }


def _effect(found: Row, clusters: Mapping[str, Row]) -> Row:
    """Comparisons with genes, by cluster; why there are none of others is in the notes."""
    by_cluster: dict[str, list[Row]] = {}
    for one in found["comparisons"]:
        if one["n_genes"]:
            by_cluster.setdefault(one["cluster"], []).append({**one, "badge_of": clusters.get(one["cluster"])})
    return {**found, "by_cluster": by_cluster}
