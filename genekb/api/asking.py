"""What a store says of gene sets, encoders and other stores, and what it gives to other programs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genekb.api.opening import Names, open, several
from genekb.core.errors import StoreCorrupt
from genekb.core.python import for_python
from genekb.store.reader import Store

if TYPE_CHECKING:
    from genekb.builder.diff import StoreDiff
    from genekb.query.compare import Comparison
    from genekb.query.export import ExportKind, ExportResult
    from genekb.query.name_set import SetNaming
    from genekb.query.programs import TableProgram
    from genekb.store.verify import Verification


@for_python
def name_set(
    genes: "Sequence[str] | Mapping[str, Sequence[str]] | str | Path",
    kb: str | Store,
    *,
    vocabulary: Sequence[str] | str | Path | None = None,
    universe: Sequence[str] | None = None,
    encoder: str | None = None,
    random_state: int = 0,
) -> "SetNaming":
    """Name gene sets by the texts of their genes, as `genekb name-set` does, or say that they have no common theme.

    Parameters
    ----------
    genes
        One set, sets by name, or a file of them (a gene a line, .gmt, .tsv).
    kb
        Store.
    vocabulary
        Names to choose from, or a file of them; those of the store's terms, else phrases of the texts, if None.
    universe
        Genes that the sets were chosen from; all with a text if None.
    encoder
        Encoder of the store.
    random_state
        Of the random sets.

    Examples
    --------
    >>> import genekb as gk
    >>> found = gk.name_set(["CD3D", "CD3E", "CD3G", "CD2", "CD7"], "demo", vocabulary=["T cell", "B cell"])
    >>> found.sets[0].names[0].name
    'T cell'
    """
    from genekb.query.gene_sets import SetName, read_gene_sets, read_vocabulary
    from genekb.query.name_set import NameSetConfig, name_sets

    if isinstance(genes, str | Path):
        sets: Mapping[str, Sequence[str]] = read_gene_sets(Path(genes))
    else:
        sets = genes if isinstance(genes, Mapping) else {"genes": list(genes)}
    chosen: Sequence[SetName] | None = None
    if vocabulary is not None:
        is_file = isinstance(vocabulary, str | Path)
        chosen = read_vocabulary(Path(vocabulary)) if is_file else [SetName(name=each) for each in vocabulary]  # type: ignore[arg-type,union-attr]
    config = NameSetConfig(seed=random_state)
    return name_sets(open(kb), sets, vocabulary=chosen, universe=universe, encoder=encoder, config=config)


@for_python
def export(
    kb: str | Store,
    path: str | Path,
    *,
    encoder: str | None = None,
    format: "ExportKind | None" = None,
    program: "TableProgram | None" = None,
    genes: Sequence[str] | None = None,
    allow_missing: bool = False,
    overwrite: bool = False,
) -> "ExportResult":
    """Write vectors of a store to a file, as `genekb export` does; see :func:`genekb.query.export.export_store`.

    ``format``: by the ending of ``path`` if None; ``program``: in the form that GEARS, GenePT's users or Scouter read,
    see :func:`genekb.query.programs.export_for`; ``genes``: those to write, all with a vector if None;
    ``allow_missing``: whether ``program`` may get fewer than those.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.export("demo", "vectors.npz", genes=["CD3D", "MS4A1"]).n_genes
    2
    >>> [file.name for file in gk.export("demo", "genept.json", program="genept").files]
    ['genept.json', 'genept.npz']
    """
    from genekb.files.endings import vector_format
    from genekb.query.export import ExportResult, export_store
    from genekb.query.programs import check_form, export_for, named_vectors, output_files

    store, file = open(kb), Path(path)
    if program is not None:
        check_form(file, program, are_named=genes is not None)
        found = named_vectors(store, genes, encoder=encoder, allow_missing=allow_missing)
        export_for(found, file, program=program, overwrite=overwrite)
        return ExportResult(
            files=output_files(found, file, program),
            encoders=(found.lineage["encoder_id"],),
            n_genes=len(found.names),
            n_without_vector=len(found.missing),
        )
    kind: Any = format or vector_format(file)
    gene_ids = None if genes is None else store.gene_ids(list(genes))
    return export_store(store, file, kind=kind, encoder=encoder, gene_ids=gene_ids, overwrite=overwrite)


@for_python
def compare(
    kb: str | Store,
    *,
    encoder: Names | None = None,
    neighbors: int = 10,
    genes: int | None = 10_000,
    vocabulary: Names | None = None,
    random_state: int = 0,
) -> "Comparison":
    """Compare encoders of a store, as `genekb compare` does; see :func:`genekb.query.compare.compare_encoders`.

    ``neighbors``: nearest genes looked at; ``genes``: size of the sample, all if None.

    Examples
    --------
    >>> import genekb as gk
    >>> found = gk.compare(gk.encode("demo", "hash-8"), neighbors=5)
    >>> len(found.pairs), found.pairs[0].neighbor_overlap > found.chance_overlap
    (1, True)
    """
    from genekb.query.compare import compare_encoders

    encoders, vocabularies = several(encoder) or None, several(vocabulary) or None
    return compare_encoders(
        open(kb), encoders=encoders, n_neighbors=neighbors, n_genes=genes, seed=random_state, vocabularies=vocabularies
    )


@for_python
def diff(old: str | Store, new: str | Store, *, limit: int = 10) -> "StoreDiff":
    """Compare two stores, as `genekb diff` does: genes, texts word by word, how far vectors moved.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.diff("demo", "demo").changes.text_changed
    ()
    """
    from genekb.builder.diff import diff_stores

    return diff_stores(open(old), open(new), n_examples=limit)


@for_python
def verify(store: str | Path | Store, *, home: str | Path | None = None) -> "Verification":
    """Check every byte, key and vector of a store, as `genekb verify` does; ``StoreCorrupt`` if there is a fault.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.verify("demo").faults
    ()
    """
    from genekb.store.verify import verify_store

    found = verify_store(open(store, home=home).folder)
    if found.faults:
        raise StoreCorrupt(f"{found.store_id}: {'; '.join(map(str, found.faults[:3]))}; build or pull it again")
    return found
