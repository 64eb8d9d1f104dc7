"""What `cellmodel cluster`, `embed` and `demo` tell of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from genekb_cellmodel_cli.app.output import print_lines, print_table

if TYPE_CHECKING:
    from cellmodel.tl._job import FileRun


def summarise(outcome: "FileRun", output: Path, report: Path | None) -> dict[str, Any]:
    """Tell what a run read and found."""
    from dataclasses import asdict

    result = outcome.result
    content: dict[str, Any] = {
        "input": outcome.cells.source,
        "value_kind": str(outcome.cells.kind),
        "notes": list(outcome.cells.notes),
        "n_cells": outcome.cells.matrix.shape[0],
        "n_genes": outcome.cells.matrix.shape[1],
        "recipe": result.config.recipe_name,
        "knowledge": result.config.knowledge,
        "seed": result.config.seed,
        "output": str(output),
        "report": str(report) if report else "",
        "seconds": result.seconds,
    }
    if result.alignment is not None:
        coverage = result.alignment.coverage
        content |= {
            "store": result.alignment.store_id,
            "encoder": result.alignment.encoder_id,
            "share_genes": round(coverage.share_genes, 4),
            "share_hvgs": round(result.share_hvgs or 0.0, 4),
            "share_counts": round(coverage.share_counts, 4),
        }
    if result.sentences is not None:
        content["sentences"] = asdict(result.sentences)
    if result.labels is not None:
        content |= {
            "n_clusters": int(result.labels.max()) + 1,
            "n_clusters_by": result.n_clusters_by,
            "has_structure": result.estimate.has_structure if result.estimate else None,
            "clusters": _cluster_rows(result),
        }
        content["neighbour_agreement"] = {row.knowledge: round(row.neighbour_agreement, 4) for row in result.knowledge}
    return content


def _cluster_rows(result: Any) -> list[dict[str, Any]]:
    words = {entry.cluster: [word.term for word in entry.words[:4]] for entry in result.words}
    markers = {table.cluster: [marker.name for marker in table.markers[:5]] for table in result.markers}
    rows = []
    for cluster in range(int(result.labels.max()) + 1):
        inside = result.labels == cluster
        rows.append(
            {
                "cluster": str(cluster),
                "n_cells": int(inside.sum()),
                "confidence": round(float(result.confidence[inside].mean()), 3),
                "markers": markers.get(cluster, []),
                "words": words.get(cluster, []),
            }
        )
    return rows


def print_summary(content: dict[str, Any]) -> None:
    """Print what :func:`summarise` gave, as lines and tables; what a user must know first, first."""
    if content.get("has_structure") is False:
        print_lines(
            [
                f"no structure found, so the {content['n_cells']:,} cells are one cluster; "
                "--n-clusters K clusters them into K",
                "",
            ]
        )
    shown = ("input", "value_kind", "store", "encoder", "n_clusters")
    print_lines(f"{key}: {content[key]}" for key in shown if key in content)
    if "share_genes" in content:
        print_lines(
            [
                f"text for {content['share_genes']:.1%} of the genes, {content['share_hvgs']:.1%} of the highly "
                f"variable ones, {content['share_counts']:.1%} of the counts"
            ]
        )
    if "clusters" in content:
        print_lines([""])
        print_table(
            ("cluster", "cells", "confidence", "markers", "words"),
            [
                (row["cluster"], row["n_cells"], row["confidence"], " ".join(row["markers"]), ", ".join(row["words"]))
                for row in content["clusters"]
            ],
        )
    if content.get("neighbour_agreement"):
        print_lines([""])
        print_table(("text view by", "neighbours in the same cluster"), list(content["neighbour_agreement"].items()))
    if content.get("sentences"):
        _print_sentences(content["sentences"])
    print_lines(["", *(f"{key}: {content[key]}" for key in ("output", "report") if content[key])])


def _print_sentences(content: dict[str, Any]) -> None:
    print_lines(
        [
            "",
            f"sentences read: {content['n_sentences']:,}, of which {content['n_encoded']:,} now; the encoder reads "
            f"{content['share_read']:.0%} of their tokens",
        ]
    )
    if content["agreement"]:
        print_table(
            ("pooled, beside encoded", "rank correlation of cosines", "same 15 nearest cells"),
            [(row["pooled"], row["similarity"], row["neighbour_overlap"]) for row in content["agreement"]],
        )
    if content["clusters"]:
        print_lines([""])
        print_table(
            ("cluster", "pooled with encoded", "with other clusters", "sentence"),
            [
                (str(row["cluster"]), row["cosine"], row["cosine_others"], " ".join(row["genes"][:5]))
                for row in content["clusters"]
            ],
        )
