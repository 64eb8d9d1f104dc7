"""An HDF5 file may name other files of the machine as parts of itself; a cell file is what lies in it and no more."""

from pathlib import Path
from typing import Any

from cellmodel.errors import InputUnusable


def check_enclosed(path: Path, file: Any) -> None:
    """Check that no part of an open HDF5 file lies in another file; anything else than HDF5 passes.

    Else what a stranger's file names, such as a list of passwords, would be read as numbers and written to the result.

    Raises
    ------
    InputUnusable
        If a part is a link to another file, raw bytes of another file, or put together from others.
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
    links = ((place + name, group.get(name, getlink=True)) for place, group in groups for name in group)
    outside += [place for place, link in links if isinstance(link, h5py.ExternalLink)]
    if outside:
        raise InputUnusable(
            f"{outside[0]} of {path} lies in another file, which is not read; copy its values into the file"
        )
