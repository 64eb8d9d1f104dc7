"""The cell types to choose from: of some tissues, of a user's list, of marker genes by type."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cellmodel.annotate.cell_types import IN_EVERY_TISSUE, CellType, cell_type_of_row, read_cell_types, usual_types
from cellmodel.annotate.levels import read_cell_groups
from cellmodel.core.errors import InputUnusable
from cellmodel.explain.marker_tables import read_marker_lists
from genekb.core.messages import known_names
from genekb.core.words import split_words
from genekb.files.limits import parse_json
from genekb.files.tables import read_list, read_table, reading, table_format


def of_tissues(
    types: Sequence[CellType], tissues: Sequence[str], *, in_every: Sequence[str] = IN_EVERY_TISSUE
) -> tuple[CellType, ...]:
    """Keep the types of some groups of tissues, and of those ``in_every`` tissue: blood, stroma, vessels, nerves."""
    if not tissues:
        raise InputUnusable("no tissue is named; give one or more groups of the table with commas between: blood,gut")
    known = sorted({group for one in types for group in one.tissue.split(",")})
    for tissue in tissues:
        if tissue not in known:
            raise InputUnusable(f"no cell type of tissue {tissue!r}; the table has {known_names(tissue, known)}")
    return tuple(one for one in types if {*tissues, *in_every} & set(one.tissue.split(",")))


def read_candidates(path: Path) -> tuple[CellType, ...]:
    """Read a user's list of types: .tsv or .csv with the column ``cell_type``, else one name a line.

    A name of the table without ``definition`` and ``genes`` takes those of the table.
    """
    what = "a list of cell types"
    if table_format(path) in {".tsv", ".csv"}:
        table = read_table(path, what, error=InputUnusable)
        if "cell_type" not in table.columns:
            raise InputUnusable(f"{path} has the columns {table}, not cell_type; name the column of types cell_type")
        found = [cell_type_of_row(row) for row in table.rows if row["cell_type"]]
    else:
        found = [CellType(name=line) for line in read_list(path, what, error=InputUnusable)]
    if not found:
        raise InputUnusable(f"{path} names no cell type; give one a line")
    twice = {one.name for one in found if sum(one.name == other.name for other in found) > 1}
    if twice:
        raise InputUnusable(f"{path} names {', '.join(sorted(twice))} twice; leave one out")
    return _completed(found)


def choose_types(
    candidates: "str | Path | Sequence[str | CellType] | None" = None,
    *,
    tissue: str | Sequence[str] | None = None,
    only_tissue: str | Sequence[str] | None = None,
    markers: "str | Path | Mapping[str, Sequence[str]] | None" = None,
) -> tuple[CellType, ...]:
    """Give the types to choose names from; those of the package's table if nothing is given.

    ``candidates``: a file, see :func:`read_candidates`, or names and types. ``tissue``, ``only_tissue``: groups of the
    table, with commas between them, with those ``in_every`` tissue or without. ``markers``: genes by type, or a file of
    them. Raises ``ValueError`` if several are given.
    """
    if sum(choice is not None for choice in (candidates, tissue, only_tissue, markers)) > 1:
        raise ValueError(
            "`candidates`, `tissue`, `only_tissue` and `markers` each name the types to choose from; give one"
        )
    if candidates is not None:
        if isinstance(candidates, str | Path):
            return read_candidates(Path(candidates))
        return _completed([CellType(name=each) if isinstance(each, str) else each for each in candidates])
    if markers is not None:
        return tuple(CellType(name=name, genes=tuple(genes)) for name, genes in panel_of(markers).items())
    wanted = tissue if only_tissue is None else only_tissue
    if wanted is None:
        return usual_types()
    tissues = [name.strip() for name in (wanted.split(",") if isinstance(wanted, str) else wanted)]
    in_every = IN_EVERY_TISSUE if only_tissue is None else ()
    chosen = of_tissues(read_cell_types(), list(filter(None, tissues)), in_every=in_every)
    return tuple(replace(one, tissue="") for one in chosen)  # their place is known: the clusters need not speak for it


Panel = dict[str, tuple[str, ...]]


def panel_of(markers: "str | Path | Mapping[str, Sequence[str]]") -> Panel:
    """Give marker genes by type, of a file or as they are."""
    if isinstance(markers, str | Path):
        return read_panel(Path(markers))
    return {name: tuple(genes) for name, genes in markers.items()}


def _completed(types: Sequence[CellType]) -> tuple[CellType, ...]:
    """Give names that the table has, in any case, number or hyphenation, their group; bare ones all that it says."""
    known = {tuple(split_words(one.name)): one for one in (*read_cell_types(), *read_cell_groups())}
    completed = []
    for one in types:
        same = known.get(tuple(split_words(one.name)), one)
        if one.definition or one.genes:
            completed.append(replace(one, parent=one.parent or same.parent, level=one.level or same.level))
        else:
            completed.append(replace(same, name=one.name))
    return tuple(completed)


def read_panel(path: Path) -> Panel:
    """Read marker genes by type: JSON of type → genes, or as lists of marker genes are read, by ``cell_type``."""
    if path.suffix != ".json":
        return dict(read_marker_lists(path).genes)
    with reading(path, "marker genes", InputUnusable):
        content = parse_json(path.read_bytes())
        if not isinstance(content, dict) or not all(isinstance(genes, list) for genes in content.values()):
            raise ValueError("it is no object of type → list of genes")
        odd = next((name for name, genes in content.items() if not all(isinstance(gene, str) for gene in genes)), None)
        if odd is not None:
            raise ValueError(f"a gene of {odd[:40]!r} is no text")
        if not any(content.values()):
            raise ValueError("it names no gene; give type → list of genes")
    return {name: tuple(genes) for name, genes in content.items()}
