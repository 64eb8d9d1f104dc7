"""Seconds of `cellmodel run` and of the single commands on clustered cells, each from the shell to its file.

    python -m benchmarks.speed.chain --output results [--store NAME]

`run` clusters, names, explains and reports; the others read what it wrote of pbmc3k. Without --store, one is built
(human, wcp, all protein-coding genes). Each command is run twice and the second counts: the first writes the
bytecode of the libraries, as installers do, to a folder of its own. Writes ``chain.json`` and ``chain.md``; exits with
1 where a budget is missed, by the smaller of wall and processor time.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.lib.protocol import build_stores, command_line, data_folder, markdown, write_results
from benchmarks.speed.cluster import COMMAND, LARGE, measure

SMALL = "pbmc3k.h5ad"
N_CELLS = {SMALL: "2,700 cells x 32,738 genes", LARGE: "12,261 cells x 1,287 genes"}
RUN_S = {SMALL: 15.0, LARGE: 25.0}
SINGLE_S, PLOT_S = 4.0, 3.0
SINGLE = {  # command on clustered cells → its words before the output
    "annotate": "{cells} --kb {store} --key-added again",
    "attribute": "{cells} --kb {store} --key-added again",
    "search": "{cells} cytotoxic --kb {store}",
    "report": "{cells}",
    "plot": "{cells} --kind dotplot",
}
ENDING = {"report": ".html", "plot": ".svg"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What a command took."""

    what: str
    seconds: float
    cpu_s: float
    peak_mb: float
    limit_s: float

    @property
    def is_missed(self) -> bool:
        """Whether the budget is missed."""
        return min(self.seconds, self.cpu_s) > self.limit_s


def commands(store: str, folder: Path) -> Iterator[tuple[str, list[str], float]]:
    """List what is run, in its order: what it is, words, budget."""
    for data, limit in RUN_S.items():
        output = [str(folder / f"run-{data}"), "--report", str(folder / f"{data}.html")]
        words = ["run", str(data_folder() / "scrna" / data), "--kb", store, "-o", *output]
        yield f"run, {N_CELLS[data]}", words, limit
    for command, words in SINGLE.items():
        given = words.format(cells=folder / f"run-{SMALL}", store=store).split()
        output = folder / f"{command}{ENDING.get(command, '.h5ad')}"
        limit = PLOT_S if command == "plot" else SINGLE_S
        yield f"{command}, {N_CELLS[SMALL]}", [command, *given, "-o", str(output)], limit


def measure_all(store: str) -> Iterator[Timing]:
    """Run every command, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(folder) / "bytecode")
        for what, words, limit in commands(store, Path(folder)):
            command = [sys.executable, "-c", COMMAND, *words, "--overwrite"]
            measure(command)
            seconds, cpu_s, peak_mb = measure(command)
            yield Timing(what=what, seconds=seconds, cpu_s=cpu_s, peak_mb=peak_mb, limit_s=limit)


def table(timings: list[Timing]) -> str:
    """Markdown: one line a command."""
    columns = ("command", "s", "processor s", "peak MB", "budget s")
    rows = (
        (one.what, one.seconds, one.cpu_s, one.peak_mb, f"{one.limit_s:g}{', MISSED' if one.is_missed else ''}")
        for one in timings
    )
    return "\n".join(markdown(columns, rows, digits=1)) + "\n"


def main() -> int:
    """Measure, write, and compare with the budgets."""
    parser = command_line(__doc__, with_home=False)
    parser.add_argument("--store")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    store = options.store or str(build_stores(options.output / "home")[0])
    timings = list(measure_all(store))
    write_results(options.output, "chain", [asdict(one) for one in timings], table(timings))
    return 1 if any(one.is_missed for one in timings) else 0


if __name__ == "__main__":
    sys.exit(main())
