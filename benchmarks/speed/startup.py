"""How long a user waits for --help and for an import: every command, in a process of its own each time.

    python -m benchmarks.speed.startup --output results

One start to warm the file cache, then the median of five. Wall time counts what else the machine does; processor time
of the child (os.wait4) does not. The smaller of the two medians is held against the budget; on an idle machine they
agree.
Writes ``startup.json`` and ``startup.md``; exits with 1 where a budget is missed.
"""

import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.lib.protocol import command_line, write_results

ROOT = Path(__file__).parents[2]
N_REPEATS = 5
HELP_S = 0.3
IMPORT_S = {"import genekb": 0.2, "import cellmodel": 0.5}
UNBUDGETED = ("pass", "import typer", "import numpy", "import torch", "import scanpy")  # what the rest is read beside


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Median seconds of one way to start Python; no limit where it only stands beside the others."""

    what: str
    wall_s: float
    cpu_s: float
    limit_s: float | None

    @property
    def judged_s(self) -> float:
        """What is held against the budget."""
        return min(self.wall_s, self.cpu_s)

    @property
    def is_missed(self) -> bool:
        """Whether the budget is missed."""
        return self.limit_s is not None and self.judged_s > self.limit_s


def command_lines() -> Iterator[tuple[str, ...]]:
    """List every command and subcommand, the two roots first."""
    import typer.main

    from genekb_cellmodel_cli import cellmodel, genekb

    for name, app in (("genekb", genekb.app), ("cellmodel", cellmodel.app)):
        yield from below((name,), typer.main.get_command(app))


def below(words: tuple[str, ...], command: Any) -> Iterator[tuple[str, ...]]:
    """Give a command and all that lie below it."""
    yield words
    for name, child in getattr(command, "commands", {}).items():
        yield from below((*words, name), child)


def measure(what: str, code: str, *args: str, limit_s: float | None) -> Start:
    """Start Python that often with a piece of code."""
    command = [sys.executable, "-c", code, *args]
    start_once(command)
    walls, cpus = zip(*(start_once(command) for _ in range(N_REPEATS)), strict=True)
    return Start(what=what, wall_s=statistics.median(walls), cpu_s=statistics.median(cpus), limit_s=limit_s)


def start_once(command: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of a process."""
    environment = dict(os.environ, PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'cli'}")
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    started = time.perf_counter()
    process = os.posix_spawn(command[0], command, environment, file_actions=silent)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime


def measure_all() -> list[Start]:
    """Measure the imports, then the help of every command, then what they are read beside."""
    starts = [measure(code, code, limit_s=limit) for code, limit in IMPORT_S.items()]
    for words in command_lines():
        code = f"from genekb_cellmodel_cli.{words[0]} import main; main()"
        starts.append(measure(" ".join([*words, "--help"]), code, *words[1:], "--help", limit_s=HELP_S))
    return starts + [measure(code, code, limit_s=None) for code in UNBUDGETED]


def table(starts: list[Start]) -> str:
    """Markdown: one line a start."""
    lines = ["| start | wall s | processor s | budget s |", "| --- | --- | --- | --- |"]
    for start in starts:
        limit = "" if start.limit_s is None else f"{start.limit_s:g}{', MISSED' if start.is_missed else ''}"
        lines.append(f"| `{start.what}` | {start.wall_s:.2f} | {start.cpu_s:.2f} | {limit} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, write, and compare with the budgets."""
    parser = command_line(__doc__, with_home=False)
    options = parser.parse_args()
    starts = measure_all()
    write_results(options.output, "startup", [asdict(start) for start in starts], table(starts))
    return 1 if any(start.is_missed for start in starts) else 0


if __name__ == "__main__":
    sys.exit(main())
