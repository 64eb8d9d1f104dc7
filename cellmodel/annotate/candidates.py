"""The table of cell types, and a user's list in its place: names, definitions in plain words, marker genes."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Final

from cellmodel.core.errors import InputUnusable
from genekb.core.words import split_words

IN_EVERY_TISSUE: Final = ("blood", "lymphoid", "marrow", "connective", "vessel", "nerve")  # groups found in all organs


@dataclass(frozen=True, kw_only=True, slots=True)
class CellType:
    """A name that a cluster can be given, and what is known of it."""

    name: str  # as it is shown
    ontology_label: str = ""  # of the Cell Ontology, the same or nearest; empty if none is known
    ontology_id: str = ""  # ``CL:`` and seven digits; empty without a label
    tissue: str = ""  # groups of tissues, with commas between; empty in a user's list
    definition: str = ""  # what the cell does, carries and secretes; empty if a user gives none
    genes: tuple[str, ...] = ()  # symbols of marker genes of human; of mouse where human has no such gene

    @property
    def text(self) -> str:
        """What an encoder reads."""
        return f"{self.name}: {self.definition}" if self.definition else self.name


def read_cell_types() -> tuple[CellType, ...]:
    """Read the table that comes with the package."""
    text = files("cellmodel.annotate").joinpath("data/cell_types.tsv").read_text(encoding="utf-8")
    return tuple(_of_row(row) for row in csv.DictReader(StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))


def of_tissues(
    types: Sequence[CellType], tissues: Sequence[str], *, in_every: Sequence[str] = IN_EVERY_TISSUE
) -> tuple[CellType, ...]:
    """Keep the types of some groups of tissues, and of the groups ``in_every`` tissue: blood, stroma, vessels, nerves.

    Raises ``InputUnusable`` if a group is not in the table, or none is given.
    """
    if not tissues:
        raise InputUnusable("no tissue is named; give one or more groups of the table with commas between: blood,gut")
    known = sorted({group for one in types for group in one.tissue.split(",")})
    for tissue in tissues:
        if tissue not in known:
            raise InputUnusable(f"no cell type of tissue {tissue!r}; the table has {', '.join(known)}")
    return tuple(one for one in types if {*tissues, *in_every} & set(one.tissue.split(",")))


def read_candidates(path: Path) -> tuple[CellType, ...]:
    """Read a user's list of types: .tsv or .csv with the column ``cell_type``, else one name a line.

    The columns ``definition`` and ``genes`` (symbols with blanks or commas between) are optional; a name of the table
    without either takes those of the table. Raises ``InputUnusable`` if it cannot be read, or a type is named twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        is_table = path.suffix in {".tsv", ".csv"}
        found = _from_table(text, path) if is_table else [CellType(name=line) for line in _lines(text)]
    except UnicodeDecodeError as error:
        raise InputUnusable(f"{path} is no text in UTF-8 (byte {error.start}); save it as UTF-8") from error
    except (OSError, csv.Error) as error:
        raise InputUnusable(f"{path} cannot be read as a list of cell types: {error}") from error
    if not found:
        raise InputUnusable(f"{path} names no cell type; give one a line")
    twice = {one.name for one in found if sum(one.name == other.name for other in found) > 1}
    if twice:
        raise InputUnusable(f"{path} names {', '.join(sorted(twice))} twice; leave one out")
    return _completed(found)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def _from_table(text: str, path: Path) -> list[CellType]:
    reader = csv.DictReader(StringIO(text), delimiter="," if path.suffix == ".csv" else "\t")
    if "cell_type" not in (reader.fieldnames or ()):
        have = ", ".join(reader.fieldnames or ()) or "none"
        raise InputUnusable(f"{path} has the columns {have}, not cell_type; name the column of types cell_type")
    return [_of_row(row) for row in reader if (row["cell_type"] or "").strip()]


def _of_row(row: dict[str, str]) -> CellType:
    """One row of a table; columns other than the name may be missing or empty."""
    given = {key: (row.get(key) or "").strip() for key in ("ontology_label", "ontology_id", "tissue", "definition")}
    genes = (row.get("genes") or "").replace(",", " ").split()
    return CellType(name=row["cell_type"].strip(), genes=tuple(dict.fromkeys(genes)), **given)


def _completed(types: Sequence[CellType]) -> tuple[CellType, ...]:
    """Give bare names that the table has, in any case, number or hyphenation, what the table says of them."""
    known = {tuple(split_words(one.name)): one for one in read_cell_types()}
    return tuple(
        one if one.definition or one.genes else replace(known.get(tuple(split_words(one.name)), one), name=one.name)
        for one in types
    )


Panel = dict[str, tuple[str, ...]]


def read_panel(path: Path) -> Panel:
    """Read marker genes by type: JSON of type → genes, or .tsv or .csv with the columns ``cell_type`` and ``gene``."""
    try:
        panel = _panel_of_json(path) if path.suffix == ".json" else _panel_of_table(path)
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise InputUnusable(f"{path} cannot be read as marker genes: {str(error)[:200]}") from error
    if not any(panel.values()):
        raise InputUnusable(f"{path} names no gene; give a gene a line under the columns cell_type and gene")
    return panel


def _panel_of_json(path: Path) -> Panel:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not all(isinstance(genes, list) for genes in content.values()):
        raise ValueError("it is no object of type → list of genes")
    odd = next((name for name, genes in content.items() if not all(isinstance(gene, str) for gene in genes)), None)
    if odd is not None:
        raise ValueError(f"a gene of {odd[:40]!r} is no text")
    return {name: tuple(genes) for name, genes in content.items()}


def _panel_of_table(path: Path) -> Panel:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream, delimiter="," if path.suffix == ".csv" else "\t")
        if not {"cell_type", "gene"} <= set(rows.fieldnames or ()):
            raise ValueError(f"its columns are {', '.join(rows.fieldnames or ()) or 'none'}, not cell_type and gene")
        panel: dict[str, list[str]] = {}
        for row in rows:
            if not row["cell_type"] or not row["gene"]:
                raise ValueError(f"line {rows.line_num} has no {'gene' if row['cell_type'] else 'cell_type'}")
            panel.setdefault(row["cell_type"], []).append(row["gene"])
    return {name: tuple(genes) for name, genes in panel.items()}
