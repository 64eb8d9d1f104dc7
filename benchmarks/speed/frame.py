"""Figures of time and memory with their limits, beside what else a user would run: one table for every benchmark.

Of seconds, the smaller of wall and processor time is held against a limit: on a busy machine wall time tells of others.
"""

import inspect
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.lib.protocol import command_line

Result = TypeVar("Result")
COMMAND = "import sys; from genekb_cellmodel_cli.{} import main; main()"
LAUNCH = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
seconds, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
sys.exit(done.returncode)
"""
PLACES_OF = {"s": 2, "ms": 0, "MB": 0, "texts": 0, "times": 2, "cosine": 5}


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A measured figure with its limit and the peers of the same run."""

    what: str
    value: float
    unit: str
    limit: float | None = None  # a ceiling, or a floor where ``is_floor``
    is_floor: bool = False
    processor: float | None = None  # time beside a wall time, in the same unit
    peers: dict[str, float] = field(default_factory=dict)  # what else a user would run, in the same unit

    @property
    def is_missed(self) -> bool:
        """Whether the figure is on the wrong side of its limit; NaN always is."""
        if self.limit is None:
            return False
        if self.is_floor:
            return not self.value >= self.limit
        return not min(self.value, self.value if self.processor is None else self.processor) <= self.limit


Measure = Callable[..., Iterator[Figure]]  # of a folder, and options by keyword


@dataclass(frozen=True, slots=True)
class Taken:
    """Wall seconds, processor seconds and peak MB of a command, in the median of its runs."""

    seconds: float
    cpu_s: float
    peak_mb: float

    @property
    def fewest_s(self) -> float:
        """Wall or processor time, whichever is less."""
        return min(self.seconds, self.cpu_s)


def time_command(args: list[str], *, n_runs: int = 1) -> Taken:
    """Run a command in processes of its own.

    A small process starts it: the peak that the kernel tells of a process is never below that of the one that started
    it, and this one may hold much.
    """
    found = []
    for _ in range(n_runs):
        launched = subprocess.run([sys.executable, "-c", LAUNCH, *args], check=False, capture_output=True, text=True)
        if launched.returncode:
            raise SystemExit(f"{' '.join(args)[-300:]}: {launched.stderr[-500:]}")
        found.append(json.loads(launched.stdout))
    return Taken(*map(statistics.median, zip(*found, strict=True)))


def shell(program: str, *words: object) -> list[str]:
    """Command line of `genekb` or `cellmodel`, as users start them."""
    return [sys.executable, "-c", COMMAND.format(program), *map(str, words)]


def in_process(work: Callable[..., Result], *args: Any) -> Result:
    """Do some work in a fresh process, whose peak of memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, args)


def clocked(work: Callable[[], Result]) -> tuple[float, float, Result]:
    """Wall and processor seconds of some work in this process, and its result."""
    started, started_cpu = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - started, time.process_time() - started_cpu, found


def number(value: float, unit: str) -> str:
    """Write a figure with as many places as its unit deserves."""
    return f"{value:,.{PLACES_OF.get(unit, 3)}f}"


def row(figure: Figure) -> str:
    """One line of the table; the ratio of a peer is peer over ours."""
    processor = "" if figure.processor is None else f" ({number(figure.processor, figure.unit)} processor)"
    peers = "; ".join(
        f"{name}: {number(value, figure.unit)}" + (f" ({value / figure.value:.2g} x)" if figure.value else "")
        for name, value in figure.peers.items()
    )
    verdict = ", MISSED" if figure.is_missed else ""
    bound = "at least" if figure.is_floor else "at most"
    limit = "" if figure.limit is None else f"{bound} {figure.limit:,g}{verdict}"
    return f"| {figure.what} | {number(figure.value, figure.unit)} {figure.unit}{processor} | {limit} | {peers} |"


def write(figures: dict[str, list[Figure]], output: Path, name: str) -> None:
    """Write figures by subject as ``name.json`` and ``name.md``."""
    about = {"cores": os.cpu_count(), "load_average": os.getloadavg()}
    lines = [f"{about['cores']} cores, load {os.getloadavg()[2]:.1f} over the last 15 minutes."]
    for subject, found in figures.items():
        lines += [
            "",
            f"## {subject}",
            "",
            "| what | figure | budget | beside it (ratio) |",
            "| --- | --- | --- | --- |",
        ]
        lines += map(row, found)
    rows = {key: [asdict(one) | {"is_missed": one.is_missed} for one in found] for key, found in figures.items()}
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{name}.json").write_text(json.dumps({"about": about, "figures": rows}, indent=1))
    (output / f"{name}.md").write_text("\n".join(lines) + "\n")


def main(about: str, figures: Measure, *, name: str) -> int:
    """Measure, write after each figure, print the table; the exit code. Options are the keywords of ``figures``."""
    parser = command_line(about, with_home=False)
    for key, option in inspect.signature(figures).parameters.items():
        if option.kind is option.KEYWORD_ONLY:
            parser.add_argument(f"--{key.replace('_', '-')}", type=type(option.default), default=option.default)
    options = vars(parser.parse_args())
    output: Path = options.pop("output")
    code = measure({name: partial(figures, **options)}, output, name)
    sys.stdout.write((output / f"{name}.md").read_text())
    return code


def measure(parts: dict[str, Measure], output: Path, name: str) -> int:
    """Measure parts in turn and write them as they are made; the exit code, 1 where a limit is missed."""
    figures: dict[str, list[Figure]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for subject, part in parts.items():
            for figure in part(Path(folder)):
                figures.setdefault(subject, []).append(figure)
                write(figures, output, name)
    missed = [one.what for found in figures.values() for one in found if one.is_missed]
    sys.stderr.write(f"missed: {', '.join(missed) or 'none'}\n")
    return int(bool(missed))
