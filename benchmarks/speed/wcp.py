"""Fitted encoders on all texts of a species: time and memory of the fit, size of the state, time of a first query.

    python -m benchmarks.speed.wcp --output results [--taxon mouse] [--encoders wcp-256,wcp]

Each encoder has a process of its own, with the texts alone in it; seconds are those of the processor. wcp may take 60 s
for fit and vectors, 1 GB, a state of 60 MB, and is the same encoder from texts in another order.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.lib.protocol import peak_mb
from benchmarks.speed.encode import coding_texts
from benchmarks.speed.frame import Figure, clocked, in_process, main

BUDGETS = {"fit and vectors": 60.0, "peak": 1000.0, "state": 60.0, "other encoders from texts in another order": 0.0}
QUERY = "hormones that regulate blood glucose"


def write_texts(taxon: str, path: Path) -> None:
    """Write the distinct texts of the protein-coding genes of a species, with their other designations."""
    path.write_text(json.dumps(coding_texts(taxon, "designations")))


def measure(name: str, path: Path) -> dict[str, tuple[float, str]]:
    """Fit and use one encoder in this process: what it takes, and in which unit."""
    import scipy.sparse  # noqa: F401  # loaded before memory is read
    import sklearn.feature_extraction.text  # noqa: F401

    from genekb.encoders import load_encoder, reopen_encoder

    texts = json.loads(path.read_text())
    libraries = peak_mb()
    _, fit_s, encoder = clocked(lambda: load_encoder(name, corpus=texts))
    batches = [texts[start : start + 512] for start in range(0, len(texts), 512)]
    _, encode_s, _ = clocked(lambda: [encoder.encode(batch) for batch in batches])
    peak = peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        encoder.save(Path(folder))
        state = sum(file.stat().st_size for file in Path(folder).iterdir())
        _, query_s, _ = clocked(lambda: reopen_encoder(encoder.spec, Path(folder)).encode([QUERY]))
    return {
        "fit and vectors": (fit_s + encode_s, "s"),
        "fit": (fit_s, "s"),
        "peak": (peak, "MB"),
        "peak of the libraries alone": (libraries, "MB"),
        "state": (state / 1e6, "MB"),
        "opened and asked": (1000 * query_s, "ms"),
        "other encoders from texts in another order": (
            float(load_encoder(name, corpus=texts[::-1]).spec != encoder.spec),
            "",
        ),
    }


def figures(folder: Path, *, taxon: str = "human", encoders: str = "wcp-256,wcp") -> Iterator[Figure]:
    """Give what every encoder takes; wcp has budgets."""
    in_process(write_texts, taxon, folder / "texts.json")
    for name in encoders.split(","):
        for what, (value, unit) in in_process(measure, name, folder / "texts.json").items():
            limit = BUDGETS.get(what) if name.startswith("wcp") else None
            yield Figure(what=f"{name}: {what}", value=value, unit=unit, limit=limit)


if __name__ == "__main__":
    sys.exit(main(__doc__, figures, name="wcp"))
