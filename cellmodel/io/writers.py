"""Write results: targets, and cell files that are written whole or not at all."""

import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from cellmodel.core.arrays import CellByGene
from cellmodel.core.errors import InputUnusable, KeyUnusable, SlotTaken
from cellmodel.io.formats.anndata import find_modality, open_file
from cellmodel.io.formats.tenx import find_group
from cellmodel.io.guard import PARTS
from genekb.core.errors import OutputUnusable
from genekb.files import replace as replacing
from genekb.files.endings import CELLS, check_ending
from genekb.files.replace import Target

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

ZARR_MARKS: Final = (".zgroup", "zarr.json")


def write_cells(adata: "AnnData", path: Path, *, source: Path | None = None, overwrite: bool = False) -> None:
    """Write cells as ``.h5ad`` or ``.zarr``: a temporary sibling takes the name when it is complete.

    ``source``: file that the cells were read from; an ``.h5ad`` is compressed as it is.
    """

    def write(part: Path) -> None:
        if path.suffix == ".zarr":
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Writing zarr v2 data", category=UserWarning)
                adata.write_zarr(part, convert_strings_to_categoricals=False)
            return
        from anndata.io import write_elem

        with _open_h5ad(part, "w") as file:
            write_elem(file, "/", adata, dataset_kwargs={"compression": _compression(source)})

    with output(cells_target(path), overwrite=overwrite) as part, _text_columns_kept(adata):
        _undisturbed(lambda: write(part))


def write_beside(
    adata: "AnnData", source: Path, path: Path, *, slots: Iterable[tuple[str, str]], overwrite: bool = False
) -> None:
    """Write a copy of a cell file with some slots of ``adata`` in it; its matrices are copied and never read.

    ``source``: ``.h5ad``, ``.zarr`` or a 10x ``.h5``, whose copy is an ``.h5ad``. ``slots``: part of an AnnData and key
    in it; one that ``adata`` lacks is removed from the copy.
    """
    with output(cells_target(path), overwrite=overwrite) as part, _text_columns_kept(adata):
        write = {".zarr": _write_slots_into_zarr, ".h5": _write_10x}.get(source.suffix, _write_slots_into_h5ad)
        _undisturbed(lambda: write(source, part, adata, slots))


FileState = tuple[int, ...]


def file_state(path: Path) -> FileState | None:
    """Which file a path names, and when it was changed last; None where it names none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def can_be_copied(source: Path, path: Path, *, read_at: FileState | None) -> bool:
    """Whether a copy of a file with new slots is what writing its cells again would give.

    ``read_at``: its state when the cells were read. True of an ``.h5ad`` that is written as one, holds all of its parts
    in the layout of today, and was not changed since.
    """
    import h5py

    if {source.suffix, path.suffix} != {".h5ad"} or read_at is None or file_state(source) != read_at:
        return False
    with h5py.File(source) as file:
        kinds = {str(file[part].attrs.get("encoding-type")) for part in ("obs", "var") if part in file}
        return file.attrs.get("encoding-type") == "anndata" and kinds == {"dataframe"}


def write_blocks(
    adata: "AnnData", blocks: Iterable[CellByGene], path: Path, *, source: Path, overwrite: bool = False
) -> None:
    """Write cells whose matrix is given in blocks, as X; ``source``: an ``.h5ad`` is compressed as it is."""

    def write(part: Path) -> None:
        if path.suffix == ".zarr":
            import zarr

            _write_joined(zarr.open_group(part, mode="w", zarr_format=2), adata, blocks)
            return
        with _open_h5ad(part, "w") as file:
            _write_joined(file, adata, blocks, compression=_compression(source))

    with output(cells_target(path), overwrite=overwrite) as part, _text_columns_kept(adata):
        _undisturbed(lambda: write(part))


def _write_joined(file: Any, adata: "AnnData", blocks: Iterable[CellByGene], **filters: str | None) -> None:
    from anndata.io import sparse_dataset, write_elem

    write_elem(file, "/", adata)
    rest = iter(blocks)
    first = next(rest)
    first.indptr = first.indptr.astype(np.int64)  # the entries of all blocks may be more than 32 bits count
    write_elem(file, "X", first, dataset_kwargs=filters)
    stored = sparse_dataset(file["X"])
    for block in rest:
        stored.append(block)


def _undisturbed(write: Callable[[], None]) -> None:
    """Write in a thread, which no signal reaches: a KeyboardInterrupt inside a write of HDF5 damages the file."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(write).result()


def _write_slots_into_h5ad(source: Path, part: Path, adata: "AnnData", slots: Iterable[tuple[str, str]]) -> None:
    """Copy a file with new slots; of MuData, the modality with the genes."""
    with open_file(source) as file:
        modality = find_modality(source, file)
        if modality:
            with _open_h5ad(part, "w") as h5ad:
                for name in file[f"mod/{modality}"]:
                    file.copy(f"mod/{modality}/{name}", h5ad, name)
                h5ad.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
                _write_slots(h5ad, adata, slots)
            return
    shutil.copyfile(source, part)
    with _open_h5ad(part, "r+") as file:
        _write_slots(file, adata, slots, compression=_compression(source))


def _write_10x(source: Path, part: Path, adata: "AnnData", _: Iterable[tuple[str, str]]) -> None:
    """Write a 10x file with new slots as h5ad: its matrix, CSC of genes by cells, is CSR of cells by genes."""
    import h5py
    from anndata.io import write_elem

    with h5py.File(source) as file, _open_h5ad(part, "w") as h5ad:
        write_elem(h5ad, "/", adata)
        group, matrix = file[find_group(source, file)], h5ad.create_group("X")
        for name in PARTS:
            file.copy(group[name], matrix)
        matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": adata.shape})


def _write_slots_into_zarr(source: Path, part: Path, adata: "AnnData", slots: Iterable[tuple[str, str]]) -> None:
    """Copy a zarr store with new slots; its consolidated metadata, if it has any, is made again."""
    import zarr

    modality = find_modality(source, zarr.open_group(source, mode="r"))
    shutil.copytree(source / "mod" / modality if modality else source, part)
    has_list = zarr.open_group(part, mode="r").metadata.consolidated_metadata is not None
    _write_slots(zarr.open_group(part, mode="r+", use_consolidated=False), adata, slots)
    if has_list:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
            zarr.consolidate_metadata(part)


def _write_slots(file: Any, adata: "AnnData", slots: Iterable[tuple[str, str]], **filters: str | None) -> None:
    from anndata.io import write_elem

    slots = list(slots)
    for table in ("obs", *(["var"] if any(part == "var" for part, _ in slots) else [])):
        write_elem(file, table, getattr(adata, table), dataset_kwargs=filters)
    for part, key in slots:
        if part in {"obs", "var"}:
            continue
        if part not in file:
            write_elem(file, part, {})
        held = getattr(adata, part)
        if key in held:
            write_elem(file[part], key, held[key], dataset_kwargs=filters)
        elif key in file[part]:
            del file[part][key]


def cells_target(path: Path) -> Target:
    """Give the target of annotated cells, for :func:`check_targets`; ``InputUnusable`` for another suffix."""
    check_ending(path, CELLS, error=InputUnusable)
    return Target(path, kind="whole", marks=ZARR_MARKS) if path.suffix == ".zarr" else Target(path)


def check_targets(targets: Iterable[Target | None], *, inputs: Iterable[Path] = (), overwrite: bool) -> None:
    """Check that a command can write its outputs, before any work, see :func:`genekb.files.replace.check_targets`."""
    try:
        replacing.check_targets([target for target in targets if target], inputs=inputs, overwrite=overwrite)
    except OutputUnusable as error:
        raise InputUnusable(str(error)) from error


@contextmanager
def output(target: Target, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary sibling to write to, see :func:`genekb.files.replace.output`; a refusal is one line."""
    try:
        with replacing.output(target, overwrite=overwrite) as part:
            yield part
    except OutputUnusable as error:
        raise InputUnusable(str(error)) from error


def check_key(name: str, *, slot: str = "") -> None:
    """Check that a file can store results under a name, shown as ``slot``; ``KeyUnusable`` if it cannot."""
    if "/" in name:
        why = "it holds '/', which separates groups"
    elif not name.strip(" ."):
        why = "it is empty" if not name.strip() else "it is a path, not a name"
    elif name == "_index":
        why = "files keep this name for the index"
    elif not name.isprintable():
        why = "it holds a character that cannot be printed"
    else:
        return
    raise KeyUnusable(
        f"{slot or repr(name)} cannot name results in a file: {why}; give `key_added` a plain name, such as 'cellmodel'"
    )


def claim_slots(adata: "AnnData", slots: Sequence[tuple[str, str]], *, overwrite: bool) -> None:
    """Check that slots are free and the tables can be written, before any work; see :func:`check_slots`."""
    check_tables(adata)
    taken = [(part, key) for part, key in slots if key in getattr(adata, part)]
    check_slots(slots, taken, indexes={"obs": adata.obs.index.name, "var": adata.var.index.name}, overwrite=overwrite)


def check_slots(
    slots: Iterable[tuple[str, str]],
    taken: Iterable[tuple[str, str]],
    *,
    indexes: Mapping[str, str | None],
    overwrite: bool,
) -> None:
    """Check that a file can hold slots (part and key), and that they replace none that are ``taken``.

    ``indexes``: name of the index of ``obs`` and ``var``. Raises ``KeyUnusable``, or ``SlotTaken`` without
    ``overwrite``.
    """
    for part, key in slots:
        check_key(key, slot=f'{part}["{key}"]')
        if key == indexes.get(part):
            raise KeyUnusable(
                f"the index of {part} is named {key!r}, so a file cannot hold a column of that name; give another "
                f"`key_added`, or rename the index: adata.{part}.index.name = None"
            )
    names = [f'{part}["{key}"]' for part, key in taken]
    if names and not overwrite:
        raise SlotTaken(
            f"the cells already hold {', '.join(names)}; use overwrite=True, or another name with `key_added`"
        )


def check_tables(adata: "AnnData") -> None:
    """Check that the tables of cells and genes can be written, before any work is done."""
    names = ("obs", "var", "raw.var")
    for name, table in zip(names, _tables(adata), strict=False):
        if "_index" in table:
            raise InputUnusable(
                f"{name} has a column '_index', a name that .h5ad and .zarr keep for themselves; rename it before: "
                f"adata.{name}.rename(columns={{'_index': 'name'}}, inplace=True)"
            )
        index = table.index.name
        if index in table and not (table[index].astype(str) == table.index.astype(str)).all():
            raise InputUnusable(
                f"the index of {name} and a column of it are both named {index!r}, so a file could not "
                f"distinguish them; rename one before: adata.{name}.index.name = None"
            )


@contextmanager
def _text_columns_kept(adata: "AnnData") -> Iterator[None]:
    """Write text columns as categories, as every h5ad has them, and give the user's tables theirs back."""
    before = [table.copy() for table in _tables(adata)]
    adata.strings_to_categoricals()
    if adata.raw is not None:
        adata.strings_to_categoricals(adata.raw.var)
    try:
        yield
    finally:
        for table, old in zip(_tables(adata), before, strict=True):
            for position in np.flatnonzero(table.dtypes.to_numpy() != old.dtypes.to_numpy()).tolist():
                table.isetitem(position, old.iloc[:, position].array)


def _tables(adata: "AnnData") -> "list[pd.DataFrame]":
    return [adata.obs, adata.var, *([] if adata.raw is None else [adata.raw.var])]


@contextmanager
def _open_h5ad(path: Path, mode: Literal["w", "r+"]) -> Iterator[Any]:
    """Open for writing, such that a disk that refuses gives an error."""
    import anndata
    import h5py

    # columns such as "CD4/CD8" of the user's tables are kept
    with (
        _Sink(path, "w+" if mode == "w" else "r+") as sink,
        warnings.catch_warnings(),
        anndata.settings.override(disallow_forward_slash_in_h5ad=False),
    ):
        warnings.filterwarnings("ignore", message="Forward slashes will be", category=FutureWarning)
        try:
            with h5py.File(sink, mode) as file:
                yield file
        finally:
            if sink.refusal is not None:
                raise sink.refusal


class _Sink(FileIO):
    """A file that keeps the first refusal of the disk to itself, to be raised once HDF5 has closed.

    HDF5 cannot close a file whose last writes fail, and ends the process with a segmentation fault at its exit.
    """

    refusal: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of it, or pretend to."""
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left and self.refusal is None:
                left = left[super().write(left) :]
        except OSError as error:
            self.refusal = error
        return size

    def readinto(self, buffer: Any) -> int:
        """Read, and zeros beyond the end, as HDF5's own files give: what it reads back need not be written yet."""
        into = memoryview(buffer).cast("B")
        n_read = super().readinto(into) or 0
        into[n_read:] = bytes(len(into) - n_read)
        return len(into)

    def truncate(self, size: int | None = None) -> int:
        """Set the size, or pretend to."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.refusal = self.refusal or error
            return size or 0

    def flush(self) -> None:
        """Do nothing: no byte waits here."""


def _compression(source: Path | None) -> str | None:
    """Filter of the first compressed array of an HDF5 file; gzip for zarr, whose chunks are compressed."""
    import h5py

    if source is None or not h5py.is_hdf5(source):
        return "gzip" if source is not None and source.suffix == ".zarr" else None
    with h5py.File(source) as file:
        found: str | None = file.visititems(lambda _, item: getattr(item, "compression", None))
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderKind:
    """What a folder holds, and how messages name it."""

    name: str  # such as ``model``
    description: str  # name of the JSON file, by which the folder is known
    made_by: str  # what writes such folders
    remedy: str  # what to do where one is damaged
    format: int = 1

    def target(self, folder: Path) -> Target:
        """Give the target of such a folder, which only ever replaces one of its kind."""
        return Target(folder, kind="whole", marks=(self.description,), makes_parents=True)


MODEL: Final = FolderKind(name="model", description="model.json", made_by="`save_model`", remedy="fit the model again")


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteConfig:
    """Where results go.

    Raises ``KeyUnusable`` if slots of that name cannot be stored in a file; it is a ValueError too.
    """

    output: Path  # annotated cells, ``.h5ad`` or ``.zarr``
    key_added: str = "cellmodel"  # name of the slots
    overwrite: bool = False  # files and slots
    in_place: bool = False  # whether ``output`` is the input, which is replaced whatever ``overwrite`` says
    command: str = ""  # kept beside the settings

    def __post_init__(self) -> None:
        check_key(self.key_added)

    @property
    def replaces(self) -> bool:
        """Whether the file of the cells may be replaced."""
        return self.overwrite or self.in_place


def check_outputs(write: WriteConfig, *others: Target | None, inputs: Sequence[Path]) -> None:
    """Check that outputs, and the ``others`` of a job, can be written, before any work is done."""
    cells = None if write.in_place else cells_target(write.output)
    check_targets((cells, *others), inputs=inputs, overwrite=write.overwrite)
