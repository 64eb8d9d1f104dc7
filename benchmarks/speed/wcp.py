"""Fitted encoders on all texts of a species: time and memory of the fit, size of the state, time of a first query.

    python -m benchmarks.speed.wcp --output results [--taxon mouse] [--encoders wcp-256,wcp]

Each encoder has a process of its own, with the texts alone in it. Writes ``wcp.json`` and ``wcp.md``; exits with 1
where wcp misses a bar: 60 s of processor time for fit and vectors, 1 GB, the same encoder from texts in another order.
"""

import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.lib.protocol import command_line, data_folder, markdown, peak_mb, write_results

BAR_SECONDS, BAR_MB, BAR_STATE_MB = 60.0, 1000.0, 60.0
QUERY = "hormones that regulate blood glucose"
COLUMNS = (
    "dims",
    "fit s",
    "vectors s",
    "peak MB",
    "libraries MB",
    "state MB",
    "open and query ms",
    "same in any order",
)


def texts_of(taxon: str) -> list[str]:
    """Distinct texts of the protein-coding genes of a species, with their other designations."""
    import pyarrow.compute as pc

    from genekb import read_ncbi_folder
    from genekb.genes.texts import build_texts, find_template

    source = read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=[taxon])
    coding = source.genes.filter(pc.equal(source.genes["type"], "protein-coding"))
    chosen = set(coding["gene_id"].to_pylist())
    texts = build_texts(source.genes, source.orthologs, template=find_template("designations"), selected=chosen)
    return list(texts["text"].unique().to_pylist())


def measure(name: str, path: Path, report: Path) -> None:
    """Fit and use one encoder, in a process of its own; seconds are those of the processor."""
    import scipy.sparse  # noqa: F401  # loaded before memory is read
    import sklearn.feature_extraction.text  # noqa: F401

    from genekb.encoders import load_encoder, reopen_encoder

    texts = json.loads(path.read_text())
    libraries = peak_mb()
    started = time.process_time()
    encoder = load_encoder(name, corpus=texts)
    fitted = time.process_time()
    for start in range(0, len(texts), 512):
        encoder.encode(texts[start : start + 512])
    encoded = time.process_time()
    peak = peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        encoder.save(Path(folder))
        state = sum(file.stat().st_size for file in Path(folder).iterdir())
        again = time.process_time()
        reopen_encoder(encoder.spec, Path(folder)).encode([QUERY])
        opened = time.process_time()
    row = {
        "encoder": name,
        "dims": encoder.spec.dim,
        "fit s": fitted - started,
        "vectors s": encoded - fitted,
        "peak MB": peak,
        "libraries MB": libraries,
        "state MB": state / 1e6,
        "open and query ms": 1000 * (opened - again),
        "same in any order": load_encoder(name, corpus=texts[::-1]).spec == encoder.spec,
    }
    report.write_text(json.dumps(row))


def report_rows(rows: list[dict[str, Any]], *, taxon: str, n_texts: int) -> tuple[str, list[str]]:
    """Write everything as one page; and the bars, one line each."""
    columns = ["encoder", *COLUMNS]
    lines = [f"{n_texts:,} texts of {taxon}; processor time", ""]
    lines += markdown(columns, (map(row.get, columns) for row in rows), digits=1)
    bars = []
    for row in rows:
        if row["encoder"].startswith("wcp"):
            seconds = row["fit s"] + row["vectors s"]
            held = (
                (f"{seconds:.0f} s, bar {BAR_SECONDS:.0f}", seconds <= BAR_SECONDS),
                (f"{row['peak MB']:.0f} MB, bar {BAR_MB:.0f}", row["peak MB"] <= BAR_MB),
                (f"state of {row['state MB']:.0f} MB, bar {BAR_STATE_MB:.0f}", row["state MB"] <= BAR_STATE_MB),
                ("the same in any order", row["same in any order"]),
            )
            bars += [f"- {'ok' if holds else 'MISSED'}: {row['encoder']}, {what}" for what, holds in held]
    return "\n".join([*lines, "", "## Bars", "", *bars]) + "\n", bars


def main() -> int:
    """Run everything and compare with the bars."""
    parser = command_line(__doc__, with_home=False)
    parser.add_argument("--taxon", default="human")
    parser.add_argument("--encoders", default="wcp-256,wcp")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.json"
        texts = texts_of(options.taxon)
        path.write_text(json.dumps(texts))
        for name in options.encoders.split(","):
            report = Path(folder) / f"{name}.json"
            process = multiprocessing.get_context("spawn").Process(target=measure, args=(name, path, report))
            process.start()
            process.join()
            rows.append(json.loads(report.read_text()))
    page, bars = report_rows(rows, taxon=options.taxon, n_texts=len(texts))
    write_results(options.output, "wcp", rows, page)
    return int(any("MISSED" in line for line in bars))


if __name__ == "__main__":
    sys.exit(main())
