"""Species of a list of gene names: by the prefix of identifiers, else by the case of symbols."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from genekb.core.errors import SpeciesMismatch
from genekb.genes.resolve import Resolution
from genekb.genes.taxa import TAXA, taxon_name
from genekb.schema import strings

MIN_EVIDENCE: Final = 20  # names; fewer prove nothing
MIN_FRACTION: Final = 0.8  # of the informative names must agree

_OF_PATTERN: Final = {
    pattern: [taxon for taxon in TAXA if taxon.identifiers == pattern]
    for pattern in dict.fromkeys(taxon.identifiers for taxon in TAXA if taxon.identifiers)
}
_IDENTIFIER: Final = re.compile("|".join(f"({pattern})" for pattern in _OF_PATTERN))
_CASES: Final = {  # how symbols are written: the species, and an example
    "upper": ("human (or another primate, pig or chicken)", "CD3D"),
    "title": ("mouse or rat", "Cd3d"),
    "lower": ("zebrafish or frog", "cd3d"),
}
# a repair may cross species: mt-Co1, MT-CO1
_NOT_FOUND: Final = {"unknown", "mitochondrial", "date", "mangled", "protein", "complex"}


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeciesGuess:
    """Probable species of some names."""

    name: str  # short name, or several where the names fit all of them
    tax_ids: tuple[int, ...]  # NCBI taxonomy identifiers that it may be
    evidence: str  # what was seen, in words
    is_by_case: bool  # whether that is the case of symbols alone


def guess_species(names: Sequence[str], *, name_table: pa.Table) -> SpeciesGuess | None:
    """Guess the species from identifiers, else from the case of those names that are a symbol; None if few agree."""
    return _guess_by_identifier(names) or _guess_by_case(names, name_table)


def _guess_by_identifier(names: Sequence[str]) -> SpeciesGuess | None:
    matches = (_IDENTIFIER.match(name.strip()) for name in set(names))
    groups = Counter(match.lastindex for match in matches if match)
    total = sum(groups.values())
    if total < max(MIN_EVIDENCE, len(set(names)) / 2):
        return None
    index, count = max(groups.items(), key=lambda item: (item[1], item[0]))
    if count < MIN_FRACTION * total:
        return None
    taxa = list(_OF_PATTERN.values())[(index or 1) - 1]
    evidence = f"{count:,} of {total:,} identifiers have the prefix of {taxa[0].name}"
    tax_ids = tuple(taxon.tax_id for taxon in taxa)
    return SpeciesGuess(name=taxa[0].name, tax_ids=tax_ids, evidence=evidence, is_by_case=False)


def _guess_by_case(names: Sequence[str], name_table: pa.Table) -> SpeciesGuess | None:
    given = strings(sorted({name.strip() for name in names}))
    known = given.filter(pc.is_in(pc.utf8_lower(given), _lowered_symbols(name_table))).to_pylist()
    cases = Counter(case for name in known if (case := _case(name)))
    total = sum(cases.values())
    for case, (species, example) in _CASES.items():
        count = cases[case]
        if count >= MIN_EVIDENCE and count >= MIN_FRACTION * total:
            evidence = f"{count:,} of {total:,} symbols are written as {example} is"
            tax_ids = tuple(taxon.tax_id for taxon in TAXA if taxon.case == case)
            return SpeciesGuess(name=species, tax_ids=tax_ids, evidence=evidence, is_by_case=True)
    return None


def _lowered_symbols(name_table: pa.Table) -> pa.Array:
    symbols = name_table["name"].filter(pc.equal(name_table["kind"], "symbol"))
    return pc.utf8_lower(symbols).unique()


def _case(name: str) -> str | None:
    """Case of a symbol; None where fewer than two letters leave it open."""
    letters = "".join(filter(str.isalpha, name))
    if len(letters) <= 1:
        return None
    if letters.isupper() or letters.islower():
        return "upper" if letters.isupper() else "lower"
    return "title" if letters[0].isupper() and letters[1].islower() else None


def count_other_case(resolution: Resolution, name_table: pa.Table) -> int:
    """Count unknown names that are symbols of the store when case is ignored: a sign of another species."""
    unknown = {
        name.strip().lower()
        for name, state in zip(resolution.names, resolution.status, strict=True)
        if state == "unknown"
    }
    return pc.sum(pc.is_in(strings(sorted(unknown)), _lowered_symbols(name_table))).as_py() or 0


def check_species(resolution: Resolution, *, store_taxa: Collection[int], name_table: pa.Table) -> None:
    """Refuse names of another species: its identifiers, or symbols in its case; few or uninformative ones pass."""
    n_names = len(resolution.names)
    n_found = sum(kind not in _NOT_FOUND for kind in resolution.status.tolist())
    if n_found > (1 - MIN_FRACTION) * n_names:
        return
    guess = guess_species(resolution.names, name_table=name_table)
    if guess is None or set(guess.tax_ids) & set(store_taxa):
        return
    n_other_case = count_other_case(resolution, name_table)
    if guess.is_by_case and n_found > (1 - MIN_FRACTION) * (n_found + n_other_case):
        return
    store = ", ".join(f"{taxon_name(tax_id)} (tax_id {tax_id})" for tax_id in sorted(store_taxa))
    has_orthologs = pc.any(pc.equal(name_table["kind"], "ortholog")).as_py()
    hint = f"use a store of {guess.name} (`kb`)" + (", or orthologs=True" if has_orthologs else "")
    if guess.is_by_case:
        hint += ", or write the names as the store does if they are of its species"
    raise SpeciesMismatch(
        f"the names look like {guess.name} ({guess.evidence}), the store is of {store}: {n_found:,} of {n_names:,} "
        f"({n_found / n_names:.1%}) are names in it, {n_other_case:,} ({n_other_case / n_names:.1%}) would be if case "
        f"were ignored; {hint}"
    )
