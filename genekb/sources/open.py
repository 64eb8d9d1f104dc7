"""A source of gene records, by what lies at its path."""

from collections.abc import Sequence
from pathlib import Path

from genekb.core.errors import SourceUnusable
from genekb.files.tables import table_format
from genekb.genes.taxa import find_taxa
from genekb.sources.base import SourceTables
from genekb.sources.entrez import PATTERNS, read_entrez_folder
from genekb.sources.gene_texts import add_gene_texts, find_text_files
from genekb.sources.ncbi_bulk import has_gene_info, read_ncbi_folder
from genekb.sources.ncbi_datasets import find_report, read_datasets_report
from genekb.sources.table import FORMATS, read_gene_table


def read_source(
    path: Path,
    *,
    taxa: Sequence[str],
    release: str | None = None,
    names: SourceTables | None = None,
    texts: Sequence[Path] = (),
) -> SourceTables:
    r"""Read a source of any kind.

    Parameters
    ----------
    path
        Folder of NCBI's bulk files, folder of Entrez answers, ``data_report.jsonl`` or the folder that holds one, or a
        table. A folder that holds several is read as the first of these.
    taxa
        Species to read, see :func:`genekb.genes.taxa.find_taxa`. The rows of a table without ``tax_id`` are taken to
        be of the species that is named, if it is one.
    release
        Name of the release; taken from the path if left out.
    names
        For a table of symbols: the release that gives them their GeneIDs.
    texts
        Files with further texts, see :func:`genekb.sources.gene_texts.add_gene_texts`; those that lie in a folder of
        NCBI's are taken without being named.

    Raises
    ------
    SourceUnusable
        If nothing that can be read lies there.

    Examples
    --------
    >>> import pathlib
    >>> import genekb as gk
    >>> table = pathlib.Path("genes.tsv")
    >>> _ = table.write_text("gene_id\tsymbol\tsummary\n915\tCD3D\tSubunit of the T cell receptor complex.\n")
    >>> gk.read_source(table, taxa=["human"]).genes["symbol"].to_pylist()
    ['CD3D']
    """
    own = [file for file in find_text_files(path) if file not in texts] if path.is_dir() else []
    return add_gene_texts(_read(path, taxa=taxa, release=release, names=names), [*own, *texts])


def _read(path: Path, *, taxa: Sequence[str], release: str | None, names: SourceTables | None) -> SourceTables:
    if path.is_dir():
        return _read_folder(path, taxa=taxa, release=release)
    if path.suffix == ".jsonl":
        return read_datasets_report(path, taxa=taxa, release=release)
    if table_format(path) in FORMATS:
        wanted = find_taxa(taxa, path.parent)
        taxon = str(wanted[0].tax_id) if len(wanted) == 1 else None
        own_release = release or path.name.removesuffix(".gz").rpartition(".")[0]
        return read_gene_table(path, release=own_release, taxon=taxon, taxa=taxa, names=names)
    what = "is of no known kind" if path.exists() else "does not exist"
    raise SourceUnusable(
        f"{path} {what}; give a folder of NCBI's *.gene_info.gz, a folder of `genekb fetch`, a data_report.jsonl, or a "
        f"table ({', '.join(FORMATS)})"
    )


def _read_folder(path: Path, *, taxa: Sequence[str], release: str | None) -> SourceTables:
    if has_gene_info(path):
        return read_ncbi_folder(path, taxa=taxa, release=release)
    if any(any(path.glob(pattern)) for pattern in PATTERNS):
        return read_entrez_folder(path, release=release)
    if find_report(path):
        return read_datasets_report(path, taxa=taxa, release=release)
    return read_ncbi_folder(path, taxa=taxa, release=release)
