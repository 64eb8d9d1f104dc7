"""Species that have a short name; any other is given by its NCBI taxonomy identifier."""

from dataclasses import dataclass

from genekb.errors import SourceUnusable
from genekb.types import TaxID


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


TAXA = (
    Taxon(TaxID(9606), "human", "Homo sapiens"),
    Taxon(TaxID(10090), "mouse", "Mus musculus"),
    Taxon(TaxID(10116), "rat", "Rattus norvegicus"),
    Taxon(TaxID(7955), "zebrafish", "Danio rerio"),
    Taxon(TaxID(7227), "fly", "Drosophila melanogaster"),
    Taxon(TaxID(6239), "worm", "Caenorhabditis elegans"),
    Taxon(TaxID(9031), "chicken", "Gallus gallus"),
    Taxon(TaxID(9823), "pig", "Sus scrofa"),
    Taxon(TaxID(9544), "macaque", "Macaca mulatta"),
    Taxon(TaxID(4932), "yeast", "Saccharomyces cerevisiae"),
    Taxon(TaxID(3702), "arabidopsis", "Arabidopsis thaliana"),
)


def find_taxon(query: str) -> Taxon:
    """Find a species by short name, scientific name or taxonomy identifier.

    Raises
    ------
    SourceUnusable
        If the name is unknown and not a number.
    """
    wanted = query.strip().lower().replace("_", " ")
    for taxon in TAXA:
        if wanted in {taxon.name, taxon.scientific_name.lower(), str(taxon.tax_id)}:
            return taxon
    if wanted.isdigit():
        return Taxon(TaxID(int(wanted)), f"tax{wanted}", f"taxon {wanted}")
    known = ", ".join(taxon.name for taxon in TAXA)
    raise SourceUnusable(f"taxon {query!r} is not known by name ({known}); give its NCBI taxonomy id as a number")


def taxon_name(tax_id: int) -> str:
    """Short name of a species, or ``tax<id>``."""
    return find_taxon(str(tax_id)).name
