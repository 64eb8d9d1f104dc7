"""Damaged files for every reader, at random, for as long as asked: each must give a result or an error of ours.

    python -m benchmarks.robust.fuzz_readers --minutes 10 --seed 1 --output results

A case is a valid small input with one to three changes (`mutations`), read by what a command would call on it
(`fuzz_targets`). Cases run in a process of their own under a limit of memory and of time a case. A finding is any other
exception, a process that dies, more than 10 s, or memory over the limit; its input is kept beside the table. Writes
``fuzz.json`` and ``fuzz.md``; exits with 1 where there is a finding.
"""

import argparse
import json
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.robust.fuzz_base import own_errors
from benchmarks.robust.fuzz_targets import TARGETS
from benchmarks.robust.mutations import harm

MEMORY = 6 << 30  # bytes of address space of a process that reads; libraries and their threads take 3.6 GB of it
CASE_S = 10.0
PROMISED = 0.8  # share of cases with checksums in which they are made right again
OUT_OF_MEMORY = ("malloc", "out of memory", "unable to allocate", "cannot allocate", "bad_alloc")


@dataclass(kw_only=True)
class Tally:
    """What happened to the cases of one reader."""

    n_cases: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: dict[str, int] = field(default_factory=dict)  # what went wrong, and the first case of it


def make_case(name: str, good: Path, case: Path, *, seed: int, number: int) -> None:
    """Write a case: the valid input with what a seed and a number change in it."""
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(good, case)
    rng = random.Random(f"{seed} {name} {number}")
    harm(case, rng)
    promise = TARGETS[name].promise
    if promise and rng.random() < PROMISED:
        promise(case)


def outcome(name: str, case: Path) -> tuple[bool, str]:
    """Read a case; tell whether it ended well, and how."""
    try:
        TARGETS[name].read(case)
    except own_errors() as error:
        text = f"{error} {error.__cause__}".lower()
        short = next((words for words in OUT_OF_MEMORY if words in text), None)
        return short is None, f"memory: {str(error)[:200]}" if short else type(error).__name__
    except Exception as error:  # noqa: BLE001 - whatever else a reader raises is a finding
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_ours(frame.filename)]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "?"
        return False, f"{type(error).__name__} in {place}: {' '.join(str(error).split())[:200]}"
    return True, "read"


def is_ours(file_name: str) -> bool:
    """Whether code of the packages is in a file."""
    return {"genekb", "cellmodel"} & set(Path(file_name).parts[-3:-1]) != set()


def work(pipe: Connection, name: str, case: Path) -> None:
    """Read a case whenever the pipe asks for it, and tell how it ended."""
    warnings.simplefilter("ignore")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while pipe.recv():
        pipe.send(outcome(name, case))


class Reader:
    """A process that reads cases; a new one takes its place when it has died or hangs."""

    def __init__(self, name: str, case: Path) -> None:
        self._args = (name, case)
        self._start()

    def _start(self) -> None:
        self._pipe, end = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(target=work, args=(end, *self._args), daemon=True)
        self._process.start()
        end.close()

    def read(self) -> tuple[bool, str]:
        """Read a case; see :func:`outcome`."""
        try:
            self._pipe.send("read")
            if self._pipe.poll(CASE_S):
                return self._pipe.recv()
            self.stop()
            self._start()
        except (EOFError, OSError):
            self._process.join()
            died = f"died of signal {-(self._process.exitcode or 0)}"
            self._start()
            return False, died
        return False, f"hangs for more than {CASE_S:.0f} s"

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def numbers(first: int, n_cases: int | None, seconds: float) -> Iterator[int]:
    """Count cases until so many have been, or so much time has gone since the first."""
    number, until = first, time.monotonic() + seconds
    while (n_cases is None or number < first + n_cases) and time.monotonic() < until:
        yield number
        number += 1


def fuzz(name: str, output: Path, *, seed: int, cases: Iterator[int]) -> Tally:
    """Read cases with one reader; keep the input of the first case of each finding."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        good, case = Path(folder) / "good" / "input", Path(folder) / "case" / "input"
        good.mkdir(parents=True)
        case.parent.mkdir()
        TARGETS[name].write(good)
        reader = Reader(name, case)
        started = time.monotonic()
        for number in cases:
            make_case(name, good, case, seed=seed, number=number)
            before = time.monotonic()
            is_well, how = reader.read()
            tally.slowest_s = max(tally.slowest_s, time.monotonic() - before)
            tally.n_cases += 1
            tally.outcomes[how if is_well else "finding"] += 1
            key = how.partition(": ")[0]
            if not is_well and key not in {known.partition(": ")[0] for known in tally.findings}:
                tally.findings[how] = number
                kept = output / "findings" / f"{name.replace(' ', '-')}-{number}"
                shutil.copytree(case, kept, dirs_exist_ok=True)
        tally.seconds = time.monotonic() - started
        reader.stop()
    return tally


def table(tallies: dict[str, Tally]) -> str:
    """Markdown: one line a reader, then the findings."""
    lines = ["| reader | cases | minutes | read | refused | slowest s | findings |", "| --- |" + " --- |" * 6]
    for name, tally in tallies.items():
        refused = ", ".join(f"{key} {n}" for key, n in tally.outcomes.most_common() if key not in {"read", "finding"})
        lines.append(
            f"| {name} | {tally.n_cases:,} | {tally.seconds / 60:.1f} | {tally.outcomes['read']:,} | {refused} | "
            f"{tally.slowest_s:.1f} | {len(tally.findings)} |"
        )
    found = [f"- {name}, case {n}: {what}" for name, tally in tallies.items() for what, n in tally.findings.items()]
    return "\n".join([*lines, "", *(found or ["No finding."])]) + "\n"


def main() -> int:
    """Fuzz, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="over all readers that are asked for")
    parser.add_argument("--reader", choices=["all", *TARGETS], default="all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, help="of each reader; as many as the time allows if left out")
    parser.add_argument("--output", type=Path, default=Path("results"))
    options = parser.parse_args()
    own_errors()  # before any process is started: what is not installed is no finding
    names = list(TARGETS) if options.reader == "all" else [options.reader]
    options.output.mkdir(parents=True, exist_ok=True)
    tallies = {}
    for name in names:
        cases = numbers(options.first, options.cases, 60 * options.minutes / len(names))
        tallies[name] = fuzz(name, options.output, seed=options.seed, cases=cases)
        sys.stderr.write(f"{name}: {tallies[name].n_cases} cases, {len(tallies[name].findings)} findings\n")
    content = {
        name: {"cases": tally.n_cases, "seconds": tally.seconds, "slowest_s": tally.slowest_s}
        | {"outcomes": dict(tally.outcomes), "findings": tally.findings}
        for name, tally in tallies.items()
    }
    (options.output / "fuzz.json").write_text(json.dumps({"seed": options.seed, "readers": content}, indent=1))
    (options.output / "fuzz.md").write_text(table(tallies))
    sys.stdout.write(table(tallies))
    return 1 if any(tally.findings for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
