"""What all of NCBI Gene, and 100 million cells, would take: arithmetic from unit costs, which are options.

    python -m benchmarks.speed.plan_scale
    python -m benchmarks.speed.plan_scale --core-s-per-text 0.02 --price-gpu-h 0.7

Defaults marked *measured* are figures of the commands that docs/results/scale.md names; those marked *assumed* were
measured by nobody here. Nothing is read and nothing is written: the tables go to stdout.
"""

import argparse
import sys
from dataclasses import dataclass

ID_BYTES = 64 + 4 + 4  # text_id in hex, two counts of tokens
SHARD = 512
SECONDS = 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A size of encoder: layers of width dim, 12 dim² weights each."""

    name: str
    layers: int
    dim: int

    @property
    def operations_per_token(self) -> float:
        """Floating-point operations: two for each weight; attention adds less than a tenth at these lengths."""
        return 2 * 12 * self.layers * self.dim**2


MODELS = (
    Model(name="MiniLM", layers=6, dim=384),
    Model(name="BERT base (biobert, sapbert, bge-base)", layers=12, dim=768),
    Model(name="BERT large (bge-large)", layers=24, dim=1024),
)
OPTIONS = {
    "genes": (56e6, "genes in gene_info (published: 54.8 to 57.8 million)"),
    "share-with-text": (0.66, "of the genes that give a text (measured: human .77, mouse .55)"),
    "share-distinct": (1.0, "of the texts that are distinct (measured: human .998, mouse .993)"),
    "text-bytes": (255, "bytes of a text (measured: human 243, mouse 270)"),
    "tokens": (62, "tokens of a text (text-bytes at 4.1 bytes a token, as measured)"),
    "core-s-per-text": (0.0128, "processor seconds of MiniLM for a text of --measured-tokens (measured)"),
    "measured-tokens": (97, "tokens of the texts of that measurement (measured)"),
    "gpu-tflops": (40, "sustained, bfloat16, of one GPU (assumed)"),
    "price-gpu-h": (1.0, "dollars for an hour of one GPU (assumed)"),
    "price-core-h": (0.05, "dollars for an hour of one core (assumed)"),
    "write-texts-per-s": (21800, "texts that one process writes in a second (measured)"),
    "cells": (100e6, "cells"),
    "nnz": (400, "stored counts of a cell among 2,000 highly variable genes (assumed)"),
    "dim-expr": (64, "dimensions of the expression view"),
    "dim-text": (384, "dimensions of the text view"),
    "neighbors": (15, "neighbours of a cell"),
}


def encoding_rows(costs: argparse.Namespace) -> list[tuple[str, ...]]:
    """One row an encoder: bytes of vectors, hours and dollars on cores and on GPUs."""
    n_texts = costs.genes * costs.share_with_text * costs.share_distinct
    rows = []
    for model in MODELS:
        n_bytes = n_texts * (2 * model.dim + ID_BYTES)
        size = model.operations_per_token / MODELS[0].operations_per_token
        core_h = n_texts * costs.core_s_per_text * costs.tokens / costs.measured_tokens * size / SECONDS
        gpu_h = n_texts * costs.tokens * model.operations_per_token / (costs.gpu_tflops * 1e12) / SECONDS
        prices = core_h * costs.price_core_h, gpu_h * costs.price_gpu_h
        figures = (n_bytes / 1e9, core_h, prices[0], gpu_h, prices[1])
        rows.append((model.name, str(model.dim), *(f"{value:,.1f}" for value in figures)))
    return rows


def cell_rows(costs: argparse.Namespace) -> list[tuple[str, str, str]]:
    """One row a piece of data: bytes of a cell, and of all."""
    pieces = {
        "counts of the variable genes, CSR (int32 column, float32 value)": costs.nnz * 8,
        "expression view, float32": costs.dim_expr * 4,
        "text view, float16": costs.dim_text * 2,
        "neighbours and distances": costs.neighbors * (8 + 4),
    }
    return [(name, f"{n:,.0f}", f"{n * costs.cells / 1e9:,.0f}") for name, n in pieces.items()]


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    lines = [header, ("---",) * len(header), *rows]
    sys.stdout.write("\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (value, meaning) in OPTIONS.items():
        parser.add_argument(f"--{name}", type=float, default=value, help=f"{meaning}; {value:g}")
    costs = parser.parse_args()
    n_texts = costs.genes * costs.share_with_text * costs.share_distinct
    counts = {
        "genes": costs.genes,
        "distinct texts = vectors of one encoder": n_texts,
        f"shards of {SHARD}": n_texts / SHARD,
        "GB of texts": n_texts * costs.text_bytes / 1e9,
        "hours that one process writes": n_texts / costs.write_texts_per_s / SECONDS,
    }
    print_table(
        ("all of NCBI Gene", ""),
        [(name, f"{value:,.3g}" if value < 100 else f"{value:,.0f}") for name, value in counts.items()],
    )
    header = ("encoder", "dim", "GB, float16", "core hours", "$ on cores", "GPU hours", "$ on GPUs")
    print_table(header, encoding_rows(costs))
    print_table((f"{costs.cells:,.0f} cells", "bytes a cell", "GB"), cell_rows(costs))


if __name__ == "__main__":
    main()
