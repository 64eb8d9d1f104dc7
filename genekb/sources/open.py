"""A source of gene records, by what lies at its path."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from genekb.core.errors import SourceUnusable
from genekb.files.tables import table_format
from genekb.genes.taxa import find_taxa
from genekb.sources.base import SourceTables
from genekb.sources.entrez import PATTERN, read_entrez_folder
from genekb.sources.gene_terms import add_gene_terms, find_term_files
from genekb.sources.gene_texts import MIN_RESOLVED, OtherSpecies, add_gene_texts, find_text_files
from genekb.sources.ncbi_bulk import has_gene_info, read_ncbi_folder
from genekb.sources.ncbi_datasets import find_report, read_datasets_report
from genekb.sources.table import FORMATS, read_gene_table

log = logging.getLogger(__name__)


def read_source(
    path: Path,
    *,
    taxa: Sequence[str],
    release: str | None = None,
    names: SourceTables | None = None,
    texts: Sequence[Path] = (),
    annotations: Sequence[Path] = (),
    min_resolved: float = MIN_RESOLVED,
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
        Files with further texts, see :func:`genekb.sources.gene_texts.add_gene_texts`, or folders of them; those that
        lie in the folder of the source are taken without being named.
    annotations
        Files with terms of genes, see :func:`genekb.sources.gene_terms.add_gene_terms`, likewise.
    min_resolved
        Fraction of the further texts whose gene has to be one of the source.

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
    tables = read_records(path, taxa=taxa, release=release, names=names)
    return add_knowledge(
        tables, texts=_listed(path, texts), annotations=_listed(path, annotations), min_resolved=min_resolved
    )


def add_knowledge(
    tables: SourceTables, *, texts: Sequence[Path], annotations: Sequence[Path], min_resolved: float = MIN_RESOLVED
) -> SourceTables:
    """Add further texts and terms of genes; of a folder the files that are found by name."""
    named = [path for path in texts if not path.is_dir()]
    for path in _files(texts, find_text_files):
        try:
            tables = add_gene_texts(tables, [path], min_resolved=min_resolved)
        except OtherSpecies as error:
            if path in named:
                raise
            log.info("%s; left out", error)
    return add_gene_terms(tables, _files(annotations, find_term_files))


def _listed(source: Path, paths: Sequence[Path]) -> list[Path]:
    return [*([source] if source.is_dir() else []), *paths]


def _files(paths: Sequence[Path], find: Callable[[Path], list[Path]]) -> list[Path]:
    """Files, each once, those of folders in their place."""
    return list(dict.fromkeys(file for path in paths for file in (find(path) if path.is_dir() else [path])))


def read_records(
    path: Path, *, taxa: Sequence[str], release: str | None = None, names: SourceTables | None = None
) -> SourceTables:
    """Read a source without further texts and terms, see :func:`read_source`."""
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
        f"{path} {what}; give a folder of NCBI's *.gene_info.gz or of `genekb download`, a data_report.jsonl, or a "
        f"table ({', '.join(FORMATS)})"
    )


def _read_folder(path: Path, *, taxa: Sequence[str], release: str | None) -> SourceTables:
    if has_gene_info(path):
        return read_ncbi_folder(path, taxa=taxa, release=release)
    if any(path.glob(PATTERN)):
        return read_entrez_folder(path, release=release)
    if find_report(path):
        return read_datasets_report(path, taxa=taxa, release=release)
    return read_ncbi_folder(path, taxa=taxa, release=release)
