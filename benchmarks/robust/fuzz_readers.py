"""Damaged files for every reader, at random, for as long as asked: each must give a result or an error of ours.

    python -m benchmarks.robust.fuzz_readers --minutes 10 --seed 1 --output results

A case is a valid small input with one to three changes (`mutations`), read by what a command would call on it
(`fuzz_targets`). Cases run in a process of their own under a limit of memory and of time a case. A finding is any other
exception, a process that dies, more than 10 s, or memory over the limit; its input is kept beside the table. Writes
``fuzz.json`` and ``fuzz.md``; exits with 1 where there is a finding.
"""

import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

from benchmarks.lib.protocol import command_line, markdown, write_results
from benchmarks.robust.fuzz_base import own_errors
from benchmarks.robust.fuzz_targets import TARGETS
from benchmarks.robust.mutations import harm

MEMORY = 6 << 30  # bytes of address space of a process that reads; libraries and their threads take 3.6 GB of it
CASE_S = 10
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
        short = any(words in text for words in OUT_OF_MEMORY)
        return not short, f"memory: {str(error)[:200]}" if short else type(error).__name__
    except Exception as error:  # noqa: BLE001 - whatever else a reader raises is a finding
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_ours(frame.filename)]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "?"
        return False, f"{type(error).__name__} in {place}: {' '.join(str(error).split())[:200]}"
    return True, "read"


def is_ours(file_name: str) -> bool:
    """Whether code of the packages is in a file."""
    return {"genekb", "cellmodel"} & set(Path(file_name).parts[-3:-1]) != set()


def read_apart(name: str, case: Path) -> tuple[bool, str]:
    """Read a case in a fork of this process, under limits of time and memory; see :func:`outcome`."""

    def work() -> None:
        warnings.simplefilter("ignore")
        signal.alarm(CASE_S)
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sending.send(outcome(name, case))

    fork = multiprocessing.get_context("fork")
    receiving, sending = fork.Pipe(duplex=False)
    process = fork.Process(target=work, daemon=True)
    process.start()
    sending.close()
    try:
        return receiving.recv()
    except EOFError:
        process.join()
        number = -(process.exitcode or 0)
        return False, f"hangs for more than {CASE_S} s" if number == signal.SIGALRM else f"died of signal {number}"
    finally:
        process.kill()
        process.join()


def fuzz(name: str, output: Path, *, seed: int, first: int, n_cases: int | None, seconds: float) -> Tally:
    """Read that many cases, or for so long; keep the input of the first case of each finding."""
    tally, started = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        good, case = Path(folder) / "good" / "input", Path(folder) / "case" / "input"
        good.mkdir(parents=True)
        case.parent.mkdir()
        TARGETS[name].write(good)
        TARGETS[name].read(good)  # which loads what the forks then share
        for number in islice(count(first), n_cases):
            before = time.monotonic()
            if before - started > seconds:
                break
            make_case(name, good, case, seed=seed, number=number)
            is_well, how = read_apart(name, case)
            tally.slowest_s = max(tally.slowest_s, time.monotonic() - before)
            tally.n_cases += 1
            tally.outcomes[how if is_well else "finding"] += 1
            key = how.partition(": ")[0]
            if not is_well and key not in {known.partition(": ")[0] for known in tally.findings}:
                tally.findings[how] = number
                kept = output / "findings" / f"{name.replace(' ', '-')}-{number}"
                shutil.copytree(case, kept, dirs_exist_ok=True)
    tally.seconds = time.monotonic() - started
    return tally


def page(tallies: dict[str, Tally]) -> str:
    """Markdown: one line a reader, then the findings."""
    columns = ("reader", "cases", "minutes", "read", "refused", "slowest s", "findings")
    rows = []
    for name, tally in tallies.items():
        refused = ", ".join(f"{key} {n}" for key, n in tally.outcomes.most_common() if key not in {"read", "finding"})
        shown = (name, tally.n_cases, tally.seconds / 60, tally.outcomes["read"], refused, tally.slowest_s)
        rows.append((*shown, len(tally.findings)))
    found = [f"- {name}, case {n}: {what}" for name, tally in tallies.items() for what, n in tally.findings.items()]
    return "\n".join([*markdown(columns, rows, digits=1), "", *(found or ["No finding."])]) + "\n"


def main() -> int:
    """Fuzz, and write what was found."""
    parser = command_line(__doc__, with_home=False)
    parser.add_argument("--minutes", type=float, default=10.0, help="over all readers that are asked for")
    parser.add_argument("--reader", choices=["all", *TARGETS], default="all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, help="of each reader; as many as the time allows if left out")
    options = parser.parse_args()
    own_errors()  # before any process is started: what is not installed is no finding
    names = list(TARGETS) if options.reader == "all" else [options.reader]
    tallies = {}
    for name in names:
        seconds = 60 * options.minutes / len(names)
        tallies[name] = fuzz(
            name, options.output, seed=options.seed, first=options.first, n_cases=options.cases, seconds=seconds
        )
        sys.stderr.write(f"{name}: {tallies[name].n_cases} cases, {len(tallies[name].findings)} findings\n")
    found = {name: vars(tally) for name, tally in tallies.items()}
    write_results(options.output, "fuzz", {"seed": options.seed, "readers": found}, page(tallies))
    return int(any(tally.findings for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
