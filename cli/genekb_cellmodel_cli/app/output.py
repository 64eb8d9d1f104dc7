"""Printing: results on stdout, all else on stderr; no secret of an address, nothing that steers the terminal."""

import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import typer

from genekb.core.errors import NotAvailable
from genekb.core.messages import printable
from genekb.core.resources import note_on_interrupt

if TYPE_CHECKING:
    from genekb.store.lockfile import Kind, Pin

Progress = Callable[[str, int, int], None]  # what, done, total
Columns = Mapping[str, str | Callable[[Any], Any]]  # heading and what stands under it, see :func:`table`


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout."""
    text = json.dumps(dict(content), indent=1, ensure_ascii=False, default=_plain)
    _say(printable(text, escape=lambda char: json.dumps(char)[1:-1]))


class PrintableFormatter(logging.Formatter):
    """Messages of the log as :func:`printable` has them."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one message."""
        return printable(super().format(record))


def _say(text: str) -> None:
    """Print on stdout; a disk that refuses it is an error of one line."""
    try:
        typer.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else what is left is tried again at the end, with a traceback
        raise NotAvailable(f"stdout cannot be written: {error.strerror}") from error


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines on stdout."""
    for line in lines:
        _say(printable(line))


def show(content: Mapping[str, Any], lines: Iterable[str], *, json: bool) -> None:
    """Print what a command found: one JSON object, or lines for people."""
    print_json(content) if json else print_lines(lines)


def print_record(content: Mapping[str, Any], *, json: bool = False) -> None:
    """Print what a command did: one JSON object, or a line for each value; empty lists are left out."""
    shown = {key: value for key, value in content.items() if value not in ((), [])}
    lines = (
        f"{key}: {', '.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for key, value in shown.items()
    )
    show(content, lines, json=json)


def table(columns: Sequence[str] | Columns, rows: Iterable[Any]) -> Iterator[str]:
    """Give the lines of a table, whose columns are as wide as they need to be.

    ``columns``: headings of rows that are sequences; or for each heading a function of a row, else the name of its key
    or attribute, with a format where one is needed: ``{"p": "p_value:.2g"}``.
    """
    if isinstance(columns, Mapping):
        rows = [[_pick(row, column) for column in columns.values()] for row in rows]
    cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(columns))]
    for row in cells:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _pick(row: Any, column: str | Callable[[Any], Any]) -> Any:
    if not isinstance(column, str):
        return column(row)
    name, _, form = column.partition(":")
    value = row[name] if isinstance(row, Mapping) else getattr(row, name)
    return format(value, form) if form else value


def _cell(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int):
        return f"{value:,}"
    text = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def note(message: str) -> None:
    """Print a line on stderr."""
    typer.echo(printable(message), err=True)


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback on stderr; to be set as :data:`sys.excepthook`."""
    note("".join(traceback.format_exception(kind, error, trace)).rstrip())


@contextmanager
def progress_bar(*, every_s: float = 30.0) -> Iterator[Progress]:
    """Give a callback (what, done, total) that draws a bar on stderr, else writes a line there every some seconds."""
    if not sys.stderr.isatty():
        with _progress_lines(every_s) as advance:
            yield advance
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(printable(what), total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield advance


@contextmanager
def _progress_lines(every_s: float) -> Iterator[Progress]:
    """Write every some seconds how much of the current work is done, its rate since the line before, and time left."""
    now: dict[str, tuple[int, int]] = {}
    before: dict[str, tuple[float, int]] = {}  # time and amount done at the last line
    ended = threading.Event()

    def advance(what: str, done: int, total: int) -> None:
        now.pop(what, None)
        now[what] = (done, total)  # the last one is the current work
        before.setdefault(what, (time.monotonic(), done))

    def write_lines() -> None:
        while not ended.wait(every_s):
            if now:
                what, (done, total) = list(now.items())[-1]
                start, done_before = before[what]
                before[what] = (time.monotonic(), done)
                if done < total:
                    note(_progress_line(what, done, total, rate=(done - done_before) / (time.monotonic() - start)))

    if logging.getLogger("genekb").isEnabledFor(logging.INFO):
        threading.Thread(target=write_lines, daemon=True).start()
    try:
        yield advance
    finally:
        ended.set()


def _progress_line(what: str, done: int, total: int, *, rate: float) -> str:
    line = f"{what}: {done:,} of {total:,} ({done / total:.0%})"
    return f"{line}, {rate:,.3g} a second, {duration((total - done) / rate)} left" if rate else line


def duration(seconds: float) -> str:
    """Write a time as people say it: 40 s, 12 min, 3.5 h."""
    if seconds < 100:  # noqa: PLR2004 - up to here seconds are easier to read than minutes
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004 - 100 minutes


_NAME_KEY: Final[Mapping["Kind", str]] = {"store": "store", "model": "path"}  # of a pin in JSON
_N_BYTES: Final[Mapping["Kind", str]] = {"store": "n_bytes", "model": "n_bytes_now"}  # that came, of what was pulled


def existing_lock(file: Path | None, *, hint: str) -> Path:
    """Find the lock file that a command needs."""
    from genekb.core.errors import SourceUnusable
    from genekb.store.lockfile import LOCK_FILE, find_lock_file

    path = file or find_lock_file()
    if path is None or not path.is_file():
        raise SourceUnusable(f"no {path or f'{LOCK_FILE} here or above'}; {hint}")
    return path


def print_pins(kind: "Kind", pins: "Sequence[Pin]", path: Path, *, json: bool) -> None:
    """Print what a lock file pins of one kind."""
    what = {pin.name: ", ".join(pin.encoders) or pin.store_id for pin in pins}
    lines = (f"{pin.name} {pin.digest[:16]} {what[pin.name]} {pin.url}".rstrip() for pin in pins)
    show({"file": str(path), f"{kind}s": [pin.entry(_NAME_KEY[kind]) for pin in pins]}, lines, json=json)


def print_compared(
    kind: "Kind",
    path: Path,
    *,
    check: "Callable[[Pin], list[str]] | None",
    sync: "Callable[..., Iterable[tuple[Pin, Any]]]",
    json: bool,
) -> None:
    """Check what a lock file pins of one kind, or bring it, and print what became of each pin.

    ``check``: what differs from a pin; if it is None, ``sync`` brings all: each pin, with what was pulled. Raises
    ``StoreCorrupt`` if something is not as it is pinned.
    """
    from genekb.core.errors import StoreCorrupt
    from genekb.store.lockfile import read_pins

    found: list[tuple[Pin, dict[str, Any]]]
    if check:
        found = [(pin, {"faults": check(pin)}) for pin in read_pins(path, kind)]
    else:
        with transfer_progress() as progress:
            came = [(pin, getattr(pulled, _N_BYTES[kind], 0)) for pin, pulled in sync(progress=progress)]
        found = [(pin, {"n_bytes_now": n_bytes, "faults": []}) for pin, n_bytes in came]
    rows = [{_NAME_KEY[kind]: pin.name, "digest": pin.digest, **result} for pin, result in found]
    lines = (f"{pin.name} {pin.digest[:16]}: {'; '.join(row['faults']) or 'whole'}" for pin, row in found)
    show({"file": str(path), f"{kind}s": rows}, lines, json=json)
    wrong = ", ".join(pin.name for pin, row in found if row["faults"])
    if wrong:
        program = {"store": "genekb", "model": "cellmodel"}[kind]
        raise StoreCorrupt(f"{wrong}: not as {path} pins; `{program} sync` brings what is missing")


@contextmanager
def transfer_progress(kept: str = "what has arrived is kept") -> "Iterator[Progress]":
    """Show how much of a transfer is done; an interrupt then says what is ``kept``."""
    with note_on_interrupt(f"{kept}, the same command goes on where it was"), progress_bar() as progress:
        yield progress
