"""Cells of several files as one set: names of the samples, one table of obs, and one matrix of the shared genes."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Int

from cellmodel.core.arrays import CellByGene
from cellmodel.core.errors import InputUnusable, NotCounts, SlotTaken
from cellmodel.io.backed import AnyCells, take_columns
from cellmodel.io.cells import obs_categories
from cellmodel.io.guard import quiet_names
from cellmodel.io.matrix import ValueKind
from genekb.core.messages import counted, known_names, listed
from genekb.files.replace import real_path
from genekb.files.tables import read_table

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

AUTO: Final = "auto"  # the samples are the files
SAMPLE: Final = "sample"  # the column of obs that then names them
_MISSING: Final[dict[str, Any]] = {"b": "boolean", "i": "Int64"}  # types that have a missing value


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleSheet:
    """Files of cells, one a sample, and what is known of each sample."""

    paths: tuple[Path, ...]
    columns: Mapping[str, tuple[str, ...]]  # of obs: ``sample`` and others, a value a file; empty where there is none


def read_sheet(path: Path) -> SampleSheet:
    """Read a table with the columns ``file``, ``sample``, and others such as donor, condition or batch.

    A relative path counts from the folder of the sheet. Raises ``InputUnusable``, which names all that is wrong.
    """
    table = read_table(path, "a sheet of samples", error=InputUnusable)
    lacking = [name for name in ("file", SAMPLE) if name not in table.columns]
    if lacking:
        raise InputUnusable(f"{path} has the columns {table}, and no {' or '.join(lacking)}; name them so")
    if not table.rows:
        raise InputUnusable(f"{path} names no file; give one a line")
    paths = tuple(path.parent / row["file"] for row in table.rows)
    faults = [f"line {line}: no {name}" for line, row in zip(table.lines, table.rows, strict=True)
              for name in ("file", SAMPLE) if not row[name]]  # fmt: skip
    faults += [f"no file {one}" for one, row in zip(paths, table.rows, strict=True) if row["file"] and not one.exists()]
    for name, values in (
        ("file", [str(real_path(one)) for one in paths]),
        (SAMPLE, [row[SAMPLE] for row in table.rows]),
    ):
        faults += [f"{name} {value!r} is there {n} times" for value, n in Counter(values).items() if n > 1 and value]
    if faults:
        raise InputUnusable(f"{path} cannot be used: {'; '.join(faults)}")
    others = [name for name in table.columns if name and name != "file"]
    return SampleSheet(paths=paths, columns={name: tuple(row[name] for row in table.rows) for name in others})


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinConfig:
    """How several files become one set of cells."""

    sample_key: str = AUTO  # column of obs that all files have; ``auto``: a column ``sample`` with the files' names
    sheet: SampleSheet | None = None  # which gives the samples and more columns
    overwrite: bool = False  # whether columns of the files that are given again may be replaced

    def samples(self, paths: Sequence[Path]) -> tuple[str, ...] | None:
        """Name the sample of each file; None where a column of the files has them."""
        if self.sheet is not None:
            return self.sheet.columns[SAMPLE]
        return name_samples(paths) if self.sample_key == AUTO else None


def check_files(paths: Sequence[Path], join: JoinConfig) -> None:
    """Refuse a file that is given twice, and files that would be samples of one name."""
    seen: set[Path] = set()
    for path in paths:
        if real_path(path) in seen:
            raise InputUnusable(f"{path} is given twice, so that its cells would be counted twice; name it once")
        seen.add(real_path(path))
    join.samples(paths)


def name_samples(paths: Sequence[Path]) -> tuple[str, ...]:
    """Name samples by their files, without the suffix; files of equal names by the folders above them that differ.

    Where no one folder differs between all of them, several are joined: ``control_d1``.
    """
    parts = [path.absolute().parts for path in paths]
    levels = [[_stem(each[-1]) for each in parts]]
    levels += [[each[-depth] for each in parts] for depth in range(2, min(map(len, parts)))]
    together = map("_".join, zip(*(names for names in levels[::-1] if len(set(names)) > 1), strict=True))
    for names in [*levels, list(together)]:
        if len(names) == len(paths) == len(set(names)):
            return tuple(names)
    name, n_files = Counter(levels[0]).most_common(1)[0]
    raise InputUnusable(
        f'{n_files} files are named {name!r}, and so would be their samples; rename one, or give sample_key="COLUMN" '
        "with the sample of each cell"
    )


def _stem(name: str) -> str:
    return Path(name.removesuffix(".gz")).stem or name


def sources_of(paths: Sequence[Path], join: JoinConfig) -> str:
    """Name several files as one source."""
    return f"{len(paths)} files ({listed(file_names(paths, join), most=3)})"


def file_names(paths: Sequence[Path], join: JoinConfig) -> list[str]:
    """Name files for people: those of one name as samples are, see :func:`name_samples`."""
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        with suppress(InputUnusable):  # as files with endings of their own may be
            names = list(join.samples(paths) or name_samples(paths))
    return [name.encode(errors="backslashreplace").decode() for name in names]


def join_tables(parts: "Sequence[AnnData]", *, paths: Sequence[Path], join: JoinConfig, notes: list[str]) -> "AnnData":
    """Put the tables of cells of several files below one another, and what all of them have in obsm; without genes.

    All columns of obs are kept: a value that a file lacks is missing, and a column that is text in one file and numbers
    in another becomes text. Names of cells are unique. Raises ``InputUnusable`` if a file lacks the column with the
    samples; ``SlotTaken`` if it has a column ``sample`` that would be replaced.
    """
    import anndata

    obs = _join_obs([part.obs for part in parts], paths=paths, join=join, notes=notes)
    obsm = {}
    for key in dict.fromkeys(key for part in parts for key in part.obsm):
        found = [part.obsm[key] for part in parts if isinstance(part.obsm.get(key), np.ndarray)]
        if len(found) == len(parts) and len({array.shape[1:] for array in found}) == 1:
            obsm[key] = np.concatenate(found)
        else:
            notes.append(f"obsm {key!r} is left out: not all files have it as an array of one width")
    joined = anndata.AnnData(obs=obs, obsm=obsm)
    if join.sample_key != AUTO:
        obs_categories(joined, join.sample_key, source=sources_of(paths, join), what="sample")
    return joined


def _join_obs(
    tables: "Sequence[pd.DataFrame]", *, paths: Sequence[Path], join: JoinConfig, notes: list[str]
) -> "pd.DataFrame":
    import pandas as pd

    samples = join.samples(paths)
    given = {} if samples is None else {SAMPLE: samples} if join.sheet is None else join.sheet.columns
    _check_sample_column(tables, paths, join, given=given)
    sizes = [len(table) for table in tables]
    columns: dict[str, Any] = {}
    for name, values in given.items():
        categories = list(dict.fromkeys(value for value in values if value))
        columns[name] = pd.Categorical(np.repeat(np.array(values, dtype=object), sizes), categories=categories)
    clashing = []
    for name in dict.fromkeys(str(name) for table in tables for name in table if str(name) not in columns):
        columns[name], clashes = _join_column([table.get(name) for table in tables], sizes)
        clashing += [name] if clashes else []
    if clashing:
        notes.append(f"columns of obs that are text in one file and numbers in another became text: {listed(clashing)}")
    return pd.DataFrame(columns, index=pd.Index(_cell_names(tables, samples, notes), dtype=object))


def _check_sample_column(
    tables: "Sequence[pd.DataFrame]", paths: Sequence[Path], join: JoinConfig, *, given: Collection[str]
) -> None:
    for table, path in zip(tables, paths, strict=True):
        if join.sample_key not in {AUTO, *given} and join.sample_key not in table:
            raise InputUnusable(
                f"{path} has no column {join.sample_key!r} in obs (it has: {known_names(join.sample_key, table)}); "
                'name one that all files have, or give sample_key="auto", by which each file is a sample'
            )
        for name in given if not join.overwrite else ():
            if name in table:
                way_out = "leave it out of the sheet" if join.sheet else f'use it by sample_key="{SAMPLE}"'
                raise SlotTaken(
                    f"{path} already has a column {name!r} in obs; {way_out}, or replace it by overwrite=True"
                )


def _join_column(found: "Sequence[pd.Series | None]", sizes: Sequence[int]) -> tuple[Any, bool]:
    """Put a column of several files together, and say whether its types clash."""
    import pandas as pd

    there = [column for column in found if column is not None]
    if all(column is not None and column.dtype == there[0].dtype for column in found):
        return pd.concat(there, ignore_index=True).array, False
    values = np.full(sum(sizes), None, dtype=object)
    end = 0
    for column, size in zip(found, sizes, strict=True):
        if column is not None:
            values[end : end + size] = column.astype(object).where(column.notna(), None)
        end += size
    kinds = {_kind(column) for column in there if column.notna().any()}
    if kinds <= {"i", "f"} and "f" in kinds:
        return values.astype(np.float64), False
    if kinds in ({"b"}, {"i"}):
        return pd.Series(values, dtype=_MISSING[kinds.pop()]).array, False
    texts = [None if value is None else str(value) for value in values]
    return pd.Categorical(texts), len(kinds) > 1


def _kind(column: "pd.Series") -> str:
    """Kind of the values of a column, ``b``, ``i``, ``f`` or ``O`` for anything else; of a categorical, its names'."""
    import pandas as pd

    dtype = column.cat.categories.dtype if isinstance(column.dtype, pd.CategoricalDtype) else column.dtype
    kind = getattr(dtype, "kind", "O")
    return "i" if kind == "u" else kind if kind in "bif" else "O"


def _cell_names(tables: "Sequence[pd.DataFrame]", samples: Sequence[str] | None, notes: list[str]) -> list[str]:
    """Names of the cells; with the sample behind each where two files have one in common."""
    names = [[str(name) for name in table.index] for table in tables]
    n_repeated = sum(map(len, map(set, names))) - len(set().union(*names))
    if n_repeated:
        ends = samples or [str(number) for number in range(1, len(tables) + 1)]
        names = [[f"{name}-{end}" for name in each] for each, end in zip(names, ends, strict=True)]
        notes.append(
            f"{counted(n_repeated, 'cell name is', plural='cell names are')} in more than one file; "
            f"{'the sample' if samples else 'the number of its file'} is added to each, as in {names[0][0]}"
        )
    return [name for each in names for name in each]


def check_kinds(parts: Sequence[AnyCells]) -> ValueKind:
    """Give the kind of values that all files have; refuse files of which some hold counts and others none."""
    kinds: dict[ValueKind, list[str]] = {}
    for cells in parts:
        kinds.setdefault(cells.kind, []).append(cells.source)
    if len(kinds) > 1:
        each = "; ".join(f"{listed(sources, most=3)}: {kind}" for kind, sources in kinds.items())
        raise NotCounts(
            f"the files hold values of different kinds ({each}), which cannot be compared; give the counts of all "
            "(a layer: layer: `layer`, .raw: use_raw=True), or log-normalize those with counts and save them"
        )
    return next(iter(kinds))


def join_matrices(matrices: Sequence[CellByGene], columns: Sequence[Int[np.ndarray, " gene"]]) -> CellByGene:
    """Put matrices of the same genes, in other columns, below one another."""
    joined = sp.vstack([take_columns(*each) for each in zip(matrices, columns, strict=True)], format="csr")
    joined.has_canonical_format = True
    return joined


def with_genes(cells: "AnnData", names: Sequence[str], matrix: CellByGene | None = None) -> "AnnData":
    """Give cells genes, and the matrix that is used where it is in memory."""
    import anndata
    import pandas as pd

    with quiet_names():
        var = pd.DataFrame(index=pd.Index(list(names), dtype=object))
        return anndata.AnnData(matrix, obs=cells.obs, var=var, obsm=dict(cells.obsm))
