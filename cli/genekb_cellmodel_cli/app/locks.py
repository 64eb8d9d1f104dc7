"""What the commands of both programs that share, lock and sync print."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from genekb.core.resources import note_on_interrupt
from genekb_cellmodel_cli.app.output import Progress, print_json, print_lines, progress_bar

if TYPE_CHECKING:
    from genekb.store.lockfile import Kind, Pin

_NAME_KEY: Final[Mapping["Kind", str]] = {"store": "store", "model": "path"}  # of a pin in JSON


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
    if json:
        print_json({"file": str(path), f"{kind}s": [pin.entry(_NAME_KEY[kind]) for pin in pins]})
        return
    what = {pin.name: ", ".join(pin.encoders) or pin.store_id for pin in pins}
    print_lines(f"{pin.name} {pin.digest[:16]} {what[pin.name]} {pin.url}".rstrip() for pin in pins)


def print_compared(
    kind: "Kind",
    path: Path,
    *,
    check: "Callable[[Pin], list[str]] | None",
    sync: "Callable[[Progress], Iterable[tuple[Pin, int]]]",
    json: bool,
) -> str:
    """Check what a lock file pins of one kind, or bring it, and print what became of each pin.

    ``check``: what differs from a pin; if it is None, ``sync`` brings all: each pin, with the bytes that came. Returns
    the names of those that are not as pinned.
    """
    from genekb.store.lockfile import read_pins

    found: list[tuple[Pin, dict[str, Any]]]
    if check:
        found = [(pin, {"faults": check(pin)}) for pin in read_pins(path, kind)]
    else:
        with transfer_progress() as progress:
            found = [(pin, {"n_bytes_now": n_bytes, "faults": []}) for pin, n_bytes in sync(progress)]
    if json:
        rows = [{_NAME_KEY[kind]: pin.name, "digest": pin.digest, **result} for pin, result in found]
        print_json({"file": str(path), f"{kind}s": rows})
    else:
        print_lines(f"{pin.name} {pin.digest[:16]}: {'; '.join(row['faults']) or 'whole'}" for pin, row in found)
    return ", ".join(pin.name for pin, row in found if row["faults"])


@contextmanager
def transfer_progress(kept: str = "what has arrived is kept") -> "Iterator[Progress]":
    """Show how much of a transfer is done; an interrupt then says what is ``kept``."""
    with note_on_interrupt(f"{kept}, the same command goes on where it was"), progress_bar() as progress:
        yield progress
