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
from genekb.genes.taxa import taxon_name

MIN_EVIDENCE: Final = 20  # names; fewer prove nothing
MIN_FRACTION: Final = 0.8  # of the informative names must agree

# Short name and NCBI taxonomy identifiers (the species, then the strain that NCBI Gene files its genes under).
_IDENTIFIERS: Final[tuple[tuple[str, str, tuple[int, ...]], ...]] = (
    (r"(?:ENSG|ENSGR|HGNC:)\d+", "human", (9606,)),
    (r"(?:ENSMUSG|MGI:)\d+", "mouse", (10090,)),
    (r"(?:ENSRNOG|RGD:)\d+", "rat", (10116,)),
    (r"ENSDARG\d+|ZDB-GENE-\d+-\d+", "zebrafish", (7955,)),
    (r"FBgn\d{7}", "fly", (7227,)),
    (r"WBGene\d{8}", "worm", (6239,)),
    (r"Y[A-P][LR]\d{3}[WC](?:-[A-Z])?", "yeast", (4932, 559292)),
    (r"AT[1-5CM]G\d{5}", "arabidopsis", (3702,)),
    (r"ENSGALG\d+", "chicken", (9031,)),
    (r"ENSSSCG\d+", "pig", (9823,)),
    (r"ENSMMUG\d+", "macaque", (9544,)),
    (r"ENSMFAG\d+", "crab-eating macaque", (9541,)),
    (r"ENSPTRG\d+", "chimpanzee", (9598,)),
    (r"ENSCJAG\d+", "marmoset", (9483,)),
    (r"ENSBTAG\d+", "cow", (9913,)),
    (r"ENSOARG\d+", "sheep", (9940,)),
    (r"ENSECAG\d+", "horse", (9796,)),
    (r"ENSCAFG\d+", "dog", (9615,)),
    (r"ENSOCUG\d+", "rabbit", (9986,)),
    (r"ENSMAUG\d+", "golden hamster", (10036,)),
    (r"ENSXETG\d+", "frog", (8364,)),
)
_IDENTIFIER: Final = re.compile("|".join(f"({pattern})" for pattern, *_ in _IDENTIFIERS))
# How symbols are written, and of the species with a short name those that write so.
_STYLES: Final[tuple[tuple[str, str, tuple[int, ...]], ...]] = (
    ("upper", "human (or another primate, pig or chicken)", (9606, 9544, 9541, 9598, 9483, 9823, 9031)),
    ("title", "mouse or rat", (10090, 10116)),
    ("lower", "zebrafish or frog", (7955, 8364)),
)
_NOT_FOUND: Final = {"unknown", "mitochondrial", "date", "mangled"}  # a repair may cross species: mt-Co1, MT-CO1
_EXAMPLE: Final = {"upper": "CD3D", "title": "Cd3d", "lower": "cd3d"}


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeciesGuess:
    """Probable species of some names."""

    name: str  # short name, or several where the names fit all of them
    tax_ids: tuple[int, ...]  # NCBI taxonomy identifiers that it may be
    share: float  # fraction of the informative names that agree, in (0, 1]
    evidence: str  # what was seen, in words


def guess_species(names: Sequence[str], *, name_table: pa.Table) -> SpeciesGuess | None:
    """Guess the species from identifiers, else from the case of those names that are a symbol of the table.

    None where fewer than :data:`MIN_EVIDENCE` names, or :data:`MIN_FRACTION` of the informative ones, agree.
    """
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
    _, name, tax_ids = _IDENTIFIERS[(index or 1) - 1]
    evidence = f"{count:,} of {total:,} identifiers have the prefix of {name}"
    return SpeciesGuess(name=name, tax_ids=tax_ids, share=count / total, evidence=evidence)


def _guess_by_case(names: Sequence[str], name_table: pa.Table) -> SpeciesGuess | None:
    given = pa.array(sorted({name.strip() for name in names}), pa.string())
    known = given.filter(pc.is_in(pc.utf8_lower(given), _lowered_symbols(name_table))).to_pylist()
    styles = Counter(style for name in known if (style := _style(name)))
    total = sum(styles.values())
    for style, species, tax_ids in _STYLES:
        count = styles[style]
        if count >= MIN_EVIDENCE and count >= MIN_FRACTION * total:
            evidence = f"{count:,} of {total:,} symbols are written as {_EXAMPLE[style]} is"
            return SpeciesGuess(name=species, tax_ids=tax_ids, share=count / total, evidence=evidence)
    return None


def _lowered_symbols(name_table: pa.Table) -> pa.Array:
    symbols = name_table["name"].filter(pc.equal(name_table["kind"], "symbol"))
    return pc.utf8_lower(symbols).unique()


def _style(name: str) -> str | None:
    """Case of a symbol; None where fewer than two letters leave it open."""
    letters = [letter for letter in name if letter.isalpha()]
    if not letters[1:]:
        return None
    if all(letter.isupper() for letter in letters):
        return "upper"
    if all(letter.islower() for letter in letters):
        return "lower"
    return "title" if letters[0].isupper() and letters[1].islower() else None


def count_other_case(resolution: Resolution, name_table: pa.Table) -> int:
    """Count unknown names that are symbols of the store when case is ignored: a sign of another species."""
    unknown = {
        name.strip().lower()
        for name, state in zip(resolution.names, resolution.status, strict=True)
        if state == "unknown"
    }
    return pc.sum(pc.is_in(pa.array(sorted(unknown), pa.string()), _lowered_symbols(name_table))).as_py() or 0


def check_species(resolution: Resolution, *, store_taxa: Collection[int], name_table: pa.Table) -> None:
    """Raise ``SpeciesMismatch`` for names of another species: its identifiers, or symbols in its case.

    Fewer than :data:`MIN_EVIDENCE` names, or uninformative ones, pass.
    """
    n_names = len(resolution.names)
    n_found = sum(kind not in _NOT_FOUND for kind in resolution.status.tolist())
    if n_found > (1 - MIN_FRACTION) * n_names:
        return
    by_identifier = _guess_by_identifier(resolution.names)
    guess = by_identifier or _guess_by_case(resolution.names, name_table)
    if guess is None or set(guess.tax_ids) & set(store_taxa):
        return
    n_other_case = count_other_case(resolution, name_table)
    if by_identifier is None and n_found > (1 - MIN_FRACTION) * (n_found + n_other_case):
        return
    store = ", ".join(f"{taxon_name(tax_id)} (tax_id {tax_id})" for tax_id in sorted(store_taxa))
    has_orthologs = pc.any(pc.equal(name_table["kind"], "ortholog")).as_py()
    hint = f"use a store of {guess.name} (--kb)" + (", or --orthologs" if has_orthologs else "")
    if by_identifier is None:
        hint += ", or write the names as the store does if they are of its species"
    raise SpeciesMismatch(
        f"the names look like {guess.name} ({guess.evidence}), the store is of {store}: {n_found:,} of {n_names:,} "
        f"({n_found / n_names:.1%}) are names in it, {n_other_case:,} ({n_other_case / n_names:.1%}) would be if case "
        f"were ignored; {hint}"
    )
