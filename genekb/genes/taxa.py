"""Species by short name, scientific name or NCBI taxonomy identifier; any species where NCBI's names are there."""

import csv
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from genekb.core.errors import SourceUnusable
from genekb.core.messages import did_you_mean
from genekb.schema import TaxID

ALL = "all"  # every species of a source
REFERENCE_TAXON = "human"  # the species whose summaries and terms stand in for those that an ortholog lacks
_LINE_BYTES = 1 << 16  # a line without an end is not read to its end
_NAME_KINDS = ("scientific name", "genbank common name", "common name", "synonym")  # the first that fits counts
_N_FIELDS = 4  # of a row of names.dmp: number, name, unique name, kind of name


@dataclass(frozen=True, slots=True)
class Taxon:
    """A species, a row of ``taxa.tsv``."""

    tax_id: TaxID  # of NCBI's taxonomy
    name: str
    scientific_name: str
    folder: str = ""  # of NCBI's GENE_INFO that holds a file of the species' own
    identifiers: str = ""  # pattern of its identifiers: Ensembl's and its database's
    case: str = ""  # of its symbols: upper, title or lower

    @property
    def file_prefix(self) -> str:
        """Start of the species' own ``gene_info`` file name."""
        return self.scientific_name.replace(" ", "_")


def _read_taxa() -> tuple[Taxon, ...]:
    with Path(__file__).with_name("taxa.tsv").open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        return tuple(Taxon(TaxID(int(row.pop("tax_id"))), **row) for row in rows)


TAXA = _read_taxa()


def find_taxon(query: str, folder: Path | None = None) -> Taxon:
    """Find a species by short name, scientific name or taxonomy identifier, also in the taxonomy of a folder."""
    wanted = query.strip().lower().replace("_", " ")
    for taxon in TAXA:
        if wanted in {taxon.name, taxon.name.replace("-", " "), taxon.scientific_name.lower(), str(taxon.tax_id)}:
            return taxon
    if wanted.isdigit():
        return Taxon(TaxID(int(wanted)), f"tax{wanted}", f"taxon {wanted}")
    found = _in_taxonomy(wanted, folder) if folder else None
    if found:
        return found
    known = [name for taxon in TAXA for name in (taxon.name, taxon.scientific_name.lower())]
    raise SourceUnusable(
        f"taxon {query!r} is not known by name; give its NCBI taxonomy id as a number, or put NCBI's names.dmp beside "
        f"the source{did_you_mean(wanted, known)}"
    )


def find_taxa(queries: Sequence[str], folder: Path | None = None) -> list[Taxon]:
    """Find several species, each once; an empty list means every species, if ``all`` is among the names."""
    if not queries:
        raise ValueError(f"no species is named; give at least one, or {ALL!r}")
    if ALL in queries:
        return []
    return list({taxon.tax_id: taxon for taxon in (find_taxon(query, folder) for query in queries)}.values())


def _in_taxonomy(wanted: str, folder: Path) -> Taxon | None:
    """Find a name in NCBI's taxonomy; scientific names come first."""
    matches: dict[str, int] = {}
    scientific: dict[int, str] = {}
    for row, line in enumerate(_taxonomy_lines(folder), start=1):
        fields = [field.strip("\t ") for field in line.rstrip("\n").split("|")]
        if len(fields) < _N_FIELDS or not fields[0].isdecimal():
            raise SourceUnusable(f"names.dmp of {folder}, line {row}: no row of NCBI's taxonomy; download it again")
        tax_id, name, _, kind = fields[:_N_FIELDS]
        if kind == "scientific name":
            scientific[int(tax_id)] = name
        if name.lower() == wanted:
            matches.setdefault(kind, int(tax_id))
    number = next((matches[kind] for kind in _NAME_KINDS if kind in matches), None)
    if number is None:
        return None
    name = scientific.get(number, wanted)
    return Taxon(TaxID(number), name.lower().replace(" ", "-"), name)


def _taxonomy_lines(folder: Path) -> Iterator[str]:
    plain, packed = folder / "names.dmp", folder / "taxdump.tar.gz"
    path = plain if plain.is_file() else packed
    try:
        if path == plain:
            with plain.open(encoding="utf-8") as stream:
                yield from stream
        elif packed.is_file():
            with tarfile.open(packed, "r:gz") as archive:
                member = archive.extractfile("names.dmp")
                while member and (line := member.readline(_LINE_BYTES)):
                    yield line.decode()
    except (tarfile.TarError, OSError, EOFError, KeyError, UnicodeDecodeError, zlib.error) as error:
        raise SourceUnusable(f"{path} is damaged ({error}); download it again") from error


def taxon_name(tax_id: int) -> str:
    """Short name of a species, or ``tax<id>``."""
    return find_taxon(str(tax_id)).name
