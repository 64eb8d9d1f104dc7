"""Species by short name, scientific name or NCBI taxonomy identifier; any species where NCBI's names are there."""

import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from genekb.core.errors import SourceUnusable
from genekb.core.messages import did_you_mean
from genekb.schema import TaxID

ALL = "all"  # every species of a source
_LINE_BYTES = 1 << 16  # a line without an end is not read to its end
N_FIELDS = 4  # of a row of names.dmp: number, name, unique name, kind of name


@dataclass(frozen=True, slots=True)
class Taxon:
    """A species: NCBI taxonomy identifier, short name, and the prefix of its files at NCBI."""

    tax_id: TaxID
    name: str
    scientific_name: str

    @property
    def file_prefix(self) -> str:
        """Start of the species' own ``gene_info`` file name."""
        return self.scientific_name.replace(" ", "_")


_KNOWN = """
9606 human Homo sapiens
10090 mouse Mus musculus
10116 rat Rattus norvegicus
7955 zebrafish Danio rerio
7227 fly Drosophila melanogaster
6239 worm Caenorhabditis elegans
4932 yeast Saccharomyces cerevisiae
559292 yeast-s288c Saccharomyces cerevisiae S288C
4896 fission-yeast Schizosaccharomyces pombe
3702 arabidopsis Arabidopsis thaliana
4577 maize Zea mays
39947 rice Oryza sativa Japonica Group
4081 tomato Solanum lycopersicum
9031 chicken Gallus gallus
9823 pig Sus scrofa
9913 cow Bos taurus
9940 sheep Ovis aries
9925 goat Capra hircus
9796 horse Equus caballus
9615 dog Canis lupus familiaris
9685 cat Felis catus
9986 rabbit Oryctolagus cuniculus
9669 ferret Mustela putorius furo
10141 guinea-pig Cavia porcellus
10036 golden-hamster Mesocricetus auratus
10029 chinese-hamster Cricetulus griseus
9598 chimpanzee Pan troglodytes
9597 bonobo Pan paniscus
9595 gorilla Gorilla gorilla gorilla
9601 orangutan Pongo abelii
9544 macaque Macaca mulatta
9541 crab-eating-macaque Macaca fascicularis
9483 marmoset Callithrix jacchus
30608 mouse-lemur Microcebus murinus
13616 opossum Monodelphis domestica
9258 platypus Ornithorhynchus anatinus
8364 western-clawed-frog Xenopus tropicalis
8355 african-clawed-frog Xenopus laevis
8090 medaka Oryzias latipes
8296 axolotl Ambystoma mexicanum
7719 sea-squirt Ciona intestinalis
7668 sea-urchin Strongylocentrotus purpuratus
7165 mosquito Anopheles gambiae
7460 honey-bee Apis mellifera
5833 malaria-parasite Plasmodium falciparum
"""
TAXA = tuple(
    Taxon(TaxID(int(number)), name, scientific)
    for number, name, scientific in (line.split(" ", 2) for line in _KNOWN.strip().splitlines())
)


def find_taxon(query: str, folder: Path | None = None) -> Taxon:
    """Find a species by short name, scientific name or taxonomy identifier.

    ``folder``: may hold NCBI's ``names.dmp`` or ``taxdump.tar.gz``, which have every species. Raises ``SourceUnusable``
    if the name is unknown.
    """
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
    for number, line in enumerate(_taxonomy_lines(folder), start=1):
        fields = [field.strip("\t ") for field in line.rstrip("\n").split("|")]
        if len(fields) < N_FIELDS or not fields[0].isdecimal():
            raise SourceUnusable(f"names.dmp of {folder}, line {number}: no row of NCBI's taxonomy; download it again")
        tax_id, name, _, kind = fields[:N_FIELDS]
        if kind == "scientific name":
            scientific[int(tax_id)] = name
        if name.lower() == wanted and kind in {"scientific name", "genbank common name", "common name", "synonym"}:
            matches.setdefault(kind, int(tax_id))
    for kind in ("scientific name", "genbank common name", "common name", "synonym"):
        if kind in matches:
            name = scientific.get(matches[kind], wanted)
            return Taxon(TaxID(matches[kind]), name.lower().replace(" ", "-"), name)
    return None


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
