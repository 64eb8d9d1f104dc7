"""What the `lock` and `sync` commands of both programs print."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from genekb_cellmodel_cli.app.output import print_json, print_lines

if TYPE_CHECKING:
    from genekb.store.lockfile import Kind, Pin

GO_ON = "the same command goes on where it was"
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
    kind: "Kind", found: "Iterable[tuple[Pin, Mapping[str, object], list[str]]]", path: Path, *, json: bool
) -> str:
    """Print, of each pin, what is to be shown and what differs; give the names of those that are not as pinned."""
    compared = list(found)
    if json:
        rows = [
            {_NAME_KEY[kind]: pin.name, "digest": pin.digest, **shown, "faults": faults}
            for pin, shown, faults in compared
        ]
        print_json({"file": str(path), f"{kind}s": rows})
    else:
        print_lines(f"{pin.name} {pin.digest[:16]}: {'; '.join(faults) or 'whole'}" for pin, _, faults in compared)
    return ", ".join(pin.name for pin, _, faults in compared if faults)
