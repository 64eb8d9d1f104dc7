"""Printing: results on stdout, all else on stderr; no secret of an address, nothing that steers the terminal."""

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import typer

from genekb.core.errors import NotAvailable
from genekb.core.messages import p_text, printable
from genekb.core.progress import end_progress
from genekb.core.resources import note_on_interrupt

if TYPE_CHECKING:
    from genekb.store.lockfile import Kind, Pin

Columns = Mapping[str, str | Callable[[Any], Any]]  # heading and what stands under it, see :func:`table`


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout."""
    text = json.dumps(dict(content), indent=1, ensure_ascii=False, default=_plain)
    _say(printable(text, escape=lambda char: json.dumps(char)[1:-1]))


_ARGUMENT: Final = re.compile(r"`?\b([a-z]+(?:_[a-z]+)*)=(True\b|\"[^\"]*\"|\d+)`?|`([a-z]+(?:_[a-z]+)*)`")
_OF_COMMAND: Final = re.compile(r"`((?:genekb|cellmodel) [a-z-]+)` with `([a-z_]+)`")  # an argument of another command
_options: Final[dict[str, str]] = {}  # of the command that runs, by argument


def name_options_of(command: Any) -> None:
    """Spell the arguments that messages name as the options of a command from here on."""
    _options.clear()
    _options["max_memory"] = "--max-memory, before the command's name"
    _options.update({each.name: max(each.opts, key=len) for each in command.params if each.opts[0].startswith("-")})


def as_options(message: str) -> str:
    """Spell the arguments that a message names as options: ``overwrite=True``, ``knowledge="none"``, `` `layer` ``."""

    def option(found: re.Match[str]) -> str:
        spelled = _options.get(found[1] or found[3])
        if spelled is None:
            return found[0]
        return spelled if found[2] in {None, "True"} else " ".join((spelled, found[2].strip('"')))

    message = _OF_COMMAND.sub(lambda found: f"`{found[1]} --{found[2].replace('_', '-')}`", message)
    return _ARGUMENT.sub(option, message)


class PrintableFormatter(logging.Formatter):
    """Messages of the log as :func:`printable` has them, which name options."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one message."""
        return printable(as_options(super().format(record)))


class StderrHandler(logging.StreamHandler[Any]):
    """Messages on stderr as it is now: while a bar is drawn, above it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        self.stream = sys.stderr
        super().emit(record)


def _say(text: str) -> None:
    """Print on stdout; a disk that refuses it is an error of one line."""
    end_progress()
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
        _say(printable(as_options(line)))


def show(content: Mapping[str, Any], lines: Iterable[str], *, json: bool) -> None:
    """Print what a command found: one JSON object, or lines for people."""
    print_json(content) if json else print_lines(lines)


def print_record(content: Mapping[str, Any], *, json: bool = False) -> None:
    """Print what a command did: one JSON object, or a line for each value; empty lists are left out."""
    shown = {key: value for key, value in content.items() if value not in ((), [], "")}
    lines = (
        f"{key}: {', '.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for key, value in shown.items()
    )
    show(content, lines, json=json)


def table(columns: Sequence[str] | Columns, rows: Iterable[Any]) -> Iterator[str]:
    """Give the lines of a table, whose columns are as wide as they need to be.

    ``columns``: headings of rows that are sequences; or for each heading a function of a row, else the name of its key
    or attribute, with a format where one is needed: ``{"score": "score:.1f"}``, ``{"p": "p_value:p"}``.
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
    if not form or value is None:
        return value
    return p_text(value) if form == "p" else format(value, form)


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
    """Print a line on stderr, where that is not to be quiet."""
    if logging.getLogger("genekb").isEnabledFor(logging.INFO):
        complain(message)


def complain(message: str) -> None:
    """Print a line on stderr, of an error or an interrupt."""
    end_progress()
    typer.echo(printable(as_options(message)), err=True)


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback on stderr; to be set as :data:`sys.excepthook`."""
    complain("".join(traceback.format_exception(kind, error, trace)).rstrip())


_NAME_KEY: Final[Mapping["Kind", str]] = {"store": "store", "model": "path"}  # of a pin in JSON


def print_pins(stores: "Sequence[Pin]", models: "Sequence[Pin]", path: Path, *, json: bool) -> None:
    """Print what a lock file pins."""
    what = {pin.name: ", ".join(pin.encoders) or pin.store_id for pin in (*stores, *models)}
    lines = (f"{pin.name} {pin.digest[:16]} {what[pin.name]} {pin.url}".rstrip() for pin in (*stores, *models))
    kinds: dict[Kind, Sequence[Pin]] = {"store": stores, "model": models}
    pinned = {f"{kind}s": [pin.entry(_NAME_KEY[kind]) for pin in pins] for kind, pins in kinds.items()}
    show({"file": str(path), **pinned}, lines, json=json)


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
        with keep_interrupted():
            came = [(pin, pulled.n_bytes_now if pulled else 0) for pin, pulled in sync()]
        found = [(pin, {"n_bytes_now": n_bytes, "faults": []}) for pin, n_bytes in came]
    rows = [{_NAME_KEY[kind]: pin.name, "digest": pin.digest, **result} for pin, result in found]
    lines = (f"{pin.name} {pin.digest[:16]}: {'; '.join(row['faults']) or 'whole'}" for pin, row in found)
    show({"file": str(path), f"{kind}s": rows}, lines, json=json)
    wrong = ", ".join(pin.name for pin, row in found if row["faults"])
    if wrong:
        command = {"store": "genekb pull", "model": "cellmodel model pull"}[kind]
        raise StoreCorrupt(f"{wrong}: not as {path} pins; `{command}` brings what is missing")


def keep_interrupted(kept: str = "what has arrived is kept") -> AbstractContextManager[None]:
    """Say at an interrupt what is ``kept`` of a transfer."""
    return note_on_interrupt(f"{kept}, the same command goes on where it was")
