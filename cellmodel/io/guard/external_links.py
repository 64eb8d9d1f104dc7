"""No external links: parts of a cell file that lie in other files of the machine are refused."""

import os
from pathlib import Path
from typing import Any

from cellmodel.core.errors import InputUnusable


def check_enclosed(path: Path, file: Any) -> None:
    """Check that no part of an open HDF5 file lies in another file; anything else than HDF5 passes.

    Else what a stranger's file names, such as a list of passwords, would be read as numbers and written to the result.

    Raises ``InputUnusable`` if a part is a link to another file, raw bytes of another file, or put together from
    others.
    """
    import h5py

    if not isinstance(file, h5py.Group):
        return
    groups, outside = [("", file)], []

    def look(place: str, element: Any) -> None:
        if isinstance(element, h5py.Group):
            groups.append((f"{place}/", element))
        elif isinstance(element, h5py.Dataset) and (element.external or element.is_virtual):
            outside.append(place)

    file.visititems(look)
    links = ((place + _shown(name), group.get(name, getlink=True)) for place, group in groups for name in group)
    outside += [place for place, link in links if isinstance(link, h5py.ExternalLink)]
    if outside:
        raise InputUnusable(
            f"{outside[0]} of {path} lies in another file, which is not read; copy its values into the file"
        )


def _shown(name: str | bytes) -> str:
    """Show the name of a part, which h5py gives as bytes where it is no UTF-8."""
    return name if isinstance(name, str) else name.decode(errors="backslashreplace")


def check_enclosed_folder(path: Path) -> None:
    """Check that a folder holds plain files and folders alone; no file is opened. It may be a link itself.

    A link inside is refused wherever it leads: no zarr store needs one, and one that leads upwards has no end.

    Raises ``InputUnusable`` if a part is a link, a pipe or a device.
    """
    folders = [os.fspath(path)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif not entry.is_file(follow_symlinks=False):
                    _refuse_entry(path, entry)


def _refuse_entry(path: Path, entry: "os.DirEntry[str]") -> None:
    place = os.path.relpath(entry.path, path)
    if entry.is_symlink():
        raise InputUnusable(
            f"{place} of {path} is a link, which is not followed; copy what it links to into the folder in its place"
        )
    raise InputUnusable(f"{place} of {path} is a pipe or a device, which is not read; copy the whole folder again")
