"""Gene names that another program has changed: dates of spreadsheets, names that R made valid, numbered copies.

For unknown names this proposes the spellings that they may have had; :mod:`genekb.genes.resolve` looks them up.
"""

import datetime
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

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
_COPY: Final = re.compile(r"^(?P<base>.+)(?P<separator>[.-])(?P<number>[1-9]\d?)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Repair:
    """Spellings that a name may have had before it was changed."""

    kind: str  # ``mitochondrial``, ``date`` or ``mangled``
    spellings: tuple[str, ...]  # looked up together


def propose_repairs(
    unknown: Collection[str], *, given: Collection[str], name_table: pa.Table
) -> dict[str, tuple[Repair, ...]]:
    """Propose repairs of unknown names, the likeliest first.

    ``given``: all names of the list. ``name_table``: table in the schema :data:`genekb.schema.NAMES`.
    """
    wanted = sorted(set(unknown))
    dates = _dates(wanted)
    mitochondrial = _mitochondrial(wanted, name_table)
    made_by_r = _made_by_r(wanted, name_table)
    copies = _copies(wanted, set(given), name_table)
    repairs: dict[str, tuple[Repair, ...]] = {}
    for found, kind in ((mitochondrial, "mitochondrial"), (made_by_r, "mangled"), (dates, "date"), (copies, "mangled")):
        for name, spellings in found.items():
            repairs[name] = (*repairs.get(name, ()), Repair(kind=kind, spellings=tuple(spellings)))
    return repairs


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
    official = pc.is_in(name_table["kind"], pa.array(["symbol", "authority_symbol"]))
    symbols = name_table["name"].filter(official)
    spellings: dict[str, list[str]] = {}
    for symbol in sorted(symbols.filter(pc.match_substring_regex(symbols, r"(?i)^mt[-:]")).unique().to_pylist()):
        spellings.setdefault(symbol[3:].lower(), []).append(symbol)
    proteins = pa.array(sorted(set(_NCBI_MITOCHONDRIAL.values())))
    # Symbols alone: COX2 is an alias of PTGS2 as well, which a store without mitochondrial genes would give for MT-CO2
    known = set(symbols.filter(pc.is_in(symbols, proteins)).to_pylist())
    every = {rest: [symbol] for rest, symbol in _NCBI_MITOCHONDRIAL.items() if symbol in known} | spellings
    return {name: every[rest] for name, rest in given.items() if rest in every}


def _made_by_r(names: list[str], name_table: pa.Table) -> dict[str, list[str]]:
    """Names that R's ``make.names`` turns into those given: X before a digit, a dot for what it does not allow."""
    given = pa.array([name for name in names if _MADE_BY_R.match(name)], pa.string())
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
    first = pa.array(sorted({name[:1] for name in plain if name[1:2] == "."}), pa.string())
    both = pa.array(sorted({name[:2] for name in plain if name[1:2] != "."}), pa.string())
    if any(name.startswith(".") for name in plain):
        return names
    starts = pc.utf8_slice_codeunits(names, 0, 2)
    return names.filter(pc.or_(pc.is_in(starts, both), pc.is_in(pc.utf8_slice_codeunits(names, 0, 1), first)))


def _copies(names: list[str], given: set[str], name_table: pa.Table) -> dict[str, list[str]]:
    """Names that ``make.unique`` numbered; X-2 is no copy of X where the table has X-1, a member of a family."""
    matches = {name: match for name in names if (match := _COPY.match(name)) and match["base"] in given}
    siblings = {
        name: [f"{match['base']}{match['separator']}{number}" for number in range(1, int(match["number"]) + 1)]
        for name, match in matches.items()
    }
    every = pa.array(sorted({sibling for family in siblings.values() for sibling in family}), pa.string())
    known = set(name_table["name"].filter(pc.is_in(name_table["name"], every)).to_pylist())
    return {name: [match["base"]] for name, match in matches.items() if known.isdisjoint(siblings[name])}
