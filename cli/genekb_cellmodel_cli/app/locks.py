"""Commands of `genekb` that share stores: push, pull, lock, sync, keygen, sign."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genekb_cellmodel_cli.app.output import print_json, print_lines

GO_ON = "the same command goes on where it was"


def existing_lock(file: Path | None, *, way_out: str) -> Path:
    """Find the lock file that a command needs."""
    from genekb.core.errors import SourceUnusable
    from genekb.store.lockfile import LOCK_FILE, find_lock_file

    path = file or find_lock_file()
    if path is None or not path.is_file():
        raise SourceUnusable(f"no {path or f'{LOCK_FILE} here or above'}; {way_out}")
    return path


def print_synced(rows: Sequence[Mapping[str, Any]], *, name: str, listed_as: str, path: Path, json: bool) -> str:
    """Print what became of each thing that is pinned, and give the names of those that are not as pinned.

    Parameters
    ----------
    rows
        Each with its name, ``digest`` and ``faults``.
    name
        Key of a row's name.
    listed_as
        Key of the rows in the JSON object.
    """
    if json:
        print_json({"file": str(path), listed_as: rows})
    else:
        print_lines(f"{row[name]} {row['digest'][:16]}: {'; '.join(row['faults']) or 'whole'}" for row in rows)
    return ", ".join(row[name] for row in rows if row["faults"])
