"""How long a user waits for --help and for an import: every command, in a process of its own each time.

    python -m benchmarks.speed.startup --output results

One start to warm the file cache, then the median of five; a bare Python and imports that users know stand beside.
"""

import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.speed.frame import COMMAND, Figure, main

ROOT = Path(__file__).parents[2]
N_REPEATS = 5
HELP_S = 0.3
IMPORT_S = {"import genekb": 0.2, "import cellmodel": 0.5}
PEERS = ("pass", "import typer", "import numpy", "import torch", "import scanpy")


def command_lines() -> Iterator[tuple[str, ...]]:
    """List every command and subcommand, the two roots first."""
    import typer.main

    from genekb_cellmodel_cli import cellmodel, genekb

    def below(words: tuple[str, ...], command: Any) -> Iterator[tuple[str, ...]]:
        yield words
        for name, child in getattr(command, "commands", {}).items():
            yield from below((*words, name), child)

    for name, app in (("genekb", genekb.app), ("cellmodel", cellmodel.app)):
        yield from below((name,), typer.main.get_command(app))


def measure(code: str, *args: str) -> tuple[float, float]:
    """Median wall and processor seconds of Python with a piece of code."""
    command = [sys.executable, "-c", code, *args]
    start_once(command)
    walls, cpus = zip(*(start_once(command) for _ in range(N_REPEATS)), strict=True)
    return statistics.median(walls), statistics.median(cpus)


def start_once(command: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of a process, which is started with little around it."""
    environment = dict(os.environ, PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'cli'}")
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    started = time.perf_counter()
    process = os.posix_spawn(command[0], command, environment, file_actions=silent)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime


def figures(_folder: Path) -> Iterator[Figure]:
    """Give the imports beside their peers, then the help of every command."""
    peers = {code: measure(code)[0] for code in PEERS}
    for code, limit in IMPORT_S.items():
        seconds, cpu_s = measure(code)
        yield Figure(what=code, value=seconds, processor=cpu_s, unit="s", limit=limit, peers=peers)
    for words in command_lines():
        seconds, cpu_s = measure(COMMAND.format(words[0]), *words[1:], "--help")
        yield Figure(what=" ".join([*words, "--help"]), value=seconds, processor=cpu_s, unit="s", limit=HELP_S)


if __name__ == "__main__":
    sys.exit(main(__doc__, figures, name="startup"))
