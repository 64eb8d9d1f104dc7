"""One protocol for every data set: the same settings, the same seeds, labels read for scoring alone."""

import argparse
import hashlib
import json
import os
import re
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

    from cellmodel.io.cells import Cells

SEEDS = (0, 1, 2, 3, 4)
LISTINGS = ("datasets.toml", "open_sets.toml", "opened_sets.toml")  # chosen on, opened later, opened last
STUDIES = {"baron": "pancreas", "panc8": "pancreas", "segerstolpe": "pancreas", "mixology": "mixology", "kang": "kang"}
TAXA = ("human", "mouse")
WHOLE, DRAWN = 8_000, 4_000  # of sets of more cells so many are drawn
LINEAR = {"panc8_500"}  # sets whose values are in part per million or fractional, so declared
HERE = Path(__file__).parent
_STARTED = time.perf_counter()


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """A labeled data set of ``datasets.toml``."""

    name: str
    path: Path
    taxon: str
    label_key: str
    labels: str
    study: bool
    values: str = "auto"  # kind of values that is declared


def data_folder() -> Path:
    """Folder of the real data, ``GENEKB_TEST_DATA``."""
    folder = Path(os.environ.get("GENEKB_TEST_DATA", ""))
    if not (folder / "scrna").is_dir():
        raise SystemExit("set GENEKB_TEST_DATA to the folder of the real data")
    return folder


def load_datasets(*listings: str) -> list[DataSet]:
    """Read lists of data sets, ``datasets.toml`` unless told, and check that each file is the one that was listed."""
    found = []
    listed_sets = [tomllib.loads((HERE / listing).read_text()) for listing in listings or ("datasets.toml",)]
    for name, entry in (pair for each in listed_sets for pair in each.items()):
        path = data_folder() / entry["file"]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != entry["sha256"]:
            raise SystemExit(f"{path} has sha256 {digest[:12]}, {entry['sha256'][:12]} is listed")
        listed = {key: entry[key] for key in ("taxon", "label_key", "labels", "study")}
        found.append(DataSet(name=name, path=path, values=entry.get("values", "auto"), **listed))
    return found


def read(data: DataSet) -> "tuple[Cells, np.ndarray]":
    """Read cells and labels; fractions of counts are rounded."""
    import numpy as np

    from cellmodel.io.cells import ReadConfig, cells_from_anndata
    from cellmodel.io.formats.anndata import read_anndata

    adata = read_anndata(data.path)
    if adata.n_obs > WHOLE:
        adata = adata[np.sort(np.random.default_rng(0).choice(adata.n_obs, DRAWN, replace=False))].copy()
    if data.values == "linear":
        adata.X.data = np.round(adata.X.data)
    cells = cells_from_anndata(adata, ReadConfig(values=data.values), source=data.name)
    return cells, adata.obs[data.label_key].astype(str).to_numpy()


def build_stores(home: Path) -> tuple[Path, ...]:
    """Build a store of each species with an encoder that needs no weights."""
    from genekb import BuildConfig, build, read_ncbi_folder

    folders = []
    for taxon in TAXA:
        source = read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=[taxon])
        config = BuildConfig(name=taxon, models=("wcp",), genes="protein-coding")
        folders.append(build(source, config, home=home).folder)
    return tuple(folders)


def study_of(name: str) -> str:
    """Name the study of a data set: several hold cells of one."""
    return next((study for start, study in STUDIES.items() if name.startswith(start)), name)


def values_of(name: str) -> Literal["linear", "auto"]:
    """Kind of values that is declared for a set, or for a part of it."""
    return "linear" if any(one in name for one in LINEAR) else "auto"


def compared(ours: Mapping[str, float], other: Mapping[str, float]) -> tuple[float, int, float]:
    """Difference of the means, keys at which ours is higher, and Wilcoxon's p over keys."""
    import numpy as np
    from scipy.stats import wilcoxon

    difference = np.array([ours[name] - other[name] for name in ours])
    return float(difference.mean()), int((difference > 0).sum()), float(wilcoxon(difference).pvalue)


def markdown(columns: Sequence[str], rows: Iterable[Iterable[Any]], *, digits: int = 3) -> list[str]:
    """Lay out a table; a missing number is empty."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        cells = ("" if value is None or value != value else value for value in row)  # noqa: PLR0124 - NaN
        shown = (f"{value:,.{digits}f}" if isinstance(value, float) else str(value) for value in cells)
        lines.append("| " + " | ".join(shown) + " |")
    return lines


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = (), *, digits: int = 3) -> list[str]:
    """Lay out rows by their keys, those of the first unless columns are given."""
    names = columns or tuple(rows[0])
    return markdown(names, (map(row.get, names) for row in rows), digits=digits)


def sections(parts: Mapping[str, Sequence[str]]) -> list[str]:
    """Put the lines of each part below its title."""
    return [line for title, lines in parts.items() for line in (f"## {title}", "", *lines, "")]


def write_results(folder: Path, name: str, found: Any, page: str) -> None:
    """Write figures as ``name.json`` and a page as ``name.md``, and print the page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / f"{name}.md").write_text(page)
    sys.stdout.write(page)


class KeptRows(dict[str, Any]):
    """Rows that are kept in a file as they are made, so that a run that was cut goes on."""

    def __init__(self, path: Path) -> None:
        super().__init__(json.loads(path.read_text()) if path.is_file() else {})
        self.path = path

    def add(self, key: str, make: Callable[[], Any]) -> None:
        """Make a row, unless that was done."""
        if key in self:
            return
        self[key] = make()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self, indent=1) + "\n")
        sys.stderr.write(f"{key}\n")


def bar_line(what: str, value: float, bar: float, *, at_most: bool = False) -> str:
    """Say whether a value reaches its bar, or stays below it."""
    is_met = value <= bar if at_most else value >= bar
    return f"- {'ok' if is_met else 'MISSED'}: {what} {value:.3f}, at {'most' if at_most else 'least'} {bar:g}"


def peak_mb() -> float:
    """Peak memory of this process alone; the ru_maxrss of a child starts at that of its parent."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def command_line(about: str, *, with_home: bool = True) -> argparse.ArgumentParser:
    """Arguments of every benchmark: where results go and, of those that read stores, where the stores are."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results"))
    if with_home:
        parser.add_argument("--home", type=Path, help="Artifact home with the stores.")
    return parser


def finish(folder: Path, name: str, found: Any, *, lines: Sequence[str], bars: Sequence[str] = ()) -> int:
    """Write figures, the page with its bars, and how long it took; exit code 1 where a bar is missed."""
    of_bars = ["## Bars", "", *bars, ""] if bars else []
    seconds = time.perf_counter() - _STARTED
    write_results(folder, name, found, "\n".join([*lines, "", *of_bars, f"{seconds:.0f} s"]) + "\n")
    return int(any("MISSED" in line for line in bars))
