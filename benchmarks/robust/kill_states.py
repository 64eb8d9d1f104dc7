"""What a working folder holds, and what is wrong with it after a fault."""

import hashlib
import json
import re
from pathlib import Path

MANIFEST = "manifest.json"
Snapshot = dict[str, str]  # path: SHA-256 of the content
_UNITS = re.compile(r"(home/stores/[^/]+/[0-9a-f]{64}|shared/[0-9a-f]{64}|model|out\.zarr)/")  # whole, or not at all
_CHANGING = re.compile(r"(^|/)(\.cache/|[^/]*\.lock$|download\.json$)")  # caches, locks
_TEMPORARY = re.compile(r"(^|/)\.[^/]*(part|building|pulling|removing|work)|\.part(\.json)?($|/)")


def is_temporary(name: str) -> bool:
    """Whether a path is one of those that a next run uses or removes."""
    return bool(_TEMPORARY.search(name))


def snapshot(folder: Path) -> Snapshot:
    """Digest every file of a folder; of manifests without the time at which they were made."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not _CHANGING.search(name):
            found[name] = hashlib.sha256(_lasting(path)).hexdigest()
        elif path.is_dir() and is_temporary(name):
            found[name + "/"] = ""
    return found


def _lasting(path: Path) -> bytes:
    content = path.read_bytes()
    if path.name == MANIFEST:
        try:
            manifest = json.loads(content)
        except ValueError:
            return content
        return json.dumps({key: value for key, value in manifest.items() if key != "created_at"}).encode()
    return content


def look(folder: Path, before: Snapshot, after: Snapshot) -> tuple[Snapshot, list[str]]:
    """Compare what is visible with what was there and what an undisturbed run leaves, and verify every store."""
    now, faults = snapshot(folder), []
    for name, digest in now.items():
        if not is_temporary(name) and digest not in (before.get(name), after.get(name)):
            faults.append(f"{name} is neither the old nor the new one")
    faults += [f"{name} is gone" for name in before if name not in now and not is_temporary(name) and name in after]
    for unit in sorted({found[0] for name in {**now, **before, **after} if (found := _UNITS.match(name))}):
        parts = [{name: one[name] for name in one if name.startswith(unit)} for one in (now, before, after)]
        is_shown = unit + MANIFEST in parts[0] if unit.startswith("shared/") else bool(parts[0])  # it comes last there
        if is_shown and parts[0] not in parts[1:]:
            faults.append(f"{unit} is half of one")
    return now, faults + _store_faults(folder)


def _store_faults(folder: Path) -> list[str]:
    """Verify every store that can be found by its name or digest, and that a name stands for one that is there."""
    from genekb.core.errors import GeneKBError
    from genekb.store.home import CURRENT, current_folder
    from genekb.store.verify import verify_store

    faults = []
    for manifest in folder.glob(f"home/stores/*/*/{MANIFEST}"):
        if not manifest.parent.name.startswith("."):
            try:
                faults += [str(fault) for fault in verify_store(manifest.parent).faults]
            except GeneKBError as error:
                faults.append(str(error))
    for pointer in folder.glob(f"home/stores/*/{CURRENT}"):
        if current_folder(pointer.parent) is None:
            faults.append(f"{pointer} stands for nothing")
    return faults
