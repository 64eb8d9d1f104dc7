"""Resolve gene names of mixed kinds to GeneIDs.

The order is fixed: GeneID, Ensembl or database identifier, current official symbol, the nomenclature authority's
symbol where NCBI has another, retired GeneID or symbol, alias (if one gene alone has it), and, on request, the symbol
of an orthologue. A current symbol is never an alias of another gene, there is one hop only, case matters, and a name
of several genes is ambiguous. Only unknown names are repaired, as their status says: dates of spreadsheets, names that
R made valid, numbered copies; and, on request, antibodies, whose antigens are genes or complexes of several.
"""

import datetime
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from genekb.core.errors import SchemaMismatch
from genekb.core.messages import counted, listed
from genekb.genes.antibodies import is_listed, propose_antigens
from genekb.schema import IntArray, StrArray, integers, strings

_LATER_KINDS: Final = (
    *("symbol", "authority_symbol", "retired_id", "retired_symbol", "locus_tag", "alias", "ortholog"),
    *("mitochondrial", "date", "mangled", "protein", "complex"),
)
RANKS: Final = (
    {"gene_id": 0}
    | dict.fromkeys(("ensembl", "hgnc", "mgi", "flybase", "rgd", "zfin"), 1)
    | {kind: rank for rank, kind in enumerate(_LATER_KINDS, start=2)}
)
# A version, the release of a lift-over and the mark of a gene on both sex chromosomes, as Ensembl and GENCODE add them
_ENSEMBL_VERSION: Final = re.compile(r"^(ENS[A-Z]*G\d{11})(?:\.\d+)?(?:_\d+)?(?:_PAR_Y)?$")
_ENSEMBL_PAR_Y: Final = re.compile(r"^ENSGR(\d{10})(?:\.\d+)?$")  # the same mark in GENCODE before release 25
_PLACEHOLDER: Final = "LOC"  # NCBI's symbol of a gene that has no other yet is LOC and its GeneID
_GENE_ID: Final = re.compile(rf"^(?:{_PLACEHOLDER})?(?P<number>[1-9]\d{{0,11}})$")
_Match: TypeAlias = tuple[str, tuple[int, ...]]  # kind of name, and the genes that it could be
_UNKNOWN: Final[_Match] = ("unknown", ())
_NONE: Final[tuple[int, str, list[int]]] = (len(RANKS), "", [])  # behind every rank
# Names that a spreadsheet takes for a date, as they were written and as they are since 2020; OCT<n> are aliases alone.
DATE_STEMS: Final[Mapping[int, tuple[str, ...]]] = {
    3: ("MARCH", "MARC", "MARCHF", "MTARC"),
    9: ("SEPT", "SEPTIN", "SEP"),
    10: ("OCT",),
    12: ("DEC", "DELEC"),
}
_MONTHS: Final = {"mar": 3, "march": 3, "sep": 9, "sept": 9, "oct": 10, "dec": 12}
_MONTH: Final = "(?P<month>march|mar|sept|sep|oct|dec)"
_DAY_AND_MONTH: Final = re.compile(rf"^(?:X?(?P<first>\d{{1,2}})[-. /])?{_MONTH}(?:[-. /](?P<last>\d{{1,2}}))?$", re.I)
_FULL_DATE: Final = re.compile(r"^X?(\d{4})[-./](\d{2})[-./](\d{2})(?:[ T.]00[:.]00[:.]00)?$")
_SERIAL_ORIGIN: Final = datetime.date(1899, 12, 30)  # day 0 of a spreadsheet's calendar
_SERIAL: Final = re.compile(r"^[34]\d{4}$")
_SERIAL_YEARS: Final = range(2000, 2031)
_DAYS: Final = range(1, 32)
_MITOCHONDRIAL: Final = r"(?i)^mt[-:._ ]?(?P<rest>[a-z][a-z0-9]*)$"
# NCBI's symbols of the mitochondrion's proteins, for species whose authority gives no symbol with MT-
_NCBI_MITOCHONDRIAL: Final = {
    **{
        name.lower(): name for name in ("ATP6", "ATP8", "CYTB", *(f"ND{number}" for number in (1, 2, 3, 4, "4L", 5, 6)))
    },
    **{f"co{number}": f"COX{number}" for number in (1, 2, 3)},
    "cyb": "CYTB",
}
_MADE_BY_R: Final = re.compile(r"^(?=.*\.|X\d)[A-Za-z.][A-Za-z0-9._]*$")
_SHOWN: Final = 5  # names in a line about a resolution
_COPY: Final = re.compile(r"^(?P<base>.+)(?P<separator>[.-])(?P<number>[1-9]\d?)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """What each name was resolved to, in the order of the names."""

    names: tuple[str, ...]  # as they were given
    gene_ids: IntArray  # GeneID of each name; 0 where :attr:`is_resolved` is false
    # How each was found (a key of :data:`RANKS`), or ``ambiguous``, or ``unknown``. The last of the ranks are repaired
    # names, ``mitochondrial`` (MT- written otherwise), ``date`` (1-Mar), ``mangled`` (HLA.DRA, MATR3.1), and those of
    # antibodies: ``protein`` (CD11c), ``complex`` (CD3, of several genes)
    status: StrArray
    candidates: Mapping[int, tuple[int, ...]]  # GeneIDs of a complex, or that an ambiguous name could be, by position

    def __post_init__(self) -> None:
        for values in (self.gene_ids, self.status):  # it may be shared
            values.setflags(write=False)

    def __repr__(self) -> str:
        """Count what was found, and name the first that were not."""
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in Counter(self.status.tolist()).most_common())
        lost = [name for name, is_found in zip(self.names, self.is_resolved.tolist(), strict=True) if not is_found]
        rest = f"; not resolved: {listed(lost, most=_SHOWN)}" if lost else ""
        return f"Resolution of {counted(len(self.names), 'name')}: {kinds or 'none'}{rest}"

    @property
    def is_resolved(self) -> NDArray[np.bool_]:
        """Which names map to exactly one gene."""
        return self.gene_ids > 0


def normalize_name(name: str) -> str:
    """Remove the version of an Ensembl identifier, and surrounding blanks."""
    name = name.strip()
    if match := _ENSEMBL_VERSION.match(name):
        return match.group(1)
    if match := _ENSEMBL_PAR_Y.match(name):
        return f"ENSG0{match.group(1)}"
    return name


def resolve_names(
    names: Sequence[str],
    *,
    name_table: pa.Table,
    gene_ids: pa.ChunkedArray,
    use_orthologs: bool = False,
    use_antibodies: bool = False,
) -> Resolution:
    """Resolve names of mixed kinds against the names, and every current GeneID, of a store.

    ``gene_ids``: the GeneIDs; one may occur several times. ``use_antibodies``: names that are not found, and ambiguous
    ones that :mod:`genekb.genes.antibodies` has, are those of antibodies.
    """
    keys = [normalize_name(str(name)) for name in names]
    match_of = _find(keys, name_table, gene_ids, use_orthologs=use_orthologs)
    match_of |= _find_repaired(match_of, name_table, gene_ids, use_orthologs=use_orthologs)
    match_of |= _settle(match_of, name_table, gene_ids)
    if use_antibodies:
        match_of |= _find_antigens(match_of, name_table, gene_ids, use_orthologs=use_orthologs)
    every = [match_of[key] for key in keys]
    return Resolution(
        names=tuple(map(str, names)),
        gene_ids=np.array([genes[0] if len(genes) == 1 else 0 for _, genes in every], dtype=np.int64),
        status=np.array(
            ["ambiguous" if len(genes) > 1 and kind != "complex" else kind for kind, genes in every], dtype="<U16"
        ),
        candidates={position: genes for position, (_, genes) in enumerate(every) if len(genes) > 1},
    )


def _find(
    keys: Iterable[str], name_table: pa.Table, gene_ids: pa.ChunkedArray, *, use_orthologs: bool
) -> dict[str, _Match]:
    """For each distinct key the first kind that has it, and its genes."""
    distinct = set(keys)
    best: dict[str, tuple[int, str, list[int]]] = {}
    for name, kind, gene in _rows(distinct, name_table, gene_ids):
        if kind == "ortholog" and not use_orthologs:
            continue
        rank, other, genes = best.get(name, _NONE)
        if RANKS[kind] < rank:
            best[name] = (RANKS[kind], kind, [gene])
        elif RANKS[kind] == rank:
            best[name] = (rank, min(kind, other), [*genes, gene])
    found = dict.fromkeys(distinct, _UNKNOWN)
    found.update({name: (kind, tuple(sorted(set(genes)))) for name, (_, kind, genes) in best.items()})
    return found


def _rows(keys: set[str], name_table: pa.Table, gene_ids: pa.ChunkedArray) -> Iterator[tuple[str, str, int]]:
    """Yield name, kind and gene of the rows of the table, and the GeneIDs, that are among the keys."""
    if not keys:
        return
    rows = name_table.filter(pc.is_in(name_table["name"], strings(sorted(keys))))
    strange = set(rows["kind"].unique().to_pylist()) - RANKS.keys()
    if strange:
        raise SchemaMismatch(
            f"names of kind {', '.join(sorted(strange))} are unknown to this version of genekb "
            f"(it knows {', '.join(RANKS)}); update genekb"
        )
    yield from zip(*(rows[column].to_pylist() for column in ("name", "kind", "gene_id")), strict=True)
    numbers = {key: int(match["number"]) for key in keys if (match := _GENE_ID.match(key))}
    if not numbers:
        return
    current = integers(sorted(set(numbers.values())))
    current_ids = set(current.filter(pc.is_in(current, gene_ids.combine_chunks())).to_pylist())
    for key, number in numbers.items():
        if number in current_ids:
            yield key, "retired_symbol" if key.startswith(_PLACEHOLDER) else "gene_id", number


def _settle(found: Mapping[str, _Match], name_table: pa.Table, gene_ids: pa.ChunkedArray) -> dict[str, _Match]:
    """Settle names of several genes: the one renamed to it with a 1 (GARS, GARS1), else the one that no other name has.

    An annotation names a gene once, so a gene that another name of the list maps to is not meant. Where that leaves one
    gene to two names, both stay open.
    """
    several = {key: match for key, match in found.items() if len(match[1]) > 1}
    renamed = _find({f"{key}1" for key in several}, name_table, gene_ids, use_orthologs=False)
    taken = {genes[0] for _, genes in found.values() if len(genes) == 1}
    settled: dict[str, _Match] = {}
    for key, (kind, genes) in several.items():
        symbol, one = renamed[f"{key}1"]
        is_renamed = symbol == "symbol" and len(one) == 1 and one[0] in genes
        left = one if is_renamed else tuple(gene for gene in genes if gene not in taken)
        if len(left) == 1:
            settled[key] = (kind, left)
    times = Counter(genes for _, genes in settled.values())
    return {key: match for key, match in settled.items() if times[match[1]] == 1}


def _find_repaired(
    found: dict[str, _Match], name_table: pa.Table, gene_ids: pa.ChunkedArray, *, use_orthologs: bool
) -> dict[str, _Match]:
    """Resolve the unknown names by the first repair that finds any gene."""
    unknown = [key for key, (kind, _) in found.items() if kind == "unknown"]
    repairs = _propose_repairs(unknown, given=found.keys(), name_table=name_table)
    spellings = {spelling for _, proposed in repairs for tried in proposed.values() for spelling in tried}
    known = _find(spellings, name_table, gene_ids, use_orthologs=use_orthologs)
    repaired: dict[str, _Match] = {}
    for repair, proposed in repairs:
        for name, tried in proposed.items():
            hits = [known[spelling] for spelling in tried if known[spelling] is not _UNKNOWN]
            if hits and name not in repaired:
                best = min(RANKS[kind] for kind, _ in hits)
                genes = {gene for kind, each in hits if RANKS[kind] == best for gene in each}
                repaired[name] = (repair, tuple(sorted(genes)))
    return repaired


def _find_antigens(
    found: Mapping[str, _Match], name_table: pa.Table, gene_ids: pa.ChunkedArray, *, use_orthologs: bool
) -> dict[str, _Match]:
    """Genes of the antigens of antibodies; of a complex those that the store has."""
    proposed = {
        name: propose_antigens(name)
        for name, (kind, genes) in found.items()
        if kind == "unknown" or (len(genes) > 1 and is_listed(name))
    }
    spellings = {one for tried in proposed.values() for genes in tried for gene in genes for one in gene}
    known = _find(spellings, name_table, gene_ids, use_orthologs=use_orthologs)
    antigens: dict[str, _Match] = {}
    for name, tried in proposed.items():
        for parts in tried:
            hits = [next((known[one][1] for one in gene if known[one] is not _UNKNOWN), ()) for gene in parts]
            genes = tuple(sorted({gene for hit in hits for gene in hit}))
            if genes:
                is_complex = len(parts) > 1 and len(genes) > 1
                antigens[name] = ("complex" if is_complex else "protein", genes)
                break
    return antigens


def _propose_repairs(
    unknown: Collection[str], *, given: Collection[str], name_table: pa.Table
) -> list[tuple[str, dict[str, list[str]]]]:
    """Propose spellings of the unknown ones of the ``given`` names, by kind of repair, the likeliest kind first."""
    wanted = sorted(set(unknown))
    return [
        ("mitochondrial", _mitochondrial(wanted, name_table)),
        ("mangled", _made_by_r(wanted, name_table)),
        ("date", _dates(wanted)),
        ("mangled", _copies(wanted, set(given), name_table)),
    ]


def _dates(names: list[str]) -> dict[str, list[str]]:
    """Symbols that a spreadsheet shows as 1-Mar, Mar-01, 2001-03-01 or 36951."""
    found = {}
    for name in names:
        match = _DAY_AND_MONTH.match(name)
        if match and (match["first"] is None) != (match["last"] is None):
            number = int(match["first"] or match["last"])
            found[name] = _dated_symbols(_MONTHS[match["month"].lower()], {number})
    full = {name: date for name in names if (date := _full_date(name))}
    serial = _serials(names)
    for name, date in (full | serial).items():
        found[name] = _dated_symbols(date.month, _numbers(date, (full | serial).values()))
    return {name: spellings for name, spellings in found.items() if spellings}


def _dated_symbols(month: int, numbers: set[int]) -> list[str]:
    stems = DATE_STEMS.get(month, ())
    cases = (str.upper, str.capitalize, str.lower)
    return [
        f"{case(stem)}{number}" for number in sorted(numbers) if number in _DAYS for stem in stems for case in cases
    ]


def _full_date(name: str) -> datetime.date | None:
    match = _FULL_DATE.match(name)
    try:
        return datetime.date(*map(int, match.groups())) if match else None
    except ValueError:  # there is no such day
        return None


def _serials(names: list[str]) -> dict[str, datetime.date]:
    """Dates of a spreadsheet's day numbers, if all numbers fall into one year; else they may be GeneIDs."""
    numbers = [name for name in names if name.isascii() and name.isdigit()]
    if len(numbers) <= 1 or not all(map(_SERIAL.match, numbers)):
        return {}
    dates = {name: _SERIAL_ORIGIN + datetime.timedelta(days=int(name)) for name in numbers}
    years = {date.year for date in dates.values()}
    fits = len(years) == 1 and years <= set(_SERIAL_YEARS) and all(date.month in DATE_STEMS for date in dates.values())
    return dates if fits else {}


def _numbers(date: datetime.date, others: Collection[datetime.date]) -> set[int]:
    """Day, and year where SEPT2 may have been read as September 2002 and shown by its first day."""
    one_year = len({other.year for other in others}) == 1 and len({other.day for other in others}) > 1
    return {date.day} if one_year or date.day > 1 else {date.day, date.year - 2000}


def _mitochondrial(names: list[str], name_table: pa.Table) -> dict[str, list[str]]:
    """Symbols with MT- in another case, or with another character or none for the hyphen."""
    given = {name: match["rest"].lower() for name in names if (match := re.match(_MITOCHONDRIAL, name))}
    if not given:
        return {}
    official = pc.is_in(name_table["kind"], strings(["symbol", "authority_symbol"]))
    symbols = name_table["name"].filter(official)
    spellings: dict[str, list[str]] = {}
    for symbol in sorted(symbols.filter(pc.match_substring_regex(symbols, r"(?i)^mt[-:]")).unique().to_pylist()):
        spellings.setdefault(symbol[3:].lower(), []).append(symbol)
    proteins = strings(sorted(set(_NCBI_MITOCHONDRIAL.values())))
    # Symbols alone: COX2 is an alias of PTGS2 as well, which a store without mitochondrial genes would give for MT-CO2
    known = set(symbols.filter(pc.is_in(symbols, proteins)).to_pylist())
    every = {rest: [symbol] for rest, symbol in _NCBI_MITOCHONDRIAL.items() if symbol in known} | spellings
    return {name: every[rest] for name, rest in given.items() if rest in every}


def _made_by_r(names: list[str], name_table: pa.Table) -> dict[str, list[str]]:
    """Names that R's ``make.names`` turns into those given: X before a digit, a dot for what it does not allow."""
    given = strings([name for name in names if _MADE_BY_R.match(name)])
    if not len(given):
        return {}
    original = _of_like_start(name_table["name"], given.to_pylist())
    changed = pc.and_(
        pc.match_substring_regex(original, r"^\d|[^A-Za-z0-9._]"),
        pc.invert(pc.match_substring_regex(original, r"^\d+$")),
    )
    original = original.filter(changed).unique()
    made = pc.replace_substring_regex(original, "[^A-Za-z0-9._]", ".")
    made = pc.replace_substring_regex(made, r"^(\d)", r"X\1")
    fits = pc.is_in(made, given)
    found: dict[str, list[str]] = {}
    for name, spelling in zip(made.filter(fits).to_pylist(), original.filter(fits).to_pylist(), strict=True):
        found.setdefault(name, []).append(spelling)
    return found


def _of_like_start(names: pa.ChunkedArray, made: list[str]) -> pa.ChunkedArray:
    """Keep names whose first two characters R may have turned into those of a given name: a cheap filter."""
    plain = [name[1:] if re.match(r"X\d", name) else name for name in made]
    first = strings(sorted({name[:1] for name in plain if name[1:2] == "."}))
    both = strings(sorted({name[:2] for name in plain if name[1:2] != "."}))
    if any(name.startswith(".") for name in plain):
        return names
    starts = pc.utf8_slice_codeunits(names, 0, 2)
    return names.filter(pc.or_(pc.is_in(starts, both), pc.is_in(pc.utf8_slice_codeunits(names, 0, 1), first)))


def _copies(names: list[str], given: set[str], name_table: pa.Table) -> dict[str, list[str]]:
    """Names that ``make.unique`` numbered; X-2 is no copy of X where the table has X-1, a member of a family."""
    matches = {name: match for name in names if (match := _COPY.match(name)) and match["base"] in given}
    if not matches:
        return {}
    siblings = {
        name: [f"{match['base']}{match['separator']}{number}" for number in range(1, int(match["number"]) + 1)]
        for name, match in matches.items()
    }
    every = strings(sorted({sibling for family in siblings.values() for sibling in family}))
    known = set(name_table["name"].filter(pc.is_in(name_table["name"], every)).to_pylist())
    return {name: [match["base"]] for name, match in matches.items() if known.isdisjoint(siblings[name])}
