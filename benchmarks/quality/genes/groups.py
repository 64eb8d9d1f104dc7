"""What encoders and texts know of genes: whether genes of one HGNC gene group lie near each other.

    python -m benchmarks.quality.genes.groups --output results

Takes at most 3,000 human genes that have a summary and are of HGNC gene groups of 5 genes or more (fixed seed); of
genes with equal summaries the first, since equal texts have equal vectors whatever an encoder knows. Scores wcp,
minilm (where it is on this machine) and random-256 on four texts: the summary with symbol and name, the summary alone,
the summary without the words that the names of its gene's groups hold, and the symbol. Shuffled vectors stand beside
each. Writes ``compare.json`` and ``compare.md``; fails where a text does not beat its shuffled vectors, or random
vectors do.
"""

import argparse
import csv
import gzip
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.lib.protocol import data_folder

N_GENES = 3000
N_NEIGHBORS = 10
SEED = 0
MODELS = ("wcp", "minilm", "random-256")
TEXTS = ("summary", "summary-only", "summary-only without group words", "symbol")


def read_groups() -> dict[int, list[str]]:
    """Names of the HGNC gene groups of each gene, by GeneID."""
    groups = {}
    path = data_folder() / "ncbi" / "other" / "hgnc_complete_set.txt.gz"
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            if row["gene_group"] and row["entrez_id"]:
                groups[int(row["entrez_id"])] = row["gene_group"].split("|")
    return groups


def choose(groups: dict[int, list[str]], genes) -> list[dict]:
    """Draw genes with a summary of their own whose groups have 5 of them or more."""
    first = {row["summary"]: row for row in reversed(genes.to_pylist()) if row["summary"] and row["gene_id"] in groups}
    records = {row["gene_id"]: row for row in first.values()}
    sizes = Counter(group for gene_id in records for group in groups[gene_id])
    fit = sorted(gene_id for gene_id in records if any(sizes[group] >= 5 for group in groups[gene_id]))
    drawn = np.random.default_rng(SEED).permutation(fit)[:N_GENES]
    return [records[gene_id] for gene_id in sorted(drawn.tolist())]


def without_group_words(text: str, groups: list[str]) -> str:
    """Take out every word of four letters or more that a group's name holds, singular or plural."""
    words = {word.rstrip("s") for group in groups for word in re.findall(r"[a-z]{4,}", group.lower())}
    kept = (word for word in text.split() if not any(stem in word.lower() for stem in words))
    return " ".join(kept) or "unknown"


def make_texts(records: list[dict], groups: dict[int, list[str]]) -> dict[str, list[str]]:
    import pyarrow as pa

    from genekb.genes.texts import find_template, write_texts
    from genekb.schema import GENES

    rows = pa.Table.from_pylist(records, GENES)
    texts = {name: write_texts(rows, find_template(name)).to_pylist() for name in TEXTS if " " not in name}
    alone = zip(records, texts["summary-only"], strict=True)
    texts["summary-only without group words"] = [
        without_group_words(text, groups[row["gene_id"]]) for row, text in alone
    ]
    return texts


def score(model: str, texts: list[str], records: list[dict], groups: dict[int, list[str]]) -> dict | None:
    """Encode the texts and score their vectors; None where the encoder is not on this machine."""
    from dataclasses import asdict

    from genekb.core.errors import NotAvailable
    from genekb.encoders import load_encoder
    from genekb.query.compare import GeneTerms, score_gene_task

    try:
        encoder = load_encoder(model, corpus=texts)
    except NotAvailable:
        return None
    start = time.perf_counter()
    vectors = encoder.encode(texts).vectors
    seconds = time.perf_counter() - start
    gene_ids = np.array([row["gene_id"] for row in records])
    pairs = [(gene_id, group) for gene_id in gene_ids.tolist() for group in groups[gene_id]]
    terms = GeneTerms(
        vocabulary="gene_group",
        gene_ids=np.array([gene_id for gene_id, _ in pairs]),
        terms=np.array([group for _, group in pairs]),
    )
    result = score_gene_task(vectors, gene_ids, terms, n_neighbors=N_NEIGHBORS, rng=np.random.default_rng(SEED))
    return {"encoder": model, "seconds_encoding": round(seconds, 1), **asdict(result)}


def table(rows: list[dict]) -> str:
    lines = [
        f"{rows[0]['n_genes']} genes, {rows[0]['n_terms']} groups, {N_NEIGHBORS} neighbours, "
        f"chance {rows[0]['chance']:.4f}",
        "",
        "| text | encoder | share of neighbours in the group | shuffled | gain (95 %) | kNN accuracy | shuffled |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['text']} | {row['encoder']} | {row['knn_share']:.3f} | {row['shuffled']:.3f} "
        f"| {row['gain']:.3f} ({row['gain_low']:.3f} to {row['gain_high']:.3f}) "
        f"| {row['knn_accuracy']:.3f} | {row['knn_accuracy_shuffled']:.3f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Score every encoder on every text, write, and judge."""
    from genekb import read_ncbi_folder

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results"))
    options = parser.parse_args()
    groups = read_groups()
    records = choose(groups, read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=["human"]).genes)
    rows = [
        {"text": name, **found}
        for name, texts in make_texts(records, groups).items()
        for model in MODELS
        if (found := score(model, texts, records, groups))
    ]
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "compare.json").write_text(json.dumps(rows, indent=1))
    (options.output / "compare.md").write_text(table(rows))
    sys.stdout.write(table(rows))
    real = [row for row in rows if row["encoder"] != "random-256" and row["text"] != "symbol"]
    drawn = [row for row in rows if row["encoder"] == "random-256"]
    return 0 if all(row["gain_low"] > 0 for row in real) and all(row["gain"] < 0.01 for row in drawn) else 1


if __name__ == "__main__":
    sys.exit(main())
