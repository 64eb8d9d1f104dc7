"""SIGKILL at random times, in a loop: no store, file of cells, report or model is ever wrong or half-readable.

    python -m benchmarks.robust.kills --kills 200 --output results

Each command of ``kill_jobs.py`` is run undisturbed, twice, which has to give the same bytes; then again and again with
a fault: ``kill`` (SIGKILL of its process group), ``cold`` (the same, of a command started as users start it),
``interrupt`` (SIGINT or SIGTERM), ``full`` (no file may grow beyond some size), ``clock`` (killed, and all files are of
the future), ``pair`` (two at once, one of which is killed). Times are drawn over the measured duration, with a third
of them in its last tenth, when results are put into place. After each fault every visible file has to be the old one
or the new one, byte for byte, every store is verified, and where something was under way the same command has to end
with the bytes of an undisturbed run. Commands are forked from a parent that has loaded the libraries, in a process
group of their own.
Writes ``kills.jsonl`` (a line as each fault has been tried), ``kills.json`` and ``kills.md``; exits with 1 where
anything was lost.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.robust.kill_jobs import (
    JOBS,
    Job,
    Snapshot,
    is_temporary,
    look,
    make_template,
    serving_slowly,
    snapshot,
    write_inputs,
)  # fmt: skip

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "cli")]

SHARD_SIZE = 64  # texts: many shards, so many places to be killed at
OTHERS = {"cold": 20, "interrupt": 50, "full": 30, "clock": 10, "pair": 20}
SHARE_LATE, LATE = 1 / 3, 0.9
LISTENS_S = 0.2  # until a command takes signals; before that it has done nothing
INTERRUPTED, BUSY, REFUSED = 130, 4, 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What one fault did."""

    job: str
    fault: str
    at: float
    hit: str  # before anything was written, in the middle (staging), or after the end
    lost: tuple[str, ...]  # what is wrong
    code: int  # of the disturbed command; negative for a signal
    asked: bool  # whether the same command asked for --overwrite or another name, since its result was there already
    left: tuple[str, ...]  # temporary files that remain after the same command has been run to its end


class Bench:
    """Runs commands in one working folder, whose path is always the same."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.folder = folder
        self.place = folder / "place"
        self.url = ""
        self._rng = random.Random(seed)

    def run(self, args: tuple[str, ...], place: Path) -> int:
        """Run a command to its end."""
        return _wait(self.start(args, place))

    def run_well(self, args: tuple[str, ...], place: Path) -> None:
        """Run a command that has to succeed."""
        code = self.run(args, place)
        if code:
            raise SystemExit(f"{' '.join(args)} ended with {code}:\n{(self.folder / 'stderr').read_text()}")

    def start(self, args: tuple[str, ...], place: Path, prepare: Callable[[], None] | None = None) -> int:
        """Fork a command into a process group of its own; its output goes to files beside the working folder."""
        child = os.fork()
        os.setpgid(child, child)  # by both, so that the group is there when either goes on
        if child:
            return child
        code = 1
        try:
            os.chdir(place)
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            if prepare:
                prepare()
            code = _main([arg.format(url=self.url) for arg in args])
        except Exception:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)

    def start_cold(self, args: tuple[str, ...], place: Path) -> int:
        """Start a command as its users do."""
        code = (
            f"import genekb.builder.assemble; genekb.builder.assemble.SHARD_SIZE = {SHARD_SIZE}; "
            f"from genekb_cellmodel_cli.{args[0]} import main; main()"
        )
        environment = dict(os.environ, PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'cli'}")
        command = [sys.executable, "-c", code, *(arg.format(url=self.url) for arg in args[1:])]
        with (self.folder / "stderr").open("w") as err:
            process = subprocess.Popen(
                command, cwd=place, env=environment, stdout=err, stderr=err, start_new_session=True
            )
        process.returncode = 0  # it is waited for by its number
        return process.pid

    def elsewhere(self, work: Callable[[], Any]) -> Any:
        """Do some work in a fork, since libraries start threads where they are used; give its result."""
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.write(writer, json.dumps(work()).encode())
            except Exception:
                traceback.print_exc()
                raise
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            content = stream.read()
        os.waitpid(child, 0)
        return json.loads(content)

    def renew(self, template: Path) -> None:
        """Bring the working folder into the state that a job starts from."""
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(template, self.place)

    def draw(self) -> float:
        """Draw a time as a share of the duration."""
        return self._rng.uniform(LATE, 1.05) if self._rng.random() < SHARE_LATE else self._rng.uniform(0.0, LATE)

    def choose(self, values: list[Any]) -> Any:
        """Draw one of some values."""
        return self._rng.choice(values)


def _main(args: list[str]) -> int:
    sys.argv = args
    try:
        import_module(f"genekb_cellmodel_cli.{args[0]}").main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A job as it runs undisturbed: the folder that it starts from, what it leaves, and how long it takes."""

    job: Job
    template: Path
    before: Snapshot
    after: Snapshot
    seconds: float
    cold_seconds: float


def measure(job: Job, bench: Bench, inputs: Path) -> Measured:
    """Run a job undisturbed, twice, and once as users start it."""
    template = bench.folder / "templates" / job.name
    shutil.rmtree(bench.place, ignore_errors=True)
    make_template(job, inputs, bench.place, run=bench.run_well)
    bench.place.rename(template)
    found, seconds = [], []
    for start in (bench.start, bench.start, bench.start_cold):
        bench.renew(template)
        before = bench.elsewhere(lambda: snapshot(bench.place))
        started = time.perf_counter()
        code = _wait(start(job.args, bench.place))
        seconds.append(time.perf_counter() - started)
        if code:
            raise SystemExit(f"{job.name} ended with {code}:\n{(bench.folder / 'stderr').read_text()}")
        found.append(bench.elsewhere(lambda: snapshot(bench.place)))
    differing = {name for name in found[0] if any(other.get(name) != found[0][name] for other in found[1:])}
    if differing:
        raise SystemExit(f"{job.name} gives other bytes each time: {', '.join(sorted(differing)[:3])}")
    return Measured(
        job=job, template=template, before=before, after=found[0], seconds=min(seconds[:2]), cold_seconds=seconds[2]
    )


def disturb(measured: Measured, fault: str, bench: Bench) -> tuple[float, int, list[str]]:
    """Run a job with a fault; give its time, the exit code, and what is wrong with how the command ended."""
    job, at = measured.job, bench.draw()
    if fault == "full":
        return _run_on_full_disk(measured, bench)
    if fault == "clock":
        soon = time.time() + 10 * 365 * 86_400
        for path in bench.place.rglob("*"):
            os.utime(path, (soon, soon))
    is_cold = fault == "cold"
    children = [(bench.start_cold if is_cold else bench.start)(job.args, bench.place)]
    if fault == "pair":
        children.append(bench.start(job.args, bench.place))
    wait = at * (measured.cold_seconds if is_cold else measured.seconds) * len(children)
    time.sleep(max(wait, LISTENS_S) if fault == "interrupt" else wait)
    number = bench.choose([signal.SIGINT, signal.SIGTERM]) if fault == "interrupt" else signal.SIGKILL
    os.kill(children[0], number) if fault == "interrupt" else os.killpg(children[0], number)
    code, *others = map(_wait, children)
    wrong = [] if all(other in {0, REFUSED, BUSY} for other in others) else [f"the other ended with {others[0]}"]
    if fault == "interrupt" and code:
        wrong += _judge_interrupt(code, bench)
    return at, code, wrong


def _judge_interrupt(code: int, bench: Bench) -> list[str]:
    lines = (bench.folder / "stderr").read_text().splitlines()
    told = [line for line in lines if "interrupted; " in line]
    parts = [path.relative_to(bench.place) for path in bench.place.rglob("*.part*") if "ncbi" not in path.parts]
    left = [path for path in parts if "/.pulling" not in f"/{path.as_posix()}"]  # which goes on within a file
    wrong = [] if code == INTERRUPTED else [f"exit code {code}"]
    if len(told) != 1 or lines[-1:] != told or any("Traceback" in line for line in lines):
        wrong.append(f"stderr says {lines[-3:]}")
    return wrong + [f"{path} left by an interrupt" for path in left]


def _run_on_full_disk(measured: Measured, bench: Bench) -> tuple[float, int, list[str]]:
    sizes = [path.stat().st_size for path in bench.place.rglob("*") if path.is_file()]
    limit = int(bench.choose([1, 10, 100, 1_000, 10_000]) * (1 + bench.draw() * 9)) + bench.choose([0, max(sizes) // 9])

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    code = _wait(bench.start(measured.job.args, bench.place, prepare))
    lines = (bench.folder / "stderr").read_text().splitlines()
    is_told = code == 0 or (code in {REFUSED, BUSY} and ": error: " in "".join(lines[-1:])) or limit < 1_000
    return 0.0, code, [] if is_told else [f"exit code {code} on a full disk ({limit} bytes): {lines[-2:]}"]


def try_fault(measured: Measured, fault: str, bench: Bench) -> Trial:
    """Start afresh, disturb, look, and go on where the folder is in neither of the two states that are known."""
    bench.renew(measured.template)
    at, code, lost = disturb(measured, fault, bench)
    now, faults = bench.elsewhere(lambda: look(bench.place, measured.before, measured.after))
    states = {"before": measured.before, "after": measured.after}
    hit = next((name for name, state in states.items() if state == now), "staging")
    asked, wrong, left = go_on(measured, bench) if hit == "staging" else (False, [], [])
    return Trial(
        job=measured.job.name,
        fault=fault,
        at=round(at, 4),
        hit=hit,
        lost=(*lost, *faults, *wrong),
        code=code,
        asked=asked,
        left=tuple(left),
    )


def go_on(measured: Measured, bench: Bench) -> tuple[bool, list[str], list[str]]:
    """Run the same command again; give whether it refused since its result is there, what is wrong, what is left."""
    args = measured.job.args
    code = bench.run(args, bench.place)
    said = (bench.folder / "stderr").read_text()
    asked = code == REFUSED and ("--overwrite" in said or " already; " in said)
    if asked and "--overwrite" in said:
        code = bench.run((*args, "--overwrite"), bench.place)
        said = (bench.folder / "stderr").read_text()
    end, wrong = bench.elsewhere(lambda: look(bench.place, measured.before, measured.after))
    left = sorted(name for name in end if is_temporary(name) and name not in measured.after)
    if code and not asked:
        wrong.append(f"the same command ended with {code}: {said.splitlines()[-1:]}")
    names = sorted(name for name in {**end, **measured.after} if not is_temporary(name))
    if asked:  # the command line is kept in the file of cells, so this one differs
        wrong = [f"{name} is missing in the end" for name in names if name not in end]
    else:
        wrong += [f"{name} is another one in the end" for name in names if end.get(name) != measured.after.get(name)]
    return asked, wrong, left


def table(trials: list[Trial], seconds: dict[str, float]) -> str:
    """Markdown: one line a command; where kills hit, how often the other faults were tried, and what was lost."""
    lines = [
        f"| command, seconds | kills: before, staging, after | {' | '.join(OTHERS)} | refused, as done | left | lost |",
        f"| --- | --: |{' --: |' * (len(OTHERS) + 3)}",
    ]
    for job in (*seconds, "all"):
        of_job = [trial for trial in trials if job in {trial.job, "all"}]
        hits = Counter(trial.hit for trial in of_job if trial.fault == "kill")
        shown = ", ".join(str(hits[name]) for name in ("before", "staging", "after"))
        others = [sum(trial.fault == fault for trial in of_job) for fault in OTHERS]
        ends = [
            sum(map(bool, of_end)) for of_end in zip(*((one.asked, one.left, one.lost) for one in of_job), strict=True)
        ]
        name = f"`{job}`, {seconds[job]:.1f}" if job in seconds else "**all**"
        lines.append(f"| {name} | {hits.total()}: {shown} | {' | '.join(map(str, [*others, *ends]))} |")
    return "\n".join(lines) + "\n"


def load_libraries(bench: Bench, inputs: Path, jobs: list[Job]) -> None:
    """Load here what the commands load, so that their forks find it loaded."""
    import genekb.builder.assemble

    genekb.builder.assemble.SHARD_SIZE = SHARD_SIZE
    for job in jobs:
        shutil.rmtree(bench.place, ignore_errors=True)
        make_template(job, inputs, bench.place, run=bench.run_well)

        def loaded(job: Job = job) -> list[str]:
            os.chdir(bench.place)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            with suppress(SystemExit):
                _main([arg.format(url=bench.url) for arg in job.args])
            return sorted(sys.modules)

        for name in bench.elsewhere(loaded):
            with suppress(ImportError):  # of names that modules make up for themselves
                import_module(name)


def run_trials(measured: dict[str, Measured], bench: Bench, counts: dict[str, int], log: Path) -> list[Trial]:
    """Try every fault on the commands in turn."""
    trials = []
    with log.open("w") as stream:
        for fault, n_trials in counts.items():
            for number in range(n_trials):
                trials.append(try_fault(list(measured.values())[number % len(measured)], fault, bench))
                stream.write(json.dumps(asdict(trials[-1])) + "\n")
                stream.flush()
    return trials


def main() -> int:
    """Measure, disturb, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    for name, number in OTHERS.items():
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", default=",".join(JOBS), help="names parted by commas")
    parser.add_argument("--output", type=Path, default=Path("results"))
    options = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
    jobs = [JOBS[name] for name in options.commands.split(",")]
    counts = {"kill": options.kills, **{name: getattr(options, name) for name in OTHERS}}
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), seed=options.seed)
        (bench.folder / "templates").mkdir()
        inputs = bench.folder / "inputs"
        bench.elsewhere(lambda: write_inputs(inputs))
        with serving_slowly(inputs, run=bench.run_well) as bench.url:
            load_libraries(bench, inputs, jobs)
            measured = {job.name: measure(job, bench, inputs) for job in jobs}
            trials = run_trials(measured, bench, counts, options.output / "kills.jsonl")
    seconds = {name: one.seconds for name, one in measured.items()}
    (options.output / "kills.json").write_text(
        json.dumps({"seconds": seconds, "trials": [asdict(trial) for trial in trials]}, indent=1)
    )
    (options.output / "kills.md").write_text(table(trials, seconds))
    sys.stdout.write(table(trials, seconds))
    return 1 if any(trial.lost for trial in trials) else 0


if __name__ == "__main__":
    sys.exit(main())
